"""How far a row's result in a batch may be from its result alone."""

import numpy as np

#: A batched plan may differ from single rows by this much, relative to an element and to its
#: surroundings, see ``tolerances``: other shapes make other kernels sum in another order.
TOLERANCE = {"float16": 1e-2, "float32": 1e-5, "float64": 1e-12}
#: Values that are alike to this part, and so many times as large as all others, fill places, as the
#: -1e9 of a masked logit does: they say nothing about how exactly the others are known.
ALIKE, FILL = 1e-2, 30


def tolerances(alone: np.ndarray) -> np.ndarray:
    """Return how much each element of several rows' results may differ in a batch.

    That is relative to the element itself, and to the largest one beside it: what is near 0 by
    cancellation is no more exact than its terms were. Elements that fill places are left out.
    """
    relative = TOLERANCE.get(alone.dtype.name, 0)
    sizes = np.abs(alone.astype(np.float64)) if relative else np.zeros(alone.shape)
    sizes[~np.isfinite(sizes)] = 0
    return relative * np.maximum(sizes, _usual_size(sizes))


def _usual_size(sizes: np.ndarray) -> float:
    """Return the largest of the magnitudes that do not just fill places."""
    rest = np.unique(sizes)
    while rest.size:
        below = rest[rest < rest[-1] * (1 - ALIKE)]
        if not below.any() or below[-1] * FILL > rest[-1]:
            return float(rest[-1])
        rest = below
    return 0.0


def differs(found: np.ndarray, expected: np.ndarray, allowed: np.ndarray) -> bool:
    """Return whether any element differs by more than is allowed; NaN is equal to NaN only."""
    if found.shape != expected.shape:
        return True
    if found.dtype.kind != "f":
        return not np.array_equal(found, expected)
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    exact = ~(np.isfinite(found) & np.isfinite(expected))
    if not np.array_equal(found[exact], expected[exact], equal_nan=True):
        return True
    with np.errstate(invalid="ignore"):
        return bool((np.abs(found - expected) > allowed)[~exact].any())


def tell_apart(alone: np.ndarray) -> np.ndarray:
    """Return for each pair of rows whether one in the other's place would be noticed.

    What is not finite does not count. A row without elements has nothing that could be wrong.
    """
    n = len(alone)
    if not alone.size:
        return np.ones((n, n), bool)
    allowed = tolerances(alone)
    finite = np.isfinite(alone) if alone.dtype.kind == "f" else np.ones(alone.shape, bool)
    apart = np.eye(n, dtype=bool)
    for i in range(n):
        for j in range(i):
            both = finite[i] & finite[j]
            apart[i, j] = apart[j, i] = differs(
                alone[i][both], alone[j][both], np.maximum(allowed[i], allowed[j])[both]
            )
    return apart


def largest_difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference of finite elements."""
    with np.errstate(invalid="ignore"):
        difference = np.abs(found.astype(np.float64) - expected.astype(np.float64))
    return float(difference[np.isfinite(difference)].max(initial=0))
