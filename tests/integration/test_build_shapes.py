"""Whatever ``build`` takes and returns, and however it is named, is served as Eager gives it."""

import gc

import numpy as np
import oneflow as flow
import pytest
from build_shapes import BUILDS, ROWS, arguments_of, walk
from oneflow import nn

from oneflow_backend.graph_folder import GraphFolderError, read_graph_folder
from oneflow_backend.saved_graph import SavedGraph
from serving_kit.export import export_version, save_graph


@pytest.mark.parametrize("name", BUILDS)
def test_a_graph_runs_as_in_eager(tmp_path, name):
    """One by one: OneFlow's engine for graphs may crash on graphs as short as these."""
    graph = type("Gr", (nn.Graph,), {"build": BUILDS[name]})()
    positional, keywords = arguments_of(name, 0)
    graph._compile(*positional, **keywords)
    flow.save(graph, str(tmp_path / "model"))
    del graph
    gc.collect()
    with SavedGraph(tmp_path / "model") as saved:
        assert saved.one_by_one
        for row in range(ROWS):
            positional, keywords = arguments_of(name, row)
            expected = walk(BUILDS[name](None, *positional, **keywords))
            found = saved(*(tensor.numpy() for tensor in walk((positional, keywords))))
            assert [array.tolist() for array in found] == [each.tolist() for each in expected]


class Strange(nn.Module):
    """Buffers with names that MLIR escapes, BatchNorm as in training, a tensor made in forward.

    Because of BatchNorm it goes to OneFlow's engine for graphs.
    """

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(2)
        for i, name in enumerate(NAMES):
            self.register_buffer(name, flow.arange(2 * 4, dtype=flow.float32).reshape(2, 4) + i)

    def forward(self, x, other):
        offset = sum(getattr(self, name) * 10**i for i, name in enumerate(NAMES))
        y = self.norm(x) + offset + flow.tensor(OFFSET)
        return {"y_9": y, "x_1": x, "层_1": [other, y], "ones": flow.ones(1, 3)}


NAMES = ("层", 'a"b', "a\\b", "a b")
OFFSET = np.float32([[0.5, 0.25, 0.75, 0.125]])


class StrangeGraph(nn.Graph):
    """Takes its tensors from a dictionary."""

    def __init__(self):
        super().__init__()
        self.m = Strange()

    def build(self, tensors):
        return self.m(tensors["image_2"], tensors["image_1"])


@pytest.fixture(scope="module")
def strange():
    """A traced graph, its inputs, and what it gives for one row."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(3, 2, 2, 4)).astype(np.float32)
    other = rng.normal(size=(3, 5)).astype(np.float32)
    graph = StrangeGraph()
    graph._compile({"image_2": flow.tensor(x[:1]), "image_1": flow.tensor(other[:1])})
    yield graph, x, other


def right(x, other):
    """What ``Strange`` gives for one row: BatchNorm takes the row's own statistics."""
    mean, var = x.mean((0, 2, 3), keepdims=True), x.var((0, 2, 3), keepdims=True)
    names = range(len(NAMES))
    offset = sum((np.arange(8, dtype=np.float32).reshape(2, 4) + i) * 10**i for i in names)
    y = (x - mean) / np.sqrt(var + 1e-5) + offset + OFFSET
    return [y, x, other, y, np.ones((1, 3), np.float32)]


def test_a_graph_with_all_that_is_served_in_order_with_its_warning(strange, empty_model):
    graph, x, other = strange
    (empty_model.folder / "1").mkdir()
    told = save_graph(graph, empty_model.folder / "1" / "model")
    assert [line.partition(":")[0] for line in told] == [f"[1, 4] in forward() of m, {__file__}"]
    empty_model.write_config('backend: "oneflow"\nmax_batch_size: 4\n')
    empty_model.load()
    found = empty_model.send(x, other)
    assert len(found) == 5
    for row in range(3):
        for i, array in enumerate(right(x[row : row + 1], other[row : row + 1])):
            assert np.allclose(found[f"OUTPUT_{i}"][row : row + 1], array, atol=1e-3)
    log = empty_model.log()
    assert "the graph was traced in training mode (m.norm (BatchNorm)), so its outputs" in log
    assert (
        "in build(), INPUT_0 is 'image_2', INPUT_1 is 'image_1', OUTPUT_0 is 'y_9', "
        "OUTPUT_1 is 'x_1', OUTPUT_4 is 'ones'"
    ) in log


def test_flow_save_alone_leaves_a_tensor_out_which_is_told(strange, tmp_path):
    flow.save(strange[0], str(tmp_path / "model"))
    with pytest.raises(GraphFolderError) as caught:
        read_graph_folder(tmp_path / "model")
    assert "forward() of the module m uses a tensor, float32 [1, 4], that is neither " in str(
        caught.value
    )


class Unregistered(nn.Module):
    """A network of flowvision's genet has its layers in a list, and levit's caches a tensor."""

    def __init__(self):
        super().__init__()
        self.layers = [nn.Linear(64, 64).eval(), nn.BatchNorm1d(64).eval()]
        self.slow = nn.Parameter(flow.rand(512, 512))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        x = x + (self.slow @ self.slow)[:1, :64]
        return {"out_1": x * flow.arange(64, dtype=flow.float32), "out_0": [x]}


def test_an_export_keeps_what_flow_save_leaves_out(tmp_path):
    example = np.random.default_rng(6).normal(size=(1, 64)).astype(np.float32)
    module = Unregistered()
    record = export_version(module, [example], tmp_path / "1")
    assert len(record.made_in_build) == 6
    assert all(f"in forward() of module, {__file__}:" in line for line in record.made_in_build)
    with flow.no_grad():
        expected = module(flow.tensor(example))
    with SavedGraph(tmp_path / "1" / "model") as graph:
        scaled, x = graph(example)
    assert np.allclose(scaled, expected["out_1"].numpy(), rtol=1e-4)
    assert np.allclose(x, expected["out_0"][0].numpy(), rtol=1e-4)
