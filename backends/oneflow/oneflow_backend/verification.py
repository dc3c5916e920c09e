"""A plan for several rows is compared with single rows before any request gets it.

Which operators treat the rows of a batch alike is known from the graph's structure (``rebatch``).
This is the second line: it finds what that knowledge, or OneFlow, has wrong. It counts only where
it could have failed, so rows whose results do not differ verify nothing.
"""

import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from oneflow_backend.comparison import differs, largest_difference, tell_apart, tolerances
from oneflow_backend.complaints import explain_error
from oneflow_backend.example_inputs import NOT_FINITE, Kind, Range
from oneflow_backend.graph_folder import GraphFolder

#: Rows that are compared with themselves alone; larger plans repeat them in a random order.
ROWS = 8
#: All kinds of inputs are tried within this time; the first ones in any case.
SECONDS = 2.0
#: What was not verified until then is not used.
MOST_SECONDS = 60.0
#: Inputs are moved by so many units in the last place to see how exact a result can be.
ULPS = 4

#: What the trial of rows that are not finite is called.
POISON = "a row of NaN or infinity"

Run = Callable[..., tuple[np.ndarray, ...]]  # run(what is tried, *arrays)


class Unverified(ValueError):
    """Why a plan must not be used."""


def plan_trial(n: int) -> str:
    """Return what a run of a plan for n rows is called."""
    return f"{n} rows together"


