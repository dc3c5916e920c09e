"""Kinds of inputs for trial runs at load, when the real inputs are unknown.

One kind is blind to what another one shows: a logarithm needs positive numbers, a threshold may
lie at 100, an embedding needs ids that exist.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from oneflow_backend.graph_folder import GraphFolder

Shape = tuple[int, ...]
Range = tuple[int, int]  # the first value, and the one after the last


def _normal(random: np.random.Generator, shape: Shape) -> np.ndarray:
    """Rows whose means differ: else a yes or no of many numbers is the same for every row."""
    means = random.uniform(-2, 2, (*shape[:1], *(1 for _ in shape[1:])))
    return random.normal(means, 1, shape)


def _zeros_and_ones(random: np.random.Generator, shape: Shape) -> np.ndarray:
    """Rows from nearly all zeros to nearly all ones."""
    shares = random.beta(0.5, 0.5, (*shape[:1], *(1 for _ in shape[1:])))
    return random.random(shape) < shares


def _not_finite(random: np.random.Generator, shape: Shape) -> np.ndarray:
    """Normal numbers, and in their midst some that are none."""
    odd = random.choice([np.nan, np.inf, -np.inf], shape)
    return np.where(random.random(shape) < 0.3, odd, random.standard_normal(shape))


#: The kind for outputs that tell which numbers are finite: the last one, as it shows little else.
NOT_FINITE = "numbers and some that are not finite"
FLOATS: dict[str, Callable[[np.random.Generator, Shape], np.ndarray]] = {
    "numbers from 0 to 1": lambda random, shape: random.uniform(1e-3, 1, shape),
    "normal random numbers": _normal,
    "pixels from 0 to 255": lambda random, shape: random.integers(0, 256, shape),
    "numbers from 0.1 to 9": lambda random, shape: random.uniform(0.1, 9, shape),
    "large numbers": lambda random, shape: 1e3 * _normal(random, shape),
    "small numbers": lambda random, shape: 1e-3 * _normal(random, shape),
    "zeros and ones": _zeros_and_ones,
    NOT_FINITE: _not_finite,
}
_USUAL = [name for name in FLOATS if name != NOT_FINITE]
#: Where the structure does not say which integers exist; the narrowest first.
INTEGERS: dict[str, Range] = {
    "integers from 1 to 3": (1, 4),  # none divides by zero
    "integers 0 and 1": (0, 2),
    "integers below 10": (0, 10),
    "integers below 256": (0, 256),
    "integers of any size": (-(2**63), 2**63),
}
WIDTHS = list(INTEGERS)
MIXED = "inputs of several kinds"
#: What is tried, the most telling first: floats, and the width of integers.
_ORDER = (
    ("numbers from 0 to 1", 2),
    ("normal random numbers", 1),
    ("pixels from 0 to 255", 4),
    (MIXED, 2),
    ("numbers from 0.1 to 9", 3),
    ("large numbers", 1),
    ("small numbers", 2),
    ("zeros and ones", 3),
    (NOT_FINITE, 1),
)
#: Among what is left out: nothing is to be tried.
EVERYTHING = "all inputs"
#: Its parts of a phrase are joined by this.
_AND = ", "


@dataclass(frozen=True)
class Kind:
    """What the inputs of one trial are drawn from."""

    #: One of ``FLOATS``, or ``MIXED``: each input takes the next one.
    floats: str
    #: A place in ``WIDTHS``.
    width: int
    #: What is said about it, and what it is known by.
    name: str

    def rows(self, folder: GraphFolder, ranges: Sequence[Range | None], n: int) -> list[np.ndarray]:
        """Return n rows for every input; the first ones are the same whatever n is."""
        return [self._draw(folder, ranges, i, n) for i in range(len(folder.inputs))]

    def whole(self, folder: GraphFolder, ranges: Sequence[Range | None]) -> list[np.ndarray]:
        """Return inputs of the shapes that the graph was traced with."""
        return [self._draw(folder, ranges, i, None) for i in range(len(folder.inputs))]

    def _draw(
        self, folder: GraphFolder, ranges: Sequence[Range | None], i: int, n: int | None
    ) -> np.ndarray:
        spec = folder.inputs[i]
        shape = spec.shape if n is None else (n, *spec.shape[1:])
        random = np.random.default_rng([i, *self.name.encode()])
        if spec.dtype.kind == "f":
            floats = _USUAL[(i + 1) % len(_USUAL)] if self.floats == MIXED else self.floats
            return np.asarray(FLOATS[floats](random, shape)).astype(spec.dtype)
        if spec.dtype.kind == "b":
            return np.asarray(_zeros_and_ones(random, shape))
        width = min(1 + i % 2, self.width) if self.floats == MIXED else self.width
        low, high = ranges[i] or INTEGERS[WIDTHS[width]]
        info = np.iinfo(spec.dtype)
        low, last = max(low, int(info.min)), min(high - 1, int(info.max))
        if (low, last) == (0, 1):
            return np.asarray(_zeros_and_ones(random, shape)).astype(spec.dtype)
        drawn = random.integers(low, last, shape, dtype=spec.dtype, endpoint=True)
        if drawn.size > 1:  # the ends of a range are where mistakes are
            drawn.flat[0], drawn.flat[-1] = low, last
        return drawn


def kinds_of(
    folder: GraphFolder, ranges: Sequence[Range | None], left_out: Sequence[str]
) -> list[Kind]:
    """Return the kinds that differ for the inputs of this graph, without those left out.

    Where integers of some width killed OneFlow's process, only narrower ones are drawn any more.
    """
    if EVERYTHING in left_out:
        return []
    floats = any(spec.dtype.kind == "f" for spec in folder.inputs)
    free = any(
        spec.dtype.kind in "iu" and known is None
        for spec, known in zip(folder.inputs, ranges, strict=True)
    )
    widest, several = _widest(left_out), len(folder.inputs) > 1
    kinds: dict[str, Kind] = {}
    for i, (kind, width) in enumerate(_ORDER):
        if kind == MIXED and not several:
            continue
        width = min(width, widest)
        parts = [kind] if floats or (free and kind == MIXED) else []
        parts += [WIDTHS[width]] if free else []
        if kind == NOT_FINITE and not floats:
            continue
        name = _AND.join(parts) or f"random inputs ({i + 1})"
        if name not in left_out:
            kinds.setdefault(name, Kind(kind, width, name))
    return list(kinds.values())


def _widest(left_out: Sequence[str]) -> int:
    """Return the place in ``WIDTHS`` of the widest integers that may still be tried."""
    fatal = [WIDTHS.index(part) for name in left_out for part in name.split(_AND) if part in WIDTHS]
    return max(min([*fatal, len(WIDTHS)]) - 1, 0)
