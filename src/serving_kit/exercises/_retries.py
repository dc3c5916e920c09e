"""Checking a function that retries, on a clock of our own: seconds pass only when it sleeps."""

import time
from collections.abc import Callable
from statistics import mean, median

from tritonclient.utils import InferenceServerException

from serving_kit.exercises._answers import NotYet, call, describe
from serving_kit.language import _

#: What the function is given, and for how long the server is away in the runs that end well.
SECONDS, OUTAGE = 10.0, 3.0
#: How long a request takes.
REQUEST_SECONDS = 0.02
MAX_ATTEMPTS = 300
#: Real ones: a function that sleeps with time.sleep would take minutes.
MAX_REAL_SECONDS = 2
RUNS = 60
#: How much longer the fourth pause has to be than the first, on average.
GROWTH = 1.5


class _Stop(BaseException):
    """Ends a function that would go on forever, through whatever it catches."""


class _Server:
    """A server that fails until some second, and the clock that goes with it."""

    def __init__(self, error: Callable[[], Exception], until: float):
        self._error, self._until = error, until
        self._began = time.monotonic()
        self.now, self.has_ended_it = 0.0, False
        self.attempts, self.pauses, self.raised = [], [], []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(float(seconds))
        self.now += max(0.0, float(seconds))

    def send(self) -> str:
        if len(self.attempts) == MAX_ATTEMPTS:
            raise _Stop
        if self.attempts and time.monotonic() - self._began > MAX_REAL_SECONDS:
            raise _Stop
        self.attempts.append(self.now)
        self.now += REQUEST_SECONDS
        if self.now < self._until:
            self.raised.append(self._error())
            raise self.raised[-1]
        return "painting"


def check(function: Callable) -> None:
    """Raise ``NotYet`` with the first thing that is wrong with a function that retries."""
    _check_success(function)
    for error in (_wrong_request, _wrong_array):
        _check_gives_up_at_once(function, error)
    for error in (_refused, _unavailable):
        _check_outage(function, error)
    runs = [_check_deadline(function) for _run_number in range(RUNS)]
    _check_patience(runs)
    _check_pauses(runs)


def _refused() -> Exception:
    return ConnectionRefusedError(111, "Connection refused")


def _unavailable() -> Exception:
    return InferenceServerException("the server is overloaded", status="503")


def _wrong_request() -> Exception:
    return InferenceServerException("unexpected shape for input 'INPUT_0'", status="400")


def _wrong_array() -> Exception:
    return InferenceServerException("got unexpected datatype FP64 from numpy array, expected FP32")


def _run(function: Callable, server: _Server) -> tuple[object, Exception | None]:
    """Return what the function returned, and the server's error that it let through."""
    try:
        return call(function, server.send, SECONDS, server.sleep, server.clock), None
    except NotYet as hint:
        if any(hint.__cause__ is error for error in server.raised):
            return None, hint.__cause__
        raise
    except _Stop:
        server.has_ended_it = True
        return None, None


def _check_that_it_ends(server: _Server) -> None:
    if not server.has_ended_it:
        return
    if not server.pauses:
        told = _(
            "{attempts} attempts in {now:.1f} s, without a pause: call the `sleep` that it is "
            "given."
        )
    elif server.now > SECONDS:
        told = _(
            "{attempts} attempts in {now:.1f} s; it was given {given:.0f}. What does `clock` say?"
        )
    else:
        told = _(
            "{attempts} attempts in {now:.1f} s of the clock are a flood; make the pauses longer."
        )
    raise NotYet(told.format(attempts=len(server.attempts), now=server.now, given=SECONDS))


def _check_success(function: Callable) -> None:
    server = _Server(_refused, until=0)
    found, _raised = _run(function, server)
    if found != "painting":
        raise NotYet(
            _("it returned {what}; let it return what send() returned.").format(
                what=describe(found)
            )
        )
    if len(server.attempts) > 1 or server.pauses:
        raise NotYet(_("the first attempt succeeded, and yet it went on."))


def _check_gives_up_at_once(function: Callable, error: Callable[[], Exception]) -> None:
    server = _Server(error, until=float("inf"))
    _found, raised = _run(function, server)
    if len(server.attempts) > 1:
        raise NotYet(
            _(
                "an error that will come again ({error}) was tried {attempts} times; what is its "
                "status()?"
            ).format(error=error(), attempts=len(server.attempts))
        )
    if raised is None:
        raise NotYet(
            _(
                "an error that will come again ({error}) was swallowed; raise it, so that somebody "
                "can fix the request."
            ).format(error=error())
        )


def _check_outage(function: Callable, error: Callable[[], Exception]) -> None:
    server = _Server(error, until=OUTAGE)
    _found, raised = _run(function, server)
    _check_that_it_ends(server)
    if raised is not None:
        raise NotYet(
            _(
                "the server was away for {outage:.0f} of {given:.0f} seconds ({raised}), and it "
                "gave up after {now:.1f}."
            ).format(outage=OUTAGE, given=SECONDS, raised=raised, now=server.now)
        )


def _check_deadline(function: Callable) -> _Server:
    server = _Server(_refused, until=float("inf"))
    found, raised = _run(function, server)
    _check_that_it_ends(server)
    if raised is None:
        raise NotYet(
            _(
                "the server never came back, and it returned {what}; let it raise the last error."
            ).format(what=describe(found))
        )
    if raised is not server.raised[-1]:
        raise NotYet(_("it raised an earlier error; let it raise the last one."))
    if max(server.attempts) > SECONDS:
        raise NotYet(
            _("its last attempt began after {began:.1f} s; it was given {given:.0f}.").format(
                began=max(server.attempts), given=SECONDS
            )
        )
    if server.now > SECONDS + REQUEST_SECONDS:
        raise NotYet(
            _(
                "it made its last pause in vain: it gave up after {now:.1f} s and was given "
                "{given:.0f}. Raise before a pause that would end too late."
            ).format(now=server.now, given=SECONDS)
        )
    return server


def _check_patience(runs: list[_Server]) -> None:
    last = median(max(run.attempts) for run in runs)
    if last < SECONDS / 4:
        raise NotYet(
            _(
                "it was given {given:.0f} s and gave up after {last:.1f}; a server that comes back "
                "later than that is missed."
            ).format(given=SECONDS, last=last)
        )


def _check_pauses(runs: list[_Server]) -> None:
    fewest = min(len(run.pauses) for run in runs)
    if fewest < 2:
        raise NotYet(
            _("{pauses} pauses in {given:.0f} s are few; begin with a shorter one.").format(
                pauses=fewest, given=SECONDS
            )
        )
    first = [run.pauses[0] for run in runs]
    if len(set(first)) == 1:
        raise NotYet(
            _(
                "its first pause is always {pause:g} s: all clients of a server that failed would "
                "come back at the same moment."
            ).format(pause=first[0])
        )
    later = [run.pauses[min(3, fewest - 1)] for run in runs]
    if mean(later) < GROWTH * mean(first):
        raise NotYet(
            _(
                "its pauses do not grow: {first:.2f} s at first and {later:.2f} s later, on "
                "average."
            ).format(first=mean(first), later=mean(later))
        )
