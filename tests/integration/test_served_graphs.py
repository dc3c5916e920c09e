"""Graphs of many kinds, served by the real Triton, give the results of their eager modules.

Those that take a batch have a plan for two rows beside the one for one row, so that three rows
need both.
"""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from tritonclient.utils import np_to_triton_dtype

EXPORT = Path(__file__).with_name("export_graphs.py")
EXPORT_SECONDS = 900

SMALL = ["no_batch", "types", "as_graph"]
NUMBERS = ["numbers", "single_numbers"]
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
#: Networks with tensors that ``flow.save`` leaves out: cached in a module, or weights of layers
#: in a list.
MADE_IN_BUILD = ["levit_128s", "genet_small", "regionvit_tiny_224"]
#: The side of the pictures. A larger one changes no operator of a network, only the numbers in
#: its shapes; this one leaves 3 x 3 pixels at the end.
PIXELS = 96
PLAN_FOR_TWO = 'parameters { key: "batch_sizes" value: { string_value: "2" } }\n'
#: What the backend logs when it does without a plan that it was to have.
NO_PLAN = "batches run row by row"
#: Largest difference allowed, relative to the largest value. Integers and bools must be equal.
TOLERANCE = {"float16": 1e-2, "float32": 1e-5, "float64": 1e-12}
#: Rows that are closer than this could be mixed up unnoticed.
ROWS_DIFFER = 1e-3


class Served:
    """An exported graph in the repository of a running server, and its examples."""

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

    def _tensors(self, kind, arrays):
        text = ""
        for name, array in arrays.items():
            dims = list(array.shape[1:] if self.batched else array.shape)
            data_type = f"TYPE_{np_to_triton_dtype(array.dtype)}"
            shape = f"dims: {dims}" if dims else "dims: [ 1 ] reshape { shape: [ ] }"
            text += f'{kind} [ {{ name: "{name}" data_type: {data_type} {shape} }} ]\n'
        return text

    def check(self, rows=slice(None)):
        """Send the examples, or some of their rows; compare with the eager module's results."""
        arrays = {name: self.as_sent(array, rows) for name, array in self.inputs.items()}
        self.compare(self.model.send(*arrays.values()), rows)

    def compare(self, found, rows=slice(None)):
        assert found.keys() == self.outputs.keys()
        for name, array in self.outputs.items():
            array = self.as_sent(array, rows)
            assert found[name].dtype == array.dtype
            assert found[name].shape == array.shape
            assert difference(found[name], array) <= TOLERANCE.get(str(array.dtype), 0)

    def as_sent(self, array, rows=slice(None)):
        """Return rows as clients of Triton have them: one number a row is [n, 1], one is [1]."""
        if self.batched:
            array = array[rows]
            return array[:, None] if array.ndim == 1 else array
        return np.atleast_1d(array)


def difference(found, expected):
    """Return the largest difference, relative to the largest value expected."""
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    assert np.isfinite(expected).all()
    return float(np.abs(found - expected).max() / (np.abs(expected).max() or 1))


def run(command, seconds, **variables):
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds, check=False,
        env={**os.environ, **variables},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def export(repository, names, path=""):
    command = [sys.executable, EXPORT, repository, str(PIXELS), *names]
    run(command, EXPORT_SECONDS, GLOG_minloglevel="3", PYTHONPATH=str(path))


@pytest.fixture(scope="module")
def small_graphs(loading_server):
    export(loading_server.model_repository, SMALL + NUMBERS)


@pytest.fixture(scope="module")
def networks(loading_server, flowvision):
    export(loading_server.model_repository, ZOO + MADE_IN_BUILD, flowvision)


@pytest.mark.parametrize("name", SMALL)
def test_a_small_graph(small_graphs, model_called, name):
    served = Served(model_called(name))
    served.load()
    assert NO_PLAN not in served.model.log()
    served.check()
    if served.batched:
        served.check(slice(1))


def send_by_grpc(model, arrays):
    inputs = [
        grpcclient.InferInput(name, array.shape, np_to_triton_dtype(array.dtype))
        for name, array in arrays.items()
    ]
    for tensor, array in zip(inputs, arrays.values(), strict=True):
        tensor.set_data_from_numpy(array)
    with grpcclient.InferenceServerClient(model.server.grpc_url) as client:
        response = client.infer(model.name, inputs)
    return {
        output.name: response.as_numpy(output.name) for output in response.get_response().outputs
    }


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_without_dimensions(small_graphs, model_called, name):
    """One a row with the configuration that the backend completes, single ones with a written one.

    The latter has empty reshapes, which Triton refuses without a batch: the backend drops them.
    """
    served = Served(model_called(name))
    if served.batched:
        served.model.write_config('backend: "oneflow"\nmax_batch_size: 4\n')
        served.model.load()
        assert NO_PLAN not in served.model.log()
    else:
        served.load()
    with served.model.client() as client:
        config = client.get_model_config(name)
    for entry in config["input"][:-1] + config["output"][:-1]:
        assert entry["dims"] == [1]
        assert entry.get("reshape") == ({"shape": []} if served.batched else None)
    served.check()
    served.compare(
        send_by_grpc(served.model, {key: served.as_sent(a) for key, a in served.inputs.items()})
    )


@pytest.mark.long
@pytest.mark.parametrize("name", ZOO + MADE_IN_BUILD)
def test_a_network_of_flowvision(networks, model_called, name):
    served = Served(model_called(name))
    served.load()
    assert name in MADE_IN_BUILD or NO_PLAN not in served.model.log()
    (eager,) = served.outputs.values()
    for one, other in itertools.combinations(eager, 2):
        assert difference(one, other) > ROWS_DIFFER
    served.check(slice(1))
    served.check()
