"""Run graphs with several rows at once: ``join_rows.py FOLDER NAME ...``.

Prints a line of JSON for each: why one of ``MIXING`` cannot be batched, and of any other one the
largest difference, at 2, 3 and 4 rows, from the rows alone, or why it cannot.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
from batch_cases import Function, Several, rows
from batch_independent import INDEPENDENT
from batch_mixing import MIXING
from batch_operators import OPERATORS
from export_graphs import save_graph
from oneflow import nn

from oneflow_backend import one_by_one
from oneflow_backend.batch_axis import CannotBatch
from oneflow_backend.batch_table import RULES
from oneflow_backend.graph_folder import read_graph_folder
from oneflow_backend.job import read_job
from oneflow_backend.rebatch import rebatch
from oneflow_backend.saved_graph import SavedGraph

ROWS = (2, 3, 4)
#: OneFlow demands probabilities of it.
ABORTS_OVER_NAN = "bce"
CASES = {**INDEPENDENT, **OPERATORS}


def graph_of(name):
    """Return a module or function, and its inputs, by a name or by several: ``gru+lstm``."""
    if name in MIXING:
        return MIXING[name][1:]
    if name in CASES:
        return CASES[name]
    cases = [CASES[each] for each in name.split("+")]
    inputs = [array for _, *arrays in cases for array in arrays]
    return Several([case[0] for case in cases], [len(case) - 1 for case in cases]), *inputs


def save(function, inputs, folder):
    """Save a graph of a module or function, as it is: in training, or not."""
    save_graph(function if isinstance(function, nn.Module) else Function(function), inputs, folder)


def obstacle(folder):
    """Return why the rows of a saved graph are not joined; "" if they are."""
    try:
        rebatch(read_job(read_graph_folder(folder)), 2)
    except CannotBatch as reason:
        return str(reason)
    return ""


def difference(folder, inputs):
    """Return the largest difference of joined rows from the rows alone, or why there are none."""
    largest = 0.0
    with SavedGraph(folder) as graph:
        try:
            for n in ROWS:
                graph.add_batch(n)
                arrays = [rows(array, n) for array in inputs]
                alone = [graph(*(array[i : i + 1] for array in arrays)) for i in range(n)]
                together = graph(*arrays)
                for found, *expected in zip(together, *alone, strict=True):
                    largest = max(largest, relative(found, np.concatenate(expected)))
            if ABORTS_OVER_NAN in folder.name.split("+"):
                return largest
            for found, expected in zip(graph(*map(spoilt, arrays)), together, strict=True):
                assert np.array_equal(found[1:], expected[1:]), "NaN has reached another row"
        except CannotBatch as reason:
            return str(reason)
    return largest


def spoilt(array):
    """Return rows of which the first has NaN and infinity."""
    array = array.copy()
    if array.dtype.kind == "f":
        array[:1] = np.resize([np.nan, np.inf, -np.inf], array[:1].shape)
    return array


def relative(found, expected):
    if found.dtype.kind != "f":
        return 0.0 if np.array_equal(found, expected) else np.inf
    return float((np.abs(found - expected) / (np.abs(expected) + 1e-3)).max())


def main(folder, names):
    # OneFlow's engine for graphs may crash on such short ones; it runs those that are served.
    one_by_one.OPERATORS = frozenset(RULES)
    for name in names:
        function, *inputs = graph_of(name)
        graph = folder / ("mixing" if name in MIXING else "independent") / name
        save(function, inputs, graph)
        found = obstacle(graph) if name in MIXING else difference(graph, inputs)
        print(json.dumps([name, found]), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
    os._exit(0)  # past OneFlow's own end, which may hang
