"""When a Triton that ended by itself is started again, and what is said about it."""

import signal
from collections.abc import Sequence

#: So long Triton stays away, in seconds, after the first, second, ... end within a minute.
PAUSES = (0, 1, 2, 4)
WINDOW_SECONDS = 60


def pause_after(ends: Sequence[float]) -> float | None:
    """Return after how many seconds Triton is to be started again; None to give up.

    Args:
        ends: when it ended by itself, in seconds and in order; the last is the one in question.
    """
    recent = sum(ends[-1] - end < WINDOW_SECONDS for end in ends)
    return PAUSES[recent - 1] if recent <= len(PAUSES) else None


def describe(name: str, code: int, seconds: float) -> str:
    """Say how a program ended, from its exit code as subprocess gives it and the age it reached."""
    if code < 0:
        how = f"was ended by signal {-code} ({signal.Signals(-code).name})"
    else:
        how = f"ended with exit code {code}"
    return f"{name} {how} after {seconds:.0f} s"


def announce(end: str, restarts: int, pause: float | None) -> str:
    """Say what follows an end: ``restarts`` counts all starts but the first, this one included."""
    if pause is None:
        ends = len(PAUSES) + 1
        return f"{end}, the {ordinal(ends)} time within {WINDOW_SECONDS} s; not started again"
    when = f" in {pause:.0f} s" if pause else ""
    return f"{end}; started again{when} ({ordinal(restarts)} time)"


def ordinal(number: int) -> str:
    """Return 1st, 2nd, 3rd, 4th, ..."""
    last = number % 10 if number % 100 not in (11, 12, 13) else 0
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(last, 'th') }"
