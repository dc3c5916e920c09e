"""What is exported gives the module's answers; what does not is not exported."""

import json
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import oneflow as flow
import pytest
from oneflow import nn

from oneflow_backend.graph_folder import read_graph_folder
from oneflow_backend.saved_graph import SavedGraph
from serving_kit import models
from serving_kit.errors import ExportError
from serving_kit.export.version import export_version
from serving_kit.stylenet.network import load_stylenet


@pytest.fixture
def image():
    return np.random.default_rng(1).uniform(0, 255, (1, 3, 64, 64)).astype(np.float32)


class Wrapped(nn.Module):
    """StyleNet with something done to its answer; long enough for OneFlow's graphs."""

    def __init__(self, change):
        super().__init__()
        self.stylenet = load_stylenet()
        self.change = change

    def forward(self, x):
        return self.change(self.stylenet(x))


def test_the_saved_graph_gives_the_modules_answers(small_version, image):
    with flow.no_grad():
        expected = load_stylenet()(flow.tensor(image)).numpy()
    with SavedGraph(small_version / "model") as graph:
        (found,) = graph(image)
        (other,) = graph(image[..., ::-1])  # must not touch the answer before it
        (again,) = graph(image)
    assert np.abs(found - expected).max() < 1e-3
    assert np.array_equal(found, again) and not np.array_equal(found, other)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_bound_run_reads_and_writes_where_its_arrays_lie(
    small_version, image, device, monkeypatch
):
    other = np.ascontiguousarray(image[..., ::-1])
    given = image.copy()
    with SavedGraph(small_version / "model") as graph:
        expected = {name: graph(array)[0] for name, array in (("one", image), ("other", other))}
        answer = np.zeros_like(expected["one"])
        with monkeypatch.context() as patch:  # binding asks; the run itself stays on the CPU
            patch.setattr(graph, "device", SimpleNamespace(type=device))
            run = graph.bind([given], [answer])
        run()
        assert np.array_equal(answer, expected["one"])
        given[:] = other
        assert np.array_equal(answer, expected["one"])
        run()
        assert np.array_equal(answer, expected["other"])
        assert np.array_equal(graph(image)[0], expected["one"])
        assert np.array_equal(answer, expected["other"])
        with pytest.raises(ValueError, match="but the graph takes float32"):
            graph.bind([given[..., 1:]], [answer])


def test_the_record_tells_what_was_verified(small_version):
    record = json.loads((small_version / "export.json").read_text())
    assert record["source"] == "a test"
    assert record["oneflow"] == flow.__version__
    assert record["inputs"] == record["outputs"] == ["float32 [1, 3, 64, 64]"]
    assert record["reloaded_against_graph"] <= 1e-3


def test_wrong_inputs_are_told(small_version, image):
    with SavedGraph(small_version / "model") as graph:
        with pytest.raises(ValueError, match="the graph has 1 inputs, but 2 were given"):
            graph(image, image)
        with pytest.raises(
            ValueError, match=r"input 0 is float64 \[1, 3, 64, 64\], but the graph takes float32"
        ):
            graph(image.astype(np.float64))
        with pytest.raises(ValueError, match=r"input 0 is float32 \[3, 64, 64\], but the graph"):
            graph(image[0])
        assert len(graph(image)) == 1  # and it still works


def test_several_outputs_come_in_the_order_of_build(tmp_path, image):
    module = Wrapped(lambda y: (y, y * 2, [y.mean()][0], y[:, :1])).train()
    export_version(module, [image], tmp_path / "1")
    assert module.training and module.stylenet.training  # its mode is kept
    shapes = [spec.shape for spec in read_graph_folder(tmp_path / "1" / "model").outputs]
    assert shapes == [(1, 3, 64, 64), (1, 3, 64, 64), (), (1, 1, 64, 64)]
    with SavedGraph(tmp_path / "1" / "model") as graph:
        y, double, mean, red = graph(image)
    assert np.array_equal(double, y * 2) and np.array_equal(red, y[:, :1])
    assert abs(mean - y.mean()) < 1e-2


def test_random_answers_are_refused_and_nothing_is_left(tmp_path, image):
    module = Wrapped(lambda y: y + flow.rand(1, 3, 64, 64))
    with pytest.raises(ExportError, match=r"nothing was exported\. Does forward\(\) use"):
        export_version(module, [image], tmp_path / "1")
    assert not list(tmp_path.iterdir())


def test_a_failed_export_leaves_the_version_that_was_there(tmp_path, image, small_version):
    version = tmp_path / "1"
    version.mkdir()
    (version / "precious").write_text("kept")
    with pytest.raises(
        ExportError, match="Wrapped cannot be exported as a saved graph: ValueError: oops"
    ):
        export_version(Wrapped(_raise), [image], version)
    assert [path.name for path in version.iterdir()] == ["precious"]
    assert list(tmp_path.iterdir()) == [version]


def _raise(_):
    raise ValueError("oops")


def test_what_is_no_tensor_is_refused(tmp_path, image):
    with pytest.raises(ExportError, match="must return tensors, alone or in tuples, lists or"):
        export_version(Wrapped(lambda y: (y, 3)), [image], tmp_path / "1")


def test_models_are_exported_once_and_again_when_damaged_or_out_of_date(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "BUILD", tmp_path)
    monkeypatch.setattr(models, "SIZE", 64)
    monkeypatch.setattr(models, "_export_in_child", models.export_model)  # faster, if not as safe
    model = tmp_path / "styles" / "red_ember" / "fast_neural_style"
    assert models.repository_for("red_ember") == model.parent
    assert {path.name for path in model.iterdir()} == {"1", "config.pbtxt", "configs"}
    assert (model / "configs" / "cpu.pbtxt").exists()
    first = (model / "1").stat().st_ino
    models.repository_for("red_ember")
    assert (model / "1").stat().st_ino == first
    (model / "1" / "model" / "model.mlir").write_text("module {")
    models.repository_for("red_ember")
    assert (model / "1").stat().st_ino != first
    read_graph_folder(model / "1" / "model")
    models.repository_for("red_ember", device="gpu")
    record = json.loads((model / "1" / "export.json").read_text())
    assert "style red_ember, network.py" in record["source"]


@pytest.mark.long
def test_an_export_that_is_killed_leaves_no_half_model(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "BUILD", tmp_path)
    model = tmp_path / "styles" / "red_ember" / "fast_neural_style"
    child = subprocess.Popen(
        [sys.executable, "-m", "serving_kit.models", models.ONE_STYLE, "20", "cpu", model / "1"],
        stderr=subprocess.DEVNULL,
    )
    while not list(model.glob(".1.partial-*/model/*/out")):
        assert child.poll() is None
    os.kill(child.pid, signal.SIGKILL)  # flow.save has begun, the comparison has not ended
    child.wait()
    assert not (model / "1").exists()
    models.repository_for("red_ember")
    assert {path.name for path in model.iterdir()} == {"1", "config.pbtxt", "configs"}