class Verification:
    """Plans of one graph, run on several kinds of inputs.

    Args:
        run: runs the graph; its first argument says what is tried.
        folder: the graph.
        ranges: the integers that each input may hold, as ``id_ranges`` has them.
        sizes: the numbers of rows that have a plan.
    """

    def __init__(
        self, run: Run, folder: GraphFolder, ranges: Sequence[Range | None], sizes: Sequence[int]
    ):
        self._run, self._folder, self._ranges = run, folder, ranges
        #: Why plans must not be used.
        self.refused: dict[int, str] = {}
        self._sizes = sorted(sizes)
        self._rows = min(max(sizes), ROWS)
        self._steady = False
        #: For each output, which pairs of rows had results that can be told apart.
        self._apart = [np.eye(self._rows, dtype=bool) for _ in folder.outputs]

    def run(self, kinds: Iterable[Kind], *, poison: bool) -> dict[int, str]:
        """Try the plans; return the reasons against those that must not be used.

        Args:
            kinds: the inputs to try.
            poison: whether to try rows that are not finite, too.
        """
        began, good = time.monotonic(), None
        for kind in kinds:
            seconds = time.monotonic() - began
            if not self._open() or seconds > (SECONDS if self._counted() else MOST_SECONDS):
                break
            # What is not finite may hide what is: it counts only for outputs that need it.
            outputs = [
                k
                for k, apart in enumerate(self._apart)
                if kind.floats != NOT_FINITE or not apart.all()
            ]
            if not outputs:
                continue
            rows = kind.rows(self._folder, self._ranges, self._rows)
            alone = self._try(kind.name, rows)
            if alone is None:
                continue
            if good is None and all(np.isfinite(each).all() for each in alone):
                good = rows
            self._compare_plans(kind.name, rows, alone, outputs)
        if poison and good is not None:
            self._try_poison(good)
        self._refuse_unless_counted()
        return self.refused

    def _open(self) -> list[int]:
        """The plans that nothing was found against."""
        return [n for n in self._sizes if n not in self.refused]

    def _counted(self) -> bool:
        return all(apart.all() for apart in self._apart)

    def _try(self, what: str, rows: list[np.ndarray]) -> list[np.ndarray] | None:
        """Return each output of the rows alone; None when the graph does not take them."""
        try:
            alone = [self._alone(what, rows, i) for i in range(self._rows)]
            again = None if self._steady else self._alone(what, rows, 0)
        except Exception:  # of many kinds: these inputs may be nothing that this graph takes
            return None
        if again is not None:
            self._steady = True
            for k, (first, second) in enumerate(zip(alone[0], again, strict=True)):
                if not np.array_equal(first, second, equal_nan=first.dtype.kind == "f"):
                    self._refuse(2, f"OUTPUT_{k} of the same row differs from run to run")
        return [np.concatenate(outputs) for outputs in zip(*alone, strict=True)]

    def _alone(self, what: str, rows: list[np.ndarray], i: int) -> tuple[np.ndarray, ...]:
        return self._run(what, *(array[i : i + 1] for array in rows))

    def _compare_plans(
        self, what: str, rows: list[np.ndarray], alone: list[np.ndarray], outputs: list[int]
    ) -> None:
        """Compare every plan with the rows alone, and note which outputs were told apart."""
        exact = set(outputs)
        for n in self._open():
            exact -= self._compare(n, what, rows, alone, outputs, _places(n, self._rows))
        for k in exact:
            apart = tell_apart(alone[k])
            self._apart[k] |= apart
            if not self._apart[k].all() and not np.array_equal(apart, np.eye(self._rows)):
                first, second = np.argwhere(apart & ~np.eye(self._rows, dtype=bool))[0]
                self._apart[k] |= self._compare_pair(what, rows, alone, k, first, second)

    def _compare_pair(
        self, what: str, rows: list[np.ndarray], alone: list[np.ndarray], k: int, first: int,
        second: int,
    ) -> bool:  # fmt: skip
        """Fill every plan with two rows, so that any two of its places differ in one of the runs.

        A yes or no cannot differ in more than two rows. Return whether the results were exact.
        """
        exact = True
        for n in self._open():
            for bit in range((n - 1).bit_length()):
                places = np.where(np.arange(n) >> bit & 1, first, second)
                exact &= not self._compare(n, what, rows, alone, [k], places)
        return exact

    def _compare(
        self, n: int, what: str, rows: list[np.ndarray], alone: list[np.ndarray],
        outputs: list[int], places: np.ndarray,
    ) -> set[int]:  # fmt: skip
        """Compare the plan for n rows with the rows alone; refuse it if they differ.

        Returns:
            The outputs that are equal only by the measure of ``_forgive``.
        """
        inexact = set()
        try:
            together = self._run(plan_trial(n), *(array[places] for array in rows))
            for k in outputs:
                if self._far(together[k], alone[k], places).any():
                    inexact.add(k)
                    self._forgive(n, k, what, rows, together[k], alone[k], places)
        except Unverified as difference:
            self._refuse(n, str(difference))
        except Exception as error:  # of many kinds
            self._refuse(n, f"{n} rows together: {explain_error(error)[0]}")
        return inexact

    def _far(self, found: np.ndarray, alone: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Return for each row of a plan whether it differs from the row alone."""
        allowed = tolerances(alone)
        return np.array(
            [differs(found[i], alone[j], allowed[j]) for i, j in enumerate(places)], bool
        )

    def _forgive(self, n, k, what, rows, found, alone, places) -> None:
        """Accept a difference that a change of the last places of the inputs makes as well.

        Raises:
            Unverified: it is larger than that.
        """
        noise = self._noise(what, rows, k, alone)
        allowed = tolerances(alone)
        for i, j in enumerate(places):
            if differs(found[i], alone[j], allowed[j] + 4 * noise[j]):
                raise Unverified(
                    f"OUTPUT_{k} of {n} rows together differs from the rows run alone, by "
                    f"{largest_difference(found[i], alone[j]):.2g}, on {what}"
                )

    def _noise(self, what: str, rows: list[np.ndarray], k: int, alone: np.ndarray) -> np.ndarray:
        """Return for each row how much its output moves with the last places of the inputs."""
        noise = np.zeros(len(alone))
        if alone.dtype.kind != "f":
            return noise
        for seed in range(2):
            moved = [_moved(array, seed) for array in rows]
            for i in range(self._rows):
                changed = self._alone(what, moved, i)[k]
                noise[i] = max(noise[i], largest_difference(changed[0], alone[i]))
        return noise

    def _try_poison(self, rows: list[np.ndarray]) -> None:
        """NaN or infinity in a row must not reach any other: the others stay as they are."""
        floats = [i for i, array in enumerate(rows) if array.dtype.kind == "f"]
        for value in (np.nan, np.inf) if floats else ():
            poisoned = [array.copy() for array in rows]
            for i in floats:
                poisoned[i][1] = value
            for n in self._open():
                places = _places(n, self._rows)
                others = places != 1
                try:
                    healthy = self._run(plan_trial(n), *(array[places] for array in rows))
                    together = self._run(POISON, *(array[places] for array in poisoned))
                except Exception:  # of many kinds: the graph does not take such numbers
                    continue
                for k, (found, expected) in enumerate(zip(together, healthy, strict=True)):
                    allowed = tolerances(expected)[others]
                    if differs(found[others], expected[others], allowed):
                        self._refuse(
                            n, f"OUTPUT_{k} of {n} rows together: {value} in one row reaches others"
                        )

    def _refuse(self, n: int, reason: str) -> None:
        """Do without the plan for n rows, and larger ones, which are made in the same way."""
        for size in self._open():
            if size >= n:
                self.refused[size] = reason

    def _refuse_unless_counted(self) -> None:
        for k, apart in enumerate(self._apart):
            for n in self._open():
                if not apart[:n, :n].all():
                    self._refuse(
                        n,
                        f"OUTPUT_{k} could not be verified for {n} rows together, because none of "
                        "the inputs tried gave finite results that differ between the rows",
                    )


def _moved(array: np.ndarray, seed: int) -> np.ndarray:
    """Return the array with each float a few units in the last place away."""
    if array.dtype.kind != "f":
        return array
    signs = np.random.default_rng(seed).choice([-ULPS, ULPS], array.shape)
    return (array * (1 + signs * np.finfo(array.dtype).eps)).astype(array.dtype)


def _places(n: int, rows: int) -> np.ndarray:
    """Return which row stands in each place of a batch: all of them, in no order that repeats."""
    if n <= rows:
        return np.arange(n)
    return np.r_[np.arange(rows), np.random.default_rng(n).integers(0, rows, n - rows)]
