"""The messages of OneFlow, of graphs and of their export in docs/troubleshooting.md."""

import gc
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

import numpy as np
import oneflow as flow
import pytest
from oneflow import nn
from provoking import provokes, raised, run

from oneflow_backend.graph_folder import GraphFolderError, read_graph_folder
from oneflow_backend.saved_graph import SavedGraph
from serving_kit import models
from serving_kit.errors import (
    ExportError,
)
from serving_kit.export.version import InferenceGraph, export_version
from serving_kit.stylenet.cpu_network import load_stylenet_cpu
from serving_kit.stylenet.network import ConvNorm, StyleNet, load_stylenet


@provokes("libcudnn is missing")
def test_libcudnn_is_missing():
    # Away from the packages beside it, but on the same disk, OneFlow finds no cuDNN.
    packages = Path(flow.__file__).parent.parent
    with tempfile.TemporaryDirectory(prefix="oneflow-alone-", dir=packages) as folder:
        for package in ("oneflow", "oneflow.libs"):
            shutil.copytree(packages / package, Path(folder, package), copy_function=os.link)
        return run(sys.executable, "-c", "import oneflow", env=os.environ | {"PYTHONPATH": folder})


@pytest.fixture(scope="module")
def last_words(small_version):
    """What a process prints that imports OneFlow, loads a graph and ends without closing it."""
    code = (
        "import os, sys, numpy as np\n"
        "from oneflow_backend.saved_graph import SavedGraph\n"
        # On one core a graph is run as a graph, not operator by operator.
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "graph = SavedGraph(sys.argv[1])\n"
        "graph(np.zeros((1, 3, 64, 64), np.float32))\n"
    )
    environment = {name: v for name, v in os.environ.items() if name != "GLOG_minloglevel"}
    for _ in range(3):  # now and then it hangs instead
        try:
            return run(sys.executable, "-c", code, small_version / "model", env=environment)
        except subprocess.TimeoutExpired as hung:
            print(hung.output)
    raise AssertionError("it hung three times")


@provokes("Messages about InfiniBand and CUDA")
def test_messages_about_infiniband_and_cuda(last_words):
    return last_words


@provokes("OneFlow aborts after everything has succeeded")
def test_oneflow_aborts_after_everything_has_succeeded(last_words):
    return last_words


@provokes("IProgress not found")
def test_iprogress_not_found():
    # tqdm takes a process that has loaded this module for a kernel.
    code = "import sys, ipykernel.zmqshell; sys.modules['ipywidgets'] = None; import tqdm.auto"
    return run(sys.executable, "-c", code)


@provokes("Weights do not fit the module")
def test_weights_do_not_fit_the_module():
    state = load_stylenet().state_dict()
    del state["paint.norm.beta"]
    return raised(RuntimeError, StyleNet().load_state_dict, state)


@provokes("backward() finds nothing to differentiate")
def test_backward_finds_nothing_to_differentiate():
    try:
        flow.ones(3).sum().backward()
    except Exception as error:
        return "".join(traceback.format_exception_only(type(error), error))


class Graph(nn.Graph):
    def __init__(self, module):
        super().__init__()
        self.module = module

    def build(self, x):
        return self.module(x)


class Changed(nn.Module):
    """A network that is no heavier than it must be to take time, with its output changed.

    OneFlow 0.9.0 may crash on a graph that ends within microseconds.
    """

    def __init__(self, change):
        super().__init__()
        self.slow, self.change, self.calls = nn.Parameter(flow.rand(768, 768)), change, 0

    def forward(self, x):
        self.calls += 1
        return self.change(x + (self.slow @ self.slow)[:64, :64], self.calls)


@provokes("A graph accepts only one shape")
def test_a_graph_accepts_only_one_shape(image, capfd):
    graph = Graph(Changed(lambda y, _: y))
    graph(flow.tensor(image))
    try:
        graph(flow.tensor(np.concatenate([image, image])))
    except Exception as error:
        return str(error) + "".join(capfd.readouterr())
    finally:
        del graph
        gc.collect()


