"""Lesson 13, run many servers: how many, when to change the number, and what to send again."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from serving_kit.exercises._answers import NotYet, call, describe, one_number
from serving_kit.language import _

HINTS = {
    1: (
        _(
            "Little's law: requests a second times seconds a request is the mean number of "
            "requests that are being computed, which is the number of servers that would be busy "
            "all the time."
        ),
        _(
            "A server that may be busy for 0.7 of the time does 0.7 of that work, so divide by the "
            "utilization. There are no halves of servers, and rounding down would be too few."
        ),
        _("`math.ceil(rate * seconds / utilization)`, and one to spare."),
    ),
    2: (
        _(
            "All counters grow from the start of a server on; what counts is how much each has "
            "grown between the two looks."
        ),
        _(
            "A counter that is smaller than before began at 0 again, so it has grown by what it "
            "shows now. Add up queue and compute over all servers before you divide."
        ),
        _(
            "`ratio = queue / compute`; return the number as it is where `0.9 <= ratio / target <= "
            "1.1`, else `min(max(math.ceil(servers * ratio / target), 2), 6)`. Without any compute "
            "time, the ratio is 0."
        ),
    ),
    3: (
        _(
            "Handle the three errors one by one: what does each say about where the request has "
            "been?"
        ),
        _(
            "A refused connection: nobody had the request, go on to the second server. A broken "
            "one: go on too, unless it is JSON. No response in time: stop. `servers[:2]` are the "
            "two tries."
        ),
        _(
            "A status of 500 or 503 goes on to the second server, too, unless it is JSON; remember "
            "it, as it is what the client gets when the second try gives nothing better. All other "
            "statuses are returned at once, 400 for example."
        ),
    ),
}

LEAST, MOST = 2, 6


#: Requests a second, seconds of compute for each, and how busy a server may be.
LOADS = ((50, 0.092, 0.6), (100, 0.05, 0.5), (30, 0.08, 0.7))


def exercise_1(servers_needed: Callable) -> str:
    """Check a function that says how many servers a load needs."""
    for rate, seconds, utilization in LOADS:
        found = one_number(call(servers_needed, rate, seconds, utilization))
        busy = rate * seconds
        right = math.ceil(busy / utilization) + 1
        if found == right:
            continue
        hints = {
            right - 1: _("none is to spare; what happens while a server is being replaced?"),
            busy / utilization: _("there are no parts of servers, and one is to spare."),
            busy / utilization + 1: _("there are no parts of servers."),
            math.ceil(busy): _(
                "that many would be busy nearly all the time, and the queue would grow; use the "
                "utilization, and add one to spare."
            ),
            math.ceil(busy) + 1: _("what about the utilization?"),
            math.ceil(busy * utilization) + 1: _(
                "a server that may be busy half of the time does less, not more, so divide by the "
                "utilization."
            ),
        }
        hint = next((hints[h] for h in hints if np.isclose(found, h)), _("compare with section 7."))
        raise NotYet(
            _(
                "for {rate} requests a second of {seconds} s at a utilization of {utilization}, "
                "expected {right}; you found {found:g}: {hint}"
            ).format(
                rate=rate,
                seconds=seconds,
                utilization=utilization,
                right=right,
                found=found,
                hint=hint,
            )
        )
    return _("Enough for the busiest hour, also while one of them is away.")


#: What two looks saw: before, after, the target, the number wanted, and what the trial is about.
TRIALS = (
    (
        [(9e9, 1e6), (9e9, 1e6)],
        [(9e9 + 60e6, 1e6 + 20e6), (9e9 + 60e6, 1e6 + 20e6)],
        1,
        6,
        _("queue/compute was 3 between the two looks"),
    ),
    ([(0, 0)] * 3, [(20e6, 20e6), (10e6, 10e6), (0, 5e6)], 0.5, 6, _("with a target of 0.5")),
    (
        [(5e6, 90e6), (5e6, 70e6), (5e6, 80e6)],
        [(30e6, 110e6), (25e6, 90e6), (6e6, 12e6)],
        1,
        3,
        _(
            "the third server was started again, so it counted from 0: 6 s of queue, 12 s of "
            "compute"
        ),
    ),
    ([(0, 0)] * 4, [(10.5e6, 10e6)] * 4, 1, 4, _("the ratio is 1.05, and the target 1")),
    (
        [(0, 0)] * 4,
        [(1e6, 40e6)] * 4,
        1,
        2,
        _("there is hardly a queue, but two servers must stay"),
    ),
    ([(0, 0)] * 5, [(90e6, 10e6)] * 5, 1, 6, _("the ratio is 9, but six servers are the most")),
    ([(7e6, 9e6)] * 3, [(7e6, 9e6)] * 3, 1, 2, _("no request came between the two looks")),
    ([(0, 0)] * 2, [(13e6, 10e6)] * 2, 1, 3, _("the ratio is 1.3, so 2.6 servers are wanted")),
)


def exercise_2(servers_wanted: Callable) -> str:
    """Check a function that changes the number of servers by their counters."""
    for before, after, target, right, about in TRIALS:
        found = one_number(call(servers_wanted, list(before), list(after), target))
        if found != right:
            if hint := _misconception(found, before, after, target):
                raise NotYet(
                    _("{about}: expected {right} servers, you found {found:g}; {hint}.").format(
                        about=about, right=right, found=found, hint=hint
                    )
                )
            raise NotYet(
                _("{about}: expected {right} servers, you found {found:g}.").format(
                    about=about, right=right, found=found
                )
            )
    return _("The rule of the autoscaler, with its limits, and deaf to small changes.")


def _misconception(
    found: float, before: Sequence[tuple], after: Sequence[tuple], target: float
) -> str:
    """Return what a wrong number comes from, where that can be seen."""
    whole = sum(queue for queue, _compute in after) / max(
        sum(compute for _queue, compute in after), 1
    )
    if before[0][0] and found in (round(len(after) * whole / target), min(len(after), MOST)):
        return _("that is from all that was counted since the start, not from what has grown")
    if found < LEAST:
        return _("never less than {least}").format(least=LEAST)
    if found > MOST:
        return _("never more than {most}").format(most=MOST)
    if found != int(found):
        return _("round up, as there are no parts of servers")
    ratios = [queue / compute for queue, compute in after if compute]
    if not before[0][0] and found == math.ceil(sum(ratios) / target):
        return _("that is the mean of the servers' ratios, so add up queue and compute first")
    return ""


class _Servers:
    """Servers that respond or fail in a way that was laid down; they note who was asked."""

    def __init__(self, outcomes: Sequence[object]):
        self.asked: list[int] = []
        self.functions = [self._server(n, outcome) for n, outcome in enumerate(outcomes)]

    def _server(self, number: int, outcome: object) -> Callable:
        def send(request: object) -> object:
            self.asked.append(number)
            if isinstance(outcome, type):
                raise outcome
            return outcome

        return send


REFUSED, BROKE, LATE = ConnectionRefusedError, ConnectionResetError, TimeoutError
#: What each server does, whether it is JSON, the client's status, who may be asked, and why.
DELIVERIES = (
    ([200, 200], False, 200, [0], _("the first server responds with 200")),
    ([REFUSED, 200], False, 200, [0, 1], _("the first server refuses the connection")),
    (
        [REFUSED, 200],
        True,
        200,
        [0, 1],
        _("the first server refuses the connection, so none had it"),
    ),
    ([BROKE, 200], False, 200, [0, 1], _("the first server breaks the connection")),
    (
        [BROKE, BROKE, 200],
        True,
        503,
        [0],
        _("JSON ends the first server; sent again, it ends the next one, too"),
    ),
    (
        [BROKE, BROKE, 200],
        False,
        503,
        [0, 1],
        _("two servers break the connection; what was tried twice is not tried again"),
    ),
    (
        [LATE, 200],
        False,
        503,
        [0],
        _("the first server does not respond in time, and may still work"),
    ),
    ([500, 200], False, 200, [0, 1], _("the first server's model has lost its process (500)")),
    ([503, 200], False, 200, [0, 1], _("the first server is about to stop (503)")),
    ([500, 200], True, 500, [0], _("JSON gets a 500")),
    (
        [400, 200],
        False,
        400,
        [0],
        _("the request is wrong (400), and no server will like it better"),
    ),
    ([500, REFUSED], False, 500, [0, 1], _("a 500, and then nobody at the second server")),
    ([REFUSED, REFUSED, 200], False, 503, [0, 1], _("two servers refuse the connection")),
    ([REFUSED], False, 503, [0], _("there is one server only, and it refuses the connection")),
)


def exercise_3(deliver: Callable) -> str:
    """Check a function that sends a request again where that helps, and nowhere else."""
    for outcomes, is_json, right, may_be_asked, about in DELIVERIES:
        servers = _Servers(outcomes)
        found = call(deliver, b"a request", is_json, servers.functions)
        if servers.asked != may_be_asked:
            raise NotYet(
                _("{about}: you tried server {asked}; expected server {expected}.").format(
                    about=about, asked=_listed(servers.asked), expected=_listed(may_be_asked)
                )
            )
        if found != right or isinstance(found, bool):
            what = f"{found}" if isinstance(found, int) else describe(found)
            raise NotYet(
                _("{about}: the client gets {what}; expected {right}.").format(
                    about=about, what=what, right=right
                )
            )
    return _("What is harmless is sent once more, and no request visits three servers.")


def _listed(servers: list[int]) -> str:
    return ", ".join(str(number + 1) for number in servers) or _("none")
