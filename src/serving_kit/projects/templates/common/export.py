"""Eager -> nn.Graph -> flow.save, for one version: python export.py [VERSION]."""

import gc
import shutil
import sys
from pathlib import Path

import numpy as np
import oneflow as flow
from oneflow import nn

from network import examples, network

HERE = Path(__file__).resolve().parent
NAME = HERE.name


class Served(nn.Graph):
    """A static graph that does what the network does."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def build(self, *inputs):
        """Trace the network."""
        return self.module(*inputs)


def as_arrays(result):
    """Return one tensor, or a tuple of them, as a list of arrays."""
    tensors = result if isinstance(result, list | tuple) else [result]
    return [tensor.numpy() for tensor in tensors]


def main(version=1):
    """Save the graph for Triton, and what eager mode gives on the examples, for the tests."""
    module, inputs = network(version), examples()
    with flow.no_grad():
        expected = as_arrays(module(*map(flow.tensor, inputs)))

    graph = Served(module)
    first_row = [flow.tensor(array[:1]) for array in inputs]  # a batch of 1 in front
    traced = as_arrays(graph(*first_row))
    for i, (one, rows) in enumerate(zip(traced, expected, strict=True)):
        print(f"OUTPUT_{i}: graph and eager differ by at most {abs(one - rows[:1]).max():.1e}")

    folder = HERE / "model_repository" / NAME / str(version) / "model"
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    flow.save(graph, str(folder))
    del graph  # a process that ends while OneFlow holds a graph may hang
    gc.collect()

    arrays = {f"INPUT_{i}": array for i, array in enumerate(inputs)}
    arrays |= {f"OUTPUT_{i}": array for i, array in enumerate(expected)}
    (HERE / "expected").mkdir(exist_ok=True)
    np.savez(HERE / "expected" / f"{version}.npz", **arrays)
    for name, array in arrays.items():
        print(f"{name}: {array.dtype} {[1, *array.shape[1:]]}")
    print(f"saved model_repository/{NAME}/{version}/model and expected/{version}.npz")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