@provokes("A graph cannot read values")
def test_a_graph_cannot_read_values(image, capfd):
    module = Changed(lambda y, _: y * 2 if y.mean() > 3 else y)
    error = raised(AssertionError, Graph(module), flow.tensor(image))
    return [error, *capfd.readouterr()]


@provokes("A graph that never ran cannot be saved")
def test_a_graph_that_never_ran_cannot_be_saved(tmp_path):
    return raised(RuntimeError, flow.save, Graph(Changed(lambda y, _: y)), str(tmp_path / "model"))


class Training(nn.Graph):
    def __init__(self, module, learns=True):
        super().__init__()
        self.module, self.learns = module, learns
        self.add_optimizer(flow.optim.SGD(module.parameters(), lr=0.1))

    def build(self, x):
        loss = self.module(x).mean()
        if self.learns:
            loss.backward()
        return loss


@provokes("A training graph that calls no backward")
def test_a_training_graph_that_calls_no_backward(image):
    return raised(Exception, Training(ConvNorm(3, 32, 9), learns=False), flow.tensor(image))


@provokes("A second training graph of one module")
def test_a_second_training_graph_of_one_module(image):
    module, x = ConvNorm(3, 32, 9), flow.tensor(image)
    first = Training(module)
    first(x).item()
    told = raised(Exception, Training(module), x)
    for parameter in module.parameters():
        parameter.grad = None
    second = Training(module)
    assert second(x).item() != 0, "the fix of the page does not help"
    del first, second
    gc.collect()
    return told


@provokes("flow.load fails on a graph")
def test_flow_load_fails_on_a_graph(saved):
    with pytest.raises(AssertionError) as caught:
        flow.load(str(saved))
    return traceback.format_exception_only(caught.type, caught.value)


def refuse_export(module, image, folder):
    return raised(ExportError, export_version, module, [image], folder / "2")


def out_of_step(y, calls):
    if calls > 1:
        raise ValueError("oops")
    return y


@provokes("A module cannot be exported")
def test_a_module_cannot_be_exported(image, tmp_path):
    return [
        refuse_export(Changed(out_of_step), image, tmp_path),
        refuse_export(Changed(lambda y, _: {"picture": y, "number": 3}), image, tmp_path),
    ]


@provokes("The exported outputs differ")
def test_the_exported_outputs_differ(image, tmp_path):
    shape = (1, 3, 64, 64)
    return [
        refuse_export(Changed(lambda y, _: y + flow.rand(*shape)), image, tmp_path),
        refuse_export(Changed(lambda y, _: y + flow.log(flow.randn(*shape))), image, tmp_path),
        refuse_export(Changed(lambda y, calls: y if calls == 1 else (y, y)), image, tmp_path),
    ]


@provokes("A tensor was created inside build")
def test_a_tensor_was_created_inside_build(image, tmp_path):
    graph = InferenceGraph(Changed(lambda y, _: y - flow.tensor(np.float32([9]))))
    graph._compile(flow.tensor(image))
    flow.save(graph, str(tmp_path / "model"))
    return raised(GraphFolderError, read_graph_folder, tmp_path / "model")


@provokes("StyleNet does not accept the size")
def test_stylenet_does_not_accept_the_size():
    return raised(ExportError, load_stylenet_cpu, size=(30, 30))


@provokes("make models fails")
def test_make_models_fails(tmp_path):
    return raised(
        ExportError, models._export_in_child, "fast_neural_style", "no_such", "cpu", tmp_path / "1"
    )


@provokes("Arrays do not fit a saved graph")
def test_arrays_do_not_fit_a_saved_graph(image, saved):
    with SavedGraph(saved) as graph:
        return [raised(ValueError, graph, image, image), raised(ValueError, graph, image[0])]
