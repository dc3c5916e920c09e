"""Export graphs that tests serve: ``export_graphs.py REPOSITORY PIXELS NAME ...``.

Writes ``REPOSITORY/NAME/1`` and ``REPOSITORY/NAME/examples.npz``: inputs ``INPUT_i`` and the eager
module's results ``OUTPUT_i``. A graph that Triton may batch has a 1 in front of its shapes, and its
examples three different rows. PIXELS is the side of the pictures for those networks that take any.
"""

import gc
import importlib
import os
import sys
from pathlib import Path

import numpy as np
import oneflow as flow
from oneflow import nn

from serving_kit.export import save_graph as save_graph_whole
from serving_kit.export.version import InferenceGraph

ROWS = 3
SEED = 7


class NoBatch(nn.Module):
    """Outputs whose types come in the other order than those of the inputs; no batch."""

    inputs = (((4, 6), "float32"), ((5,), "int64"))
    batched = False

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 3)

    def forward(self, a, b):
        return b * 3 + 2**40, self.linear(a)


class Types(nn.Module):
    """Every data type, in and out: words to vectors, a number to a bool, a picture to its negative.

    float16 is computed as float32 inside.
    """

    inputs = (
        ((7,), "int64"),
        ((9,), "float32"),
        ((3, 16, 16), "uint8"),
        ((8,), "float16"),
        ((3,), "int32"),
        ((4,), "int8"),
        ((2,), "float64"),
    )
    batched = True

    def __init__(self):
        super().__init__()
        self.embedding, self.linear = nn.Embedding(100, 16), nn.Linear(8, 5)

    def forward(self, words, number, picture, half, a, b, c):
        return (
            self.embedding(words),
            number > 0,
            flow.cast(255 - flow.cast(picture, flow.float32), flow.uint8),
            flow.cast(self.linear(flow.cast(half, flow.float32)), flow.float16),
            a * 2,
            flow.cast(-flow.cast(b, flow.int32), flow.int8),
            c / 3,
        )


class AsGraph(nn.Module):
    """What is not run operator by operator, because of cumsum."""

    inputs = (((6,), "float32"),)
    batched = True

    def forward(self, x):
        return flow.cumsum(x * 2, 1)


EVERY_TYPE = ("bool", "int8", "uint8", "int32", "int64", "float16", "float32", "float64")


def changed(number):
    """Return another number of the same data type."""
    if number.dtype == flow.bool:
        return flow.cast(number, flow.int32) < 1
    return flow.cast(flow.cast(number, flow.float32) + 1, number.dtype)


class Numbers(nn.Module):
    """One number a row of every data type, and what makes and takes such numbers."""

    inputs = (*(((), dtype) for dtype in EVERY_TYPE), ((5,), "float32"))
    batched = True

    def forward(self, *inputs):
        *numbers, scores = inputs
        share = numbers[EVERY_TYPE.index("float32")]
        longer = flow.cat([scores, share.unsqueeze(1)], dim=1)
        return *map(changed, numbers), scores.argmax(dim=1), longer


class SingleNumbers(nn.Module):
    """Tensors without a dimension, of every data type; no batch."""

    inputs = (*(((), dtype) for dtype in EVERY_TYPE), ((2, 5), "float32"))
    batched = False

    def forward(self, *inputs):
        *numbers, scores = inputs
        share = numbers[EVERY_TYPE.index("float32")]
        return *map(changed, numbers), scores.mean(), scores.argmax(), scores * share


GRAPHS = {
    "no_batch": NoBatch,
    "types": Types,
    "as_graph": AsGraph,
    "numbers": Numbers,
    "single_numbers": SingleNumbers,
}


class Zoo(nn.Module):
    """A network of flowvision, whose folder must be on PYTHONPATH, with weights of its own."""

    batched = True

    def __init__(self, name, pixels):
        super().__init__()
        fixed = name.endswith("_224") or name.startswith("levit")
        shape = (3, 224, 224) if fixed else (3, pixels, pixels)
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
        elif dtype == "bool":
            array = rng.normal(size=shape) > 0
        else:
            array = rng.normal(size=shape).astype(dtype)
        arrays.append(array)
    return arrays


def rows_of(inputs, batched):
    """Return the inputs of each run of the graph: one row a run, or all at once."""
    if not batched:
        return [inputs]
    return [[array[i : i + 1] for array in inputs] for i in range(ROWS)]


def run(module, arrays):
    with flow.no_grad():
        result = module(*map(flow.tensor, arrays))
    return [tensor.numpy() for tensor in (result if isinstance(result, tuple) else (result,))]


def save_graph(module, inputs, folder):
    """Save a module as a graph, without a run: OneFlow 0.9.0 may crash on a short one."""
    graph = InferenceGraph(module)
    graph._compile(*map(flow.tensor, inputs))
    save_graph_whole(graph, folder)
    del graph
    gc.collect()


def export(name, pixels, folder):
    flow.manual_seed(SEED)
    module = (GRAPHS[name]() if name in GRAPHS else Zoo(name, pixels)).eval()
    inputs = make_inputs(module)
    rows = rows_of(inputs, module.batched)
    (folder / "1").mkdir(parents=True)
    save_graph(module, rows[0], folder / "1" / "model")
    results = [run(module, row) for row in rows]
    outputs = results[0]
    if module.batched:
        outputs = [np.concatenate(parts) for parts in zip(*results, strict=True)]
    examples = {f"INPUT_{i}": array for i, array in enumerate(inputs)}
    examples |= {f"OUTPUT_{i}": array for i, array in enumerate(outputs)}
    np.savez(folder / "examples.npz", batched=module.batched, **examples)


if __name__ == "__main__":
    repository, pixels, *names = sys.argv[1:]
    for name in names:
        export(name, int(pixels), Path(repository) / name)
    sys.stderr.flush()
    os._exit(0)  # past OneFlow's own end, which may hang
