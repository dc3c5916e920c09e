"""Taking turns: how everything here is timed.

Those that are compared run one after the other, round after round, so that whatever else the
machine does meets all alike. A turn is one run, where all take about as long; else it goes on for a
while, and begins with a run that is not counted, because the others have had the caches meanwhile.
NumPy and the standard library only: PyTorch's process, which has an environment of its own, uses
this file, too.
"""

import contextlib
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

#: How long one turn goes on; it counts one run at least.
TURN_SECONDS = 0.25
#: 90 % of a normal distribution lie within so many standard deviations.
NORMAL_90 = 1.645

Turn = Callable[[], list[float]]


@dataclass(frozen=True)
class Summary:
    """What was seen of one thing, in ms; figures of few runs are as rough as the runs are few."""

    #: The single runs of each turn.
    turns: list[list[float]]
    runs: int
    least: float
    lower: float
    median: float
    upper: float
    p95: float

    @staticmethod
    def of(turns: list[list[float]]) -> "Summary":
        """Sum up the times of single runs, turn by turn."""
        runs = [milliseconds for turn in turns for milliseconds in turn]
        return Summary(turns, len(runs), *map(float, np.percentile(runs, [0, 25, 50, 75, 95])))

    def over(self, other: "Summary") -> float:
        """Return how many times as long as another it took: the median of all rounds' ratios.

        What else a machine does comes and goes within minutes, and changes both turns of a round
        alike; it changes the quotient of two medians of the whole time much more.
        """
        return float(np.median(self._ratios(other)))

    def interval_over(self, other: "Summary") -> tuple[float, float]:
        """Return two of the rounds' ratios, between which the true median lies 9 times of 10.

        So sure are the ratios that have as many above them as below (Conover, Practical
        Nonparametric Statistics, 3.2), as far as rounds have nothing to do with each other.
        """
        ratios = np.sort(self._ratios(other))
        middle, half = len(ratios) / 2, NORMAL_90 * len(ratios) ** 0.5 / 2
        low, high = math.floor(middle - half), math.ceil(middle + half)
        return float(ratios[max(low - 1, 0)]), float(ratios[min(high, len(ratios) - 1)])

    def _ratios(self, other: "Summary") -> list[float]:
        pairs = zip(self.turns, other.turns, strict=True)
        return [float(np.median(mine) / np.median(its)) for mine, its in pairs]


class ContestantError(Exception):
    """A contestant's process could not do its work; the message is the last line it wrote."""


def turn_of(run: Callable[[], object], seconds: float = TURN_SECONDS) -> list[float]:
    """Run once uncounted, then for some seconds, at least once; return each run's ms."""
    run()
    milliseconds = []
    end = time.perf_counter() + seconds
    while not milliseconds or time.perf_counter() < end:
        milliseconds += run_of(run)
    return milliseconds


def run_of(run: Callable[[], object]) -> list[float]:
    """Have a turn of a single run; return its ms."""
    began = time.perf_counter()
    run()
    return [(time.perf_counter() - began) * 1000]


def take_turns(turns: dict[str, Turn], rounds: int) -> dict[str, Summary | str]:
    """Give each its turn, round after round, after a first round that is not counted.

    Each round has an order of its own, so that none always comes behind the same.

    Returns:
        What was seen of each; of one that broke down, the reason.
    """
    times: dict[str, list[list[float]]] = {name: [] for name in turns}
    broken: dict[str, str] = {}
    names, orders = list(turns), np.random.default_rng(0)
    for number in range(rounds + 1):
        for name in (names[i] for i in orders.permutation(len(names))):
            if name in broken:
                continue
            try:
                milliseconds = turns[name]()
            except ContestantError as error:
                broken[name] = str(error)
            else:
                times[name] += [milliseconds] if number else []
    return {name: broken.get(name) or Summary.of(times[name]) for name in turns}


def together(sittings: list[dict[str, Summary | str]]) -> dict[str, Summary | str]:
    """Return what was seen in all sittings; of one that broke down in any of them, the reason."""
    seen = {}
    for name in sittings[0]:
        found = [sitting[name] for sitting in sittings]
        reasons = [reason for reason in found if isinstance(reason, str)]
        turns = [turn for summary in found if not reasons for turn in summary.turns]
        seen[name] = reasons[0] if reasons else Summary.of(turns)
    return seen


class Contestant:
    """A process that prepares something, and runs it whenever it has its turn.

    Args:
        command: a program that ends with ``answer_turns``.
        environment: variables besides those of this process.
    """

    def __init__(self, command: list, environment: dict[str, str] | None = None):
        self._words = os.memfd_create("contestant-stderr")
        self._process = subprocess.Popen(
            command,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
            text=True,
        )

    def turn(self) -> list[float]:
        """Let it have ``turn_of``, the first time as soon as it is prepared; return the ms.

        Raises:
            ContestantError: the process has ended.
        """
        return self._have("turn")

    def run(self) -> list[float]:
        """Let it have ``run_of``; as ``turn``."""
        return self._have("run")

    def _have(self, kind: str) -> list[float]:
        try:
            self._process.stdin.write(f"{kind}\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())
        except (BrokenPipeError, json.JSONDecodeError):
            raise ContestantError(self._last_words()) from None

    def _last_words(self) -> str:
        code = self._process.wait()
        text = os.pread(self._words, 1 << 20, 0).decode(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return lines[-1] if lines else f"the process ended with exit code {code}"

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        os.close(self._words)
        with contextlib.suppress(BrokenPipeError):  # what it was told last, it did not read
            self._process.stdin.close()


def answer_turns(run: Callable[[], object]) -> None:
    """Be a contestant: for each line on standard input, have such a turn and print its times."""
    kinds = {"turn": turn_of, "run": run_of}
    for line in sys.stdin:
        print(json.dumps(kinds[line.strip()](run)), flush=True)
    # Not sys.exit: OneFlow hangs when it is taken down while it holds a graph.
    os._exit(0)
