"""A plan for several rows is compared with single rows before any request gets it."""

import numpy as np

from oneflow_backend.graph_folder import GraphFolder

#: A batched plan may differ from single rows by this much, relative to the row's largest value:
#: other shapes make other kernels sum in another order.
TOLERANCE = {"float16": 1e-2, "float32": 1e-5, "float64": 1e-12}


class Unequal(ValueError):
    """A batched plan gave a row another answer than the row gets alone."""


def prove(graph, folder: GraphFolder, n: int) -> None:
    """Compare a plan for n rows with n single runs, on random rows.

    Raises:
        Unequal: an output differs by more than ``TOLERANCE``; the plan must not be used.
    """
    rows = random_rows(folder, n)
    alone = [graph(*(array[i : i + 1] for array in rows)) for i in range(n)]
    together = graph(*rows)
    for k, batch in enumerate(together):
        expected = np.concatenate([outputs[k] for outputs in alone])
        difference = relative_difference(batch, expected)
        if not difference <= TOLERANCE.get(batch.dtype.name, 0):
            raise Unequal(
                f"OUTPUT_{k} of {n} rows together differs from the rows alone by {difference:.2g} "
                "of its largest value"
            )


def relative_difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference in any row, relative to the row's largest value."""
    if found.dtype.kind != "f":
        return 0.0 if np.array_equal(found, expected) else np.inf
    if np.array_equal(found, expected, equal_nan=True):
        return 0.0
    rows = (len(found), -1)
    found, expected = (array.astype(np.float64).reshape(rows) for array in (found, expected))
    if not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return np.inf
    largest = np.maximum(np.abs(expected).max(axis=1), np.finfo(np.float32).tiny)
    return float((np.abs(found - expected).max(axis=1) / largest).max())


def random_rows(folder: GraphFolder, n: int) -> list[np.ndarray]:
    """Return n rows for every input: normal floats, any uint8, else integers and booleans 0 or 1.

    Integers are often indices, which must exist: 0 and 1 do in every table worth indexing.
    """
    random = np.random.default_rng(0)
    arrays = []
    for spec in folder.inputs:
        shape = (n, *spec.shape[1:])
        if spec.dtype.kind == "f":
            arrays.append(random.standard_normal(shape).astype(spec.dtype))
        else:
            high = 256 if spec.dtype == np.uint8 else 2
            arrays.append(random.integers(0, high, shape).astype(spec.dtype))
    return arrays
