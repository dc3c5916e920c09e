"""Graphs of many kinds, served by the real Triton, give the answers of their eager modules.

Those that take a batch have a plan for two rows beside the one for one row, so that three rows
need both.
"""

import itertools
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as httpclient
from tritonclient.utils import np_to_triton_dtype

from serving_kit.server import TritonServer

EXPORT = Path(__file__).with_name("export_graphs.py")
EXPORT_SECONDS = 300
INSTALL_SECONDS = 300

ZOO = [
    "resnet18",
    "mobilenet_v2",
    "squeezenet1_1",
    "shufflenet_v2_x1_0",
    "vit_tiny_patch16_224",
    "efficientnet_b0",
    "densenet121",
    "vgg11",
    "swin_tiny_patch4_window7_224",
]
PLAN_FOR_TWO = 'parameters { key: "batch_sizes" value: { string_value: "2" } }\n'
#: What the backend logs when it does without a plan that it was to have.
NO_PLAN = "batches run row by row"
#: Largest difference allowed, relative to the largest value. Integers and bools must be equal.
TOLERANCE = {"float16": 1e-2, "float32": 1e-5, "float64": 1e-12}
#: Rows that are closer than this could be mixed up unnoticed.
ROWS_DIFFER = 1e-3
ODD = ["two_in_two_out", "embedding", "half", "bytes", "positive", "numbers"]


class Served:
    """One graph in a repository of its own or shared: its examples, and how to ask for it."""

    def __init__(self, repository, name):
        self.name = name
        self.folder = repository / name
        with np.load(self.folder / "examples.npz") as examples:
            self.batched = bool(examples["batched"])
            arrays = {key: examples[key] for key in examples.files if key != "batched"}
        self.inputs = {key: array for key, array in arrays.items() if key.startswith("INPUT")}
        self.outputs = {key: array for key, array in arrays.items() if key.startswith("OUTPUT")}

    def write_config(self):
        (self.folder / "config.pbtxt").write_text(
            f'name: "{self.name}"\nbackend: "oneflow"\n'
            f"max_batch_size: {4 if self.batched else 0}\n"
            f"{self._tensors('input', self.inputs)}{self._tensors('output', self.outputs)}"
            "instance_group [ { count: 1 kind: KIND_CPU } ]\n"
            + (PLAN_FOR_TWO if self.batched else "")
        )

    def _tensors(self, kind, arrays):
        text = ""
        for name, array in arrays.items():
            dims = list(array.shape[1:] if self.batched else array.shape)
            data_type = f"TYPE_{np_to_triton_dtype(array.dtype)}"
            text += f'{kind} [ {{ name: "{name}" data_type: {data_type} dims: {dims} }} ]\n'
        return text

    def ask(self, url, rows=slice(None)):
        """Send the examples, or some of their rows; return the answers by name."""
        requests = []
        for name, array in self.inputs.items():
            tensor = httpclient.InferInput(name, array[rows].shape, np_to_triton_dtype(array.dtype))
            requests.append(tensor.set_data_from_numpy(array[rows]))
        with httpclient.InferenceServerClient(url, network_timeout=120) as client:
            answers = client.infer(self.name, requests)
        return {name: answers.as_numpy(name) for name in self.outputs}

    def check(self, answers, rows=slice(None)):
        """Compare answers with the eager module's."""
        for name, array in self.outputs.items():
            assert answers[name].dtype == array.dtype
            assert answers[name].shape == array[rows].shape
            assert difference(answers[name], array[rows]) <= TOLERANCE.get(str(array.dtype), 0)


def difference(found, expected):
    """Return the largest difference, relative to the largest value expected."""
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    assert np.isfinite(expected).all()
    return float(np.abs(found - expected).max() / (np.abs(expected).max() or 1))


def export(name, repository, **environment):
    """Export a graph in a process of its own."""
    child = subprocess.run(
        [sys.executable, EXPORT, name, repository],
        env={**os.environ, "GLOG_minloglevel": "3", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=EXPORT_SECONDS,
        check=False,
    )
    assert child.returncode == 0, f"{name}: exit code {child.returncode}\n{child.stderr[-2000:]}"
    served = Served(repository, name)
    served.write_config()
    return served


@pytest.fixture(scope="session")
def flowvision(tmp_path_factory):
    """A folder with flowvision 0.2.1, which only builds with setuptools before 80.

    It is the last one for OneFlow 0.9.0, and needs tabulate, which the environment has not.
    """
    folder = tmp_path_factory.mktemp("flowvision")
    constraint = folder / "build.txt"
    constraint.write_text("setuptools<80\n")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-compile"]
    command += ["--build-constraint", constraint, "--target", folder / "site"]
    command += ["flowvision==0.2.1", "tabulate==0.10.0"]
    child = subprocess.run(
        command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
    )
    assert child.returncode == 0, child.stdout[-2000:] + child.stderr[-2000:]
    return folder / "site"


@pytest.fixture(scope="session")
def zoo(request, flowvision, tmp_path_factory):
    """Every network that this session tests, being exported one after the other while the ones
    before are tested; ``zoo[name].result()`` waits for one."""
    chosen = [item.callspec.params["name"] for item in request.session.items if in_zoo(item)]
    with ThreadPoolExecutor(max_workers=1) as pool:
        yield {
            name: pool.submit(
                export, name, tmp_path_factory.mktemp(name), PYTHONPATH=str(flowvision)
            )
            for name in chosen
        }
        pool.shutdown(cancel_futures=True)


def in_zoo(item):
    return "zoo" in getattr(item, "fixturenames", ())


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_a_network_of_flowvision(zoo, name):
    served = zoo[name].result()
    (eager,) = served.outputs.values()
    for one, other in itertools.combinations(eager, 2):
        assert difference(one, other) > ROWS_DIFFER
    with TritonServer(served.folder.parent) as server:
        served.check(served.ask(server.url, slice(1)), slice(1))
        served.check(served.ask(server.url))
        assert NO_PLAN not in server.log()


@pytest.fixture(scope="session")
def odd_repository(tmp_path_factory):
    repository = tmp_path_factory.mktemp("odd")
    for name in ODD:
        export(name, repository)
    return repository


@pytest.fixture(scope="session")
def odd_server(odd_repository):
    with TritonServer(odd_repository) as server:
        assert NO_PLAN not in server.log()
        yield server


@pytest.mark.parametrize("name", ODD)
def test_an_odd_graph(odd_repository, odd_server, name):
    served = Served(odd_repository, name)
    served.check(served.ask(odd_server.url))
    if served.batched:
        served.check(served.ask(odd_server.url, slice(1)), slice(1))
