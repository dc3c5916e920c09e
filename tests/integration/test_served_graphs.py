"""Graphs of many kinds, served by the real Triton, give the answers of their eager modules.

Those that take a batch have a plan for two rows beside the one for one row, so that three rows
need both.
"""

import itertools
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as httpclient
from tritonclient.utils import np_to_triton_dtype

EXPORT = Path(__file__).with_name("export_graphs.py")
EXPORT_SECONDS = 900
INSTALL_SECONDS = 300

ODD = ["two_in_two_out", "embedding", "half", "bytes", "positive", "numbers"]
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
#: The side of the pictures. A smaller one changes no operator of a network, only the numbers in
#: its shapes; it leaves 3 x 3 pixels at the end.
PIXELS, PIXELS_OF_SOAK = 96, 224
PLAN_FOR_TWO = 'parameters { key: "batch_sizes" value: { string_value: "2" } }\n'
#: What the backend logs when it does without a plan that it was to have.
NO_PLAN = "batches run row by row"
#: Largest difference allowed, relative to the largest value. Integers and bools must be equal.
TOLERANCE = {"float16": 1e-2, "float32": 1e-5, "float64": 1e-12}
#: Rows that are closer than this could be mixed up unnoticed.
ROWS_DIFFER = 1e-3


class Served:
    """An exported graph in the repository of a running server: its examples, and how to ask."""

    def __init__(self, model):
        self.model = model
        with np.load(model.folder / "examples.npz") as examples:
            self.batched = bool(examples["batched"])
            arrays = {key: examples[key] for key in examples.files if key != "batched"}
        self.inputs = {key: array for key, array in arrays.items() if key.startswith("INPUT")}
        self.outputs = {key: array for key, array in arrays.items() if key.startswith("OUTPUT")}

    def load(self):
        self.model.write_config(
            f'name: "{self.model.name}"\nbackend: "oneflow"\n'
            f"max_batch_size: {4 if self.batched else 0}\n"
            f"{self._tensors('input', self.inputs)}{self._tensors('output', self.outputs)}"
            "instance_group [ { count: 1 kind: KIND_CPU } ]\n"
            + (PLAN_FOR_TWO if self.batched else "")
        )
        self.model.load()
        assert NO_PLAN not in self.model.log()

    def _tensors(self, kind, arrays):
        text = ""
        for name, array in arrays.items():
            dims = list(array.shape[1:] if self.batched else array.shape)
            data_type = f"TYPE_{np_to_triton_dtype(array.dtype)}"
            text += f'{kind} [ {{ name: "{name}" data_type: {data_type} dims: {dims} }} ]\n'
        return text

    def ask(self, rows=slice(None)):
        """Send the examples, or some of their rows; return the answers by name."""
        requests = []
        for name, array in self.inputs.items():
            tensor = httpclient.InferInput(name, array[rows].shape, np_to_triton_dtype(array.dtype))
            requests.append(tensor.set_data_from_numpy(array[rows]))
        with self.model.client() as client:
            answers = client.infer(self.model.name, requests)
        return {name: answers.as_numpy(name) for name in self.outputs}

    def check(self, rows=slice(None)):
        """Compare the server's answers with the eager module's."""
        answers = self.ask(rows)
        for name, array in self.outputs.items():
            assert answers[name].dtype == array.dtype
            assert answers[name].shape == array[rows].shape
            assert difference(answers[name], array[rows]) <= TOLERANCE.get(str(array.dtype), 0)


def difference(found, expected):
    """Return the largest difference, relative to the largest value expected."""
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    assert np.isfinite(expected).all()
    return float(np.abs(found - expected).max() / (np.abs(expected).max() or 1))


@pytest.fixture(scope="session")
def flowvision(tmp_path_factory):
    """A folder with flowvision 0.2.1, which only builds with setuptools before 80.

    It is the last one for OneFlow 0.9.0, and needs tabulate, which the environment has not.
    """
    folder = tmp_path_factory.mktemp("flowvision")
    constraint = folder / "build.txt"
    constraint.write_text("setuptools<80\n")
    command = [Path(sys.executable).with_name("uv"), "pip", "install", "--no-deps"]
    command += ["--python", sys.executable, "--target", folder / "site"]
    command += ["--build-constraints", constraint, "flowvision==0.2.1", "tabulate==0.10.0"]
    # uv leaves the lock of what it builds among the temporary files.
    environment = {**os.environ, "TMPDIR": str(folder)}
    child = subprocess.run(
        command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False,
        env=environment,
    )  # fmt: skip
    assert child.returncode == 0, child.stdout[-2000:] + child.stderr[-2000:]
    return folder / "site"


class Exports:
    """Exports graphs one after the other, beside the tests of those that are done."""

    def __init__(self, repository, pixels, names, path, errors):
        self._errors, self._done = errors, set()
        with errors.open("w") as file:
            self._process = subprocess.Popen(
                [sys.executable, EXPORT, repository, str(pixels), *names],
                env={**os.environ, "GLOG_minloglevel": "3", "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
            )
        self._timer = threading.Timer(EXPORT_SECONDS, self._process.kill)
        self._timer.start()

    def wait_for(self, name):
        while name not in self._done:
            line = self._process.stdout.readline()
            if not line:
                code, said = self._process.wait(), self._errors.read_text()[-2000:]
                pytest.fail(f"{name} was not exported: exit code {code}\n{said}")
            self._done.add(line.strip())

    def end(self):
        self._timer.cancel()
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="session")
def exports(request, loading_server, soak, tmp_path_factory):
    """The exports of all graphs that this session tests, in the order of the tests."""
    names = [item.callspec.params["name"] for item in request.session.items if is_exported(item)]
    path = request.getfixturevalue("flowvision") if set(names) & set(ZOO) else ""
    exports = Exports(
        loading_server.model_repository,
        PIXELS_OF_SOAK if soak else PIXELS,
        names,
        str(path),
        tmp_path_factory.mktemp("exports") / "errors",
    )
    yield exports
    exports.end()


def is_exported(item):
    return "exports" in getattr(item, "fixturenames", ())


@pytest.fixture
def served(exports, model_called, name):
    exports.wait_for(name)
    served = Served(model_called(name))
    served.load()
    return served


@pytest.mark.parametrize("name", ODD)
def test_an_odd_graph(served, name):
    served.check()
    if served.batched:
        served.check(slice(1))


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_a_network_of_flowvision(served, name):
    (eager,) = served.outputs.values()
    for one, other in itertools.combinations(eager, 2):
        assert difference(one, other) > ROWS_DIFFER
    served.check(slice(1))
    served.check()
