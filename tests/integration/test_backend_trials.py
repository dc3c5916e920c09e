"""What the worker tries a graph on at load, and that OneFlow dies of nothing twice.

The worker and OneFlow are real; Triton is left out.
"""

import numpy as np
import oneflow as flow
import pytest
from oneflow import nn
from oneflow.nn import functional

from oneflow_backend.graph_folder import read_graph_folder
from oneflow_backend.id_ranges import id_ranges
from oneflow_backend.isolation import IsolatedGraph
from oneflow_backend.job import read_job

NOW_AND_THEN = "which occasionally happens with short graphs"
LEFT_OUT = "OneFlow's process died during a trial run of the graph on "


class Table(nn.Module):
    """Looks words up in a table of five; they may be numbered from another number than 0."""

    def __init__(self, first=0):
        super().__init__()
        self.table, self.first = nn.Embedding(5, 3), first


class IdsFromOne(Table):
    def forward(self, ids):
        return self.table(ids.reshape(1, 2, 1) - 1).reshape(1, 2, 3)


class IdsAndPlaces(Table):
    """The number of a place is added to every id; the structure does not say what that may be."""

    def forward(self, ids, places):
        return functional.one_hot(ids + places, 20).to(flow.float32)


class Inverse(nn.Module):
    def forward(self, x):
        return flow.inverse(x)


class Padded(Table):
    """OneFlow has an operator of its own for that."""

    def forward(self, ids):
        return functional.embedding(flow.cat([ids, ids], 1), self.table.weight, padding_idx=0)


class Picked(nn.Module):
    """Two tables: an id has to be in both."""

    def __init__(self):
        super().__init__()
        self.few, self.many = nn.Embedding(4, 3), nn.Embedding(9, 3)

    def forward(self, x, ids):
        picked = flow.gather(x, 1, ids)
        return self.few(ids) + self.many(ids + 1), picked


def told(log):
    """Return what the log says of trials; that OneFlow's engine crashed by chance costs nothing."""
    return [line for line in log if NOW_AND_THEN not in line]


@pytest.fixture
def load(tmp_path, save_graph):
    graphs, log = [], []

    def load(module, *examples):
        version = tmp_path / str(len(graphs))
        save_graph(module, list(examples), version)
        folder = read_graph_folder(version / "model")
        graphs.append(
            IsolatedGraph(
                folder, "cpu", rows=2, batch_sizes=[2], run_seconds=60, retries=0, log=log.append
            )
        )
        return graphs[-1], log

    yield load
    for graph in graphs:
        graph.close()


def run(graph, *inputs):
    for target, array in zip(graph.tensors.inputs, inputs, strict=True):
        target[:] = array
    graph.run(2)
    return graph.tensors.outputs[0]


def ranges_of(module, examples, version, save_graph):
    save_graph(module, examples, version)
    folder = read_graph_folder(version / "model")
    return id_ranges(read_job(folder), folder)


def test_the_ids_that_exist_are_read_from_the_structure(tmp_path, save_graph):
    ids = np.array([[1, 2]])
    found = ranges_of(IdsFromOne(), [ids], tmp_path / "1", save_graph)
    assert found == [(1, 6)]
    found = ranges_of(IdsAndPlaces(), [ids, ids], tmp_path / "2", save_graph)
    assert found == [None, None]
    assert ranges_of(Padded(), [ids], tmp_path / "4", save_graph) == [(0, 5)]
    x = np.zeros((1, 4), np.float32)
    found = ranges_of(Picked(), [x, ids], tmp_path / "3", save_graph)
    assert found == [None, (0, 4)]


def test_ids_that_exist_kill_nothing_and_verify_a_plan(load):
    module = IdsFromOne()
    graph, log = load(module, np.array([[1, 2]]))
    assert told(log) == []
    ids = np.array([[1, 5], [3, 2]])
    table = module.table.weight.numpy()
    assert np.array_equal(run(graph, ids), table[ids - 1])


def test_a_trial_that_kills_is_left_out_and_not_held_against_the_model(load):
    graph, log = load(Inverse(), np.eye(2, dtype=np.float32)[None])
    assert told(log) and all(line.startswith(LEFT_OUT) for line in told(log))
    assert (
        "a matrix cannot be inverted, because it is singular (operator inverse); send"
        in told(log)[0]
    )
    x = np.float32([[[2, 0], [0, 4]], [[0, 1], [1, 0]]])
    assert np.allclose(run(graph, x), np.linalg.inv(x))


@pytest.mark.long
def test_where_the_range_is_unknown_narrower_integers_are_tried(load):
    ids = np.array([[1, 2]])
    graph, log = load(IdsAndPlaces(), ids, ids)
    assert [line.partition(", which is skipped")[0] for line in told(log)] == [
        f"{LEFT_OUT}integers of any size",
        f"{LEFT_OUT}integers below 256",
    ]
    found = run(graph, [[1, 2], [3, 4]], [[0, 0], [9, 1]])
    assert np.array_equal(found.argmax(axis=2), [[1, 2], [12, 5]])
