"""Lesson 11, make it fast on a CPU: what a fix is worth, a stopwatch, and a convolution's index."""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import isclose

import numpy as np

from serving_kit.exercises._answers import NotYet, call, describe
from serving_kit.language import _

HINTS = {
    1: (
        _(
            "How many milliseconds does the whole network take before the fix, and how many after "
            "it? The answer is the first divided by the second."
        ),
        _(
            "After the fix, `kind` takes spent[kind] / possible[kind], and everything else takes "
            "as long as before."
        ),
        _(
            "total = sum(spent.values()), and for each kind: total / (total - spent[kind] + "
            "spent[kind] / possible[kind])."
        ),
    ),
    2: (
        _("Section 1 has three rules. Which of them does the stub follow?"),
        _(
            "Call each function once before you start the clock. Then let a loop over the rounds "
            "contain a loop over the two functions, and append each time to a list."
        ),
        _(
            "One measurement is: began = clock(); run().numpy(); took.append(clock() - began). "
            "statistics.median takes such a list."
        ),
    ),
    3: (
        _(
            "The shape is wrong because pixels at the border have no window. What does section 4 "
            "do with `places` before it takes the windows?"
        ),
        _(
            "np.pad with mode='reflect' mirrors. How many pixels does a kernel of 3, or of 9, "
            "reach beyond the border?"
        ),
        _(
            "padded = np.pad(places, kernel // 2, mode='reflect'), and then the windows of "
            "`padded`."
        ),
    ),
}


def exercise_1(whole_speedup: Callable) -> str:
    """Check what each fix alone does for the whole network."""
    spent, possible = (
        {"Norm": 600.0, "Conv": 300.0, "Pad": 100.0},
        {"Norm": 4, "Conv": 3, "Pad": 50},
    )
    found = call(whole_speedup, dict(spent), dict(possible))
    if not isinstance(found, dict):
        raise NotYet(_("it returned {what}; let it return a dict.").format(what=describe(found)))
    if set(found) != set(spent):
        raise NotYet(
            _("it has the kinds {found}, expected {expected}.").format(
                found=sorted(found), expected=sorted(spent)
            )
        )
    for kind, took in spent.items():
        rest = sum(spent.values()) - took
        expected = (rest + took) / (rest + took / possible[kind])
        if not isinstance(found[kind], float | int) or not isclose(found[kind], expected):
            raise NotYet(
                _(
                    "{kind} takes {took:.0f} of 1000 ms and becomes {times} times as fast: you say "
                    "{found} for the whole; how many ms does the whole take then?"
                ).format(kind=kind, took=took, times=possible[kind], found=found[kind])
            )
    return _("Norm first: 1.8 times; making Pad 50 times as fast gives only 1.1.")


@dataclass
class Machine:
    """A simulated machine with two programs on it, and the clock of it.

    Attributes:
        warm_up: seconds that the first run of each program takes longer.
        drift: how much slower everything is after each run, relative to its true time.
        interrupted: the run that another program delays, counted over both; and for how long.
    """

    warm_up: float = 0.0
    drift: float = 0.0
    interrupted: tuple[int, float] = (-1, 0.0)
    now: float = 1000.0
    ran: list[str] = field(default_factory=list)
    waiting: float = 0.0

    def program(self, name: str, seconds: float) -> Callable:
        """Return a function that submits so many seconds of work."""

        def run() -> "Result":
            self.waiting += seconds * (1 + self.drift * len(self.ran))
            if name not in self.ran:
                self.waiting += self.warm_up
            if len(self.ran) == self.interrupted[0]:
                self.waiting += self.interrupted[1]
            self.ran.append(name)
            self.now += 1e-6  # to submit the work
            return Result(self)

        return run

    def clock(self) -> float:
        """Return the seconds since the machine started."""
        return self.now


@dataclass
class Result:
    """What a program returns before its work is done."""

    machine: Machine

    def numpy(self) -> float:
        """Wait for all that was submitted."""
        self.machine.now += self.machine.waiting
        self.machine.waiting = 0.0
        return 0.0


#: Seconds of the two programs.
SLOW, QUICK = 0.020, 0.010
ROUNDS = 9


