"""Export graphs that tests serve: ``export_graphs.py REPOSITORY PIXELS NAME ...``.

Writes ``REPOSITORY/NAME/1``, as the kit exports it, and ``REPOSITORY/NAME/examples.npz``: inputs
``INPUT_i`` and the eager module's answers ``OUTPUT_i``; then prints the name. A graph that Triton
may batch has a 1 in front of its shapes, and its examples three different rows. PIXELS is the
side of the pictures for those networks that take any.
"""

import gc
import importlib
import os
import sys
from pathlib import Path

import numpy as np
import oneflow as flow
from oneflow import nn

from serving_kit.export.version import export_version

ROWS = 3
SEED = 7


class Ballast(nn.Module):
    """A zero that takes some milliseconds: OneFlow 0.9.0 may crash on a graph without it."""

    def __init__(self):
        super().__init__()
        noise = np.random.default_rng(SEED).normal(0, 512**-0.5, (512, 512)).astype(np.float32)
        self.register_buffer("noise", flow.tensor(noise))

    def forward(self, dtype=flow.float32):
        product = self.noise
        for _ in range(4):
            product = flow.matmul(product, self.noise)
        return flow.cast(product.sum() * 0, dtype)


class TwoInTwoOut(nn.Module):
    """Outputs whose types come in the other order than those of the inputs; no batch."""

    inputs = (((4, 6), "float32"), ((5,), "int64"))
    batched = False

    def __init__(self):
        super().__init__()
        self.ballast = Ballast()
        self.linear = nn.Linear(6, 3)

    def forward(self, a, b):
        return b * 3 + 2**40 + self.ballast(flow.int64), self.linear(a) + self.ballast()


class Embedding(nn.Module):
    """Words as int64, vectors as float32."""

    inputs = (((7,), "int64"),)
    batched = True

    def __init__(self):
        super().__init__()
        self.ballast = Ballast()
        self.embedding = nn.Embedding(100, 16)

    def forward(self, words):
        return self.embedding(words) + self.ballast()


class Half(nn.Module):
    """float16 outside, float32 inside."""

    inputs = (((8,), "float16"),)
    batched = True

    def __init__(self):
        super().__init__()
        self.ballast = Ballast()
        self.linear = nn.Linear(8, 5)

    def forward(self, x):
        return flow.cast(self.linear(flow.cast(x, flow.float32)) + self.ballast(), flow.float16)


class Bytes(nn.Module):
    """The negative of a picture, uint8 outside."""

    inputs = (((3, 16, 16), "uint8"),)
    batched = True

    def __init__(self):
        super().__init__()
        self.ballast = Ballast()

    def forward(self, x):
        return flow.cast(255 - flow.cast(x, flow.float32) + self.ballast(), flow.uint8)


class Positive(nn.Module):
    """A bool for every number."""

    inputs = (((9,), "float32"),)
    batched = True

    def __init__(self):
        super().__init__()
        self.ballast = Ballast()

    def forward(self, x):
        return x > self.ballast()


class Numbers(nn.Module):
    """int32, int8 and float64, in and out."""

    inputs = (((3,), "int32"), ((4,), "int8"), ((2,), "float64"))
    batched = True

    def __init__(self):
        super().__init__()
        self.ballast = Ballast()

    def forward(self, a, b, c):
        negative = flow.cast(-flow.cast(b, flow.int32), flow.int8)
        return a * 2 + self.ballast(flow.int32), negative, c / 3 + self.ballast(flow.float64)


GRAPHS = {
    "two_in_two_out": TwoInTwoOut,
    "embedding": Embedding,
    "half": Half,
    "bytes": Bytes,
    "positive": Positive,
    "numbers": Numbers,
}


class Zoo(nn.Module):
    """A network of flowvision, whose folder must be on PYTHONPATH, with weights of its own."""

    batched = True

    def __init__(self, name, pixels):
        super().__init__()
        shape = (3, 224, 224) if name.endswith("_224") else (3, pixels, pixels)
        self.inputs = ((shape, "float32"),)
        self.network = getattr(importlib.import_module("flowvision.models"), name)()
        rng = np.random.default_rng(SEED)
        for key, tensor in self.network.named_parameters():
            if "token" in key or "bias_table" in key or "pos_embed" in key:  # zeros hide mistakes
                fresh = rng.normal(0, 0.1, tuple(tensor.shape)).astype(np.float32)
                tensor.data.copy_(flow.tensor(fresh))
        self._calibrate(rng)

    def _calibrate(self, rng):
        """Give BatchNorm real statistics: without, a deep network answers all images alike."""
        norms = [layer for layer in self.network.modules() if isinstance(layer, nn.BatchNorm2d)]
        for layer in norms:
            layer.momentum = 1.0
        if norms:
            ((shape, _),) = self.inputs
            images = flow.tensor(rng.normal(size=(4, *shape)).astype(np.float32))
            with flow.no_grad():
                self.network.train()(images)

    def forward(self, x):
        return self.network(x)


def make_inputs(module):
    """Return the example inputs: any values of an integer type, but no word that is unknown."""
    rng = np.random.default_rng(SEED + 1)
    arrays = []
    for shape, dtype in module.inputs:
        shape = (ROWS, *shape) if module.batched else shape
        if np.issubdtype(dtype, np.integer):
            array = rng.integers(0, 100, shape).astype(dtype)
        else:
            array = rng.normal(size=shape).astype(dtype)
        arrays.append(array)
    return arrays


def rows_of(inputs, batched):
    """Return the inputs of each run of the graph: one row a run, or all at once."""
    if not batched:
        return [inputs]
    return [[array[i : i + 1] for array in inputs] for i in range(ROWS)]


def answer(module, arrays):
    with flow.no_grad():
        result = module(*map(flow.tensor, arrays))
    return [tensor.numpy() for tensor in (result if isinstance(result, tuple) else (result,))]


def export(name, pixels, folder):
    flow.manual_seed(SEED)
    module = (GRAPHS[name]() if name in GRAPHS else Zoo(name, pixels)).eval()
    inputs = make_inputs(module)
    rows = rows_of(inputs, module.batched)
    export_version(module, rows[0], folder / "1", source=name)
    answers = [answer(module, row) for row in rows]
    outputs = [np.concatenate(parts) for parts in zip(*answers, strict=True)]
    examples = {f"INPUT_{i}": array for i, array in enumerate(inputs)}
    examples |= {f"OUTPUT_{i}": array for i, array in enumerate(outputs)}
    np.savez(folder / "examples.npz", batched=module.batched, **examples)


if __name__ == "__main__":
    repository, pixels, *names = sys.argv[1:]
    for name in names:
        export(name, int(pixels), Path(repository) / name)
        gc.collect()
        print(name, flush=True)
    sys.stderr.flush()
    os._exit(0)  # past OneFlow's own end, which may hang
