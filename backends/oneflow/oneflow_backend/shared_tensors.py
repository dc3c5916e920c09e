"""The tensors of a graph in memory that two processes share.

The memory has no name (``memfd_create``), so there is nothing that a killed process could leave.
"""

import math
import mmap
import os
from collections.abc import Sequence

import numpy as np

from oneflow_backend.graph_folder import GraphFolder, TensorSpec

ALIGNMENT = 64
#: What a worker says when all outputs are there, and before that, after each run but the last, how
#: many rows are done. All else is JSON; here that, and a number in place of it in the request,
#: take 0.1 ms less.
DONE = b"done"


def runs_of(begin: int, rows: int, plans: Sequence[int]) -> list[tuple[int, int]]:
    """Return the first row of each run, and the one after its last: as few runs as plans allow.

    Args:
        begin: the first row to run.
        rows: the one after the last.
        plans: numbers of rows that have a plan, the largest first; 1 is the last.
    """
    if rows - begin in plans:  # without a microsecond's delay
        return [(begin, rows)]
    runs = []
    while begin < rows:
        end = begin + next(n for n in plans if n <= rows - begin)
        runs.append((begin, end))
        begin = end
    return runs


class SharedTensors:
    """Arrays for every input and output of a graph, in one piece of shared memory.

    Args:
        folder: the saved graph.
        rows: how many rows the arrays have room for; None for the graph's own shapes.
        descriptor: of memory that another process made; new memory is made without it.
    """

    def __init__(self, folder: GraphFolder, rows: int | None, descriptor: int | None = None):
        specs = [*folder.inputs, *folder.outputs]
        shapes = [spec.shape if rows is None else (rows, *spec.shape[1:]) for spec in specs]
        offsets, size = _lay_out(specs, shapes)
        if descriptor is None:
            descriptor = os.memfd_create("oneflow-tensors")
            os.ftruncate(descriptor, size)
        self.descriptor = descriptor
        memory = mmap.mmap(descriptor, size)
        arrays = [
            np.ndarray(shape, spec.dtype, buffer=memory, offset=offset)
            for spec, shape, offset in zip(specs, shapes, offsets, strict=True)
        ]
        self.inputs = arrays[: len(folder.inputs)]
        self.outputs = arrays[len(folder.inputs) :]


def _lay_out(specs: list[TensorSpec], shapes: list[tuple[int, ...]]) -> tuple[list[int], int]:
    """Return where each tensor begins, and how many bytes they take together."""
    offsets, end = [], 0
    for spec, shape in zip(specs, shapes, strict=True):
        offsets.append(end)
        nbytes = spec.dtype.itemsize * math.prod(shape)
        end += -(-nbytes // ALIGNMENT) * ALIGNMENT
    return offsets, max(end, 1)