def exercise_2(compare: Callable) -> str:
    """Check a stopwatch on simulated machines, each with one thing that spoils a careless one."""
    _measure(compare, Machine(), _("on a machine where nothing goes wrong"), _not_waited)
    _measure(
        compare,
        Machine(warm_up=1.0),
        _("when the first run of each function takes a second longer"),
        _("the first run counts in your result. Call each function once before you measure."),
    )
    _measure(
        compare,
        Machine(interrupted=(8, 5.0)),
        _("when another program interrupts one run for 5 s"),
        _("one bad moment changes your result. Which mean of a list ignores it?"),
    )
    _measure(
        compare,
        Machine(drift=0.05),
        _("on a machine that gets 5 % slower with each run"),
        _(
            "the function that was measured last got the slow machine. Let them take turns, round "
            "by round."
        ),
    )
    return _("Waited for, warm, in turns, and the median: this stopwatch can be trusted.")


def _measure(compare: Callable, machine: Machine, when: str, why: str | Callable) -> None:
    """Let a learner's stopwatch compare two programs; raise if their ratio is not 2."""
    first, second = machine.program("first", SLOW), machine.program("second", QUICK)
    found = call(compare, first, second, machine.clock, ROUNDS)
    if not isinstance(found, list | tuple | np.ndarray) or len(found) != 2:
        raise NotYet(
            _("it returned {what}; let it return two numbers.").format(what=describe(found))
        )
    slow, quick = map(float, found)
    if min(machine.ran.count("first"), machine.ran.count("second")) < ROUNDS:
        raise NotYet(
            _("with rounds={rounds} a function ran only {counts}.").format(
                rounds=ROUNDS, counts=_counts(machine)
            )
        )
    # Where the machine gets slower with each run, taking turns leaves 5 % to the second.
    if not 1.7 < slow / max(quick, 1e-12) < 2.3:
        reason = why if isinstance(why, str) else why(slow)
        raise NotYet(
            _("{when}, your seconds are {slow:.3g} and {quick:.3g}, not 2 to 1: {reason}").format(
                when=when, slow=slow, quick=quick, reason=reason
            )
        )
    if machine.drift == 0 and not isclose(slow, SLOW, rel_tol=0.01):
        reason = why if isinstance(why, str) else why(slow)
        raise NotYet(
            _("{when}, your seconds are {slow:.3g}, expected {expected}: {reason}").format(
                when=when, slow=slow, expected=SLOW, reason=reason
            )
        )


def _not_waited(slow: float) -> str:
    if slow < SLOW / 10:
        return _("you read the clock before the work was done. What waits for a result?")
    return _("one call of each function belongs between two looks at the clock.")


def _counts(machine: Machine) -> str:
    first, second = map(machine.ran.count, ("first", "second"))
    return _("{first} times and {second} times").format(first=first, second=second)


def exercise_3(window_index: Callable) -> str:
    """Check which rows each pixel sees, for several sizes and kernels."""
    for height, width, kernel in ((5, 5, 3), (6, 9, 3), (16, 12, 9)):
        found = call(window_index, height, width, kernel)
        where = _("for {height} x {width} pixels and a {kernel} x {kernel} kernel").format(
            height=height, width=width, kernel=kernel
        )
        if not isinstance(found, np.ndarray):
            raise NotYet(
                _("{where} it returned {what}; let it return an array.").format(
                    where=where, what=describe(found)
                )
            )
        wanted = (height * width, kernel * kernel)
        if found.shape != wanted:
            raise NotYet(
                _(
                    "{where} the shape is {shape}, expected {wanted}: every pixel has a row, those "
                    "at the border, too."
                ).format(where=where, shape=found.shape, wanted=wanted)
            )
        expected = _windows(height, width, kernel)
        if not np.array_equal(found, expected):
            pixel = int(np.argmax((found != expected).any(axis=1)))
            raise NotYet(
                _(
                    "{where} pixel {pixel} sees the rows {found}, expected {expected}: outside of "
                    "the picture it is mirrored at the border."
                ).format(
                    where=where,
                    pixel=pixel,
                    found=found[pixel].tolist(),
                    expected=expected[pixel].tolist(),
                )
            )
        if found.dtype != np.int32:
            raise NotYet(
                _("the numbers are right, but {dtype}; gather here takes int32.").format(
                    dtype=found.dtype
                )
            )
    return _("A gather with this index is padding and im2col in one.")


def _windows(height: int, width: int, kernel: int) -> np.ndarray:
    """Return the answer, worked out pixel by pixel."""
    half = kernel // 2

    def mirrored(position: int, size: int) -> int:
        position = abs(position)
        return 2 * (size - 1) - position if position >= size else position

    return np.array(
        [
            [
                mirrored(y + i, height) * width + mirrored(x + j, width)
                for i in range(-half, half + 1)
                for j in range(-half, half + 1)
            ]
            for y in range(height)
            for x in range(width)
        ]
    )
