"""Lesson 08, batch and scale: sizing, counters, a queue that refuses, and plans for batches."""

from collections import Counter
from collections.abc import Callable

import numpy as np
from tritonclient.grpc.model_config_pb2 import ModelQueuePolicy

from serving_kit.exercises._answers import NotYet, call, describe, one_number, with_more
from serving_kit.exercises._configs import parsed
from serving_kit.exercises._plans import PLAN_MS, chosen_plans, listed, shortest_time, time_of_all
from serving_kit.exercises._slow_server import SECONDS, ask_at_once, empty_server, load
from serving_kit.exercises._statistics import statistics
from serving_kit.language import _

HINTS = {
    1: (
        _(
            "At a rate of 40 a second and 60 ms each, how many requests are being computed at a "
            "time?"
        ),
        _(
            "On average 40 * 0.06 = 2.4 of them: so many instances would never rest. Divide by the "
            "share of the time for which one may be busy."
        ),
        _(
            "There is no half instance: math.ceil(rate * milliseconds / 1000 / share). And a model "
            "that is served has at least one."
        ),
    ),
    2: (
        _("All counters grow from the start of the server on, so every number is a difference."),
        _(
            "Look at the units: the counters are in nanoseconds. And inference_stats sums over "
            "requests: a run of eight rows is in there eight times."
        ),
        _(
            "Busy: the growth of sum(batch['compute_infer']['ns'] for batch in "
            "stats['batch_stats']), divided by 1e9."
        ),
    ),
    3: (
        _("There are two limits, one of length and one of time; both belong to the same braces."),
        _("Both are in the table of section 9. The time is given in microseconds."),
        _("default_queue_policy { max_queue_size: 100 default_timeout_microseconds: ... }"),
    ),
    4: (
        _(
            "First write a function that tells how long a batch of some rows takes with given "
            "plans."
        ),
        _(
            "divmod(rows, plan) gives how often a plan fits and the rows that are left; begin with "
            "the largest plan."
        ),
        _(
            "There are few sets of plans: itertools.combinations lists them, and min(..., "
            "key=total) picks one. Do not forget the sets with fewer plans."
        ),
    ),
}

# 08.1

#: Requests a second, milliseconds each, share; instances needed.
LOADS = (
    ((50, 110, 0.6), 10),
    ((40, 60, 1.0), 3),
    ((10, 50, 0.5), 1),
    ((200, 12, 0.8), 3),
    ((0, 60, 0.7), 1),
)


def exercise_1(instances_needed: Callable) -> str:
    """Check a function that says how many instances a load needs."""
    for (rate, milliseconds, share), needed in LOADS:
        found = one_number(call(instances_needed, rate, milliseconds, share))
        if found != needed:
            told = _(
                "{rate} requests a second of {milliseconds} ms, busy for {share:g} of the time at "
                "most: you found {found:g}, expected {needed}."
            ).format(rate=rate, milliseconds=milliseconds, share=share, found=found, needed=needed)
            at_a_time = rate * milliseconds / 1000
            raise NotYet(with_more(told, _why_not(found, at_a_time, share, needed)))
    return _("As many as requests are being computed at a time, and some to spare.")


def _why_not(found: float, at_a_time: float, share: float, needed: int) -> str:
    """Name the mistake behind a wrong number of instances."""
    exact = at_a_time / share
    if not at_a_time:
        return _("A model that nobody asks for yet needs one instance to be served.")
    if np.isclose(found, exact) and exact != needed:
        return _("There is no part of an instance; round up.")
    if found == round(exact) or found == int(exact):
        return _(
            "{exact:.2f} are needed; with fewer, each is busier than that, so round up."
        ).format(exact=exact)
    if found >= 1000 * needed / 2:
        return _("A second has 1000 milliseconds.")
    if np.isclose(found, np.ceil(at_a_time)) or np.isclose(found, round(at_a_time)):
        return _("That many would never rest; where is the share?")
    if np.isclose(found, np.ceil(at_a_time * share)):
        return _("A smaller share makes more instances necessary: divide by it.")
    return _("On average {at_a_time:g} requests are being computed at a time.").format(
        at_a_time=at_a_time
    )


# 08.2


def exercise_2(diagnose: Callable) -> str:
    """Check a function that reads three numbers out of two looks at a model's statistics."""
    before = statistics({1: (5, 10)}, queue_ms=100)
    after = statistics({1: (15, 10), 8: (5, 40)}, queue_ms=850)
    batch, queue, busy = _three_numbers(call(diagnose, before, after))
    # In between: 10 runs of 1 row and 5 of 8, which are 50 requests.
    _compare(
        _("the average batch"),
        batch,
        50 / 15,
        {
            55 / 20: _("that is the average since the server started; what happened in between?"),
            15 / 50: _("that is runs divided by rows."),
            4.5: _(
                "that is the average of two sizes; but there were more runs of one than of the "
                "other."
            ),
        },
    )
    _compare(
        _("the milliseconds in the queue"),
        queue,
        15.0,
        {
            850 / 55: _("that is the average since the server started; what happened in between?"),
            15e6: _("that is nanoseconds."),
            15e-3: _("that is seconds."),
            750.0: _("that is of all requests together."),
            50.0: _("that is divided by the runs; each request waited for itself."),
        },
    )
    _compare(
        _("the busy seconds"),
        busy,
        0.3,
        {
            0.35: _("that is since the server started; what happened in between?"),
            1.7: _(
                "that counts a run of eight requests eight times; batch_stats has each run once."
            ),
            1.75: _(
                "that counts a run of eight requests eight times, and since the server started."
            ),
            0.3e9: _("that is nanoseconds."),
            300.0: _("that is milliseconds."),
            0.05: _("that counts each size of a batch once; there were several runs of each."),
        },
    )
    idle = _three_numbers(call(diagnose, after, after))
    if not np.allclose(idle, 0):
        raise NotYet(_("right, but where nothing happened in between, let it return 0, 0 and 0."))
    return _("Batches, waiting and work: three numbers that tell what to change first.")


def _three_numbers(found: object) -> tuple[float, float, float]:
    if not isinstance(found, tuple | list) or len(found) != 3:
        what = (
            describe(found)
            if not isinstance(found, tuple | list)
            else _("{found} values").format(found=len(found))
        )
        raise NotYet(
            _(
                "your function returned {what}; let it return three numbers: rows of an average "
                "batch, milliseconds in the queue, seconds busy."
            ).format(what=what)
        )
    return tuple(one_number(each) for each in found)


def _compare(what: str, found: float, expected: float, hints: dict[float, str]) -> None:
    """Say what a wrong number is.

    Raises:
        NotYet: it is not the expected one.
    """
    if not np.isclose(found, expected):
        hint = next(
            (hints[h] for h in hints if np.isclose(found, h)),
            _("expected {expected:.4g}.").format(expected=expected),
        )
        raise NotYet(
            _("{what}: you found {found:.4g}: {hint}").format(what=what, found=found, hint=hint)
        )


# 08.3

AT_ONCE = 8
MAY_WAIT = 100
MICROSECONDS = 500_000


def exercise_3(policy: str) -> str:
    """Check lines of config.pbtxt that have Triton refuse what is too much."""
    config = parsed(policy)
    if config.dynamic_batching.HasField("default_queue_policy"):
        _check_limits(config.dynamic_batching.default_queue_policy)
    with empty_server() as server:
        load(server, policy)
        said = Counter(ask_at_once(server.url, AT_ONCE))
    _check_flood(said)
    return _("{answered} of {requests} were answered, the others refused.").format(
        answered=said["answered"], requests=AT_ONCE
    )


def _check_limits(limits: ModelQueuePolicy) -> None:
    """Look whether both limits are there, and as asked for."""
    found = limits.default_timeout_microseconds
    if not found:
        raise NotYet(
            _("a request that has waited for half a second is not refused; what limits the time?")
        )
    if found != MICROSECONDS:
        raise NotYet(
            _("the limit of time is {found:g} s, expected {expected:g}.").format(
                found=found / 1e6, expected=MICROSECONDS / 1e6
            )
        )
    if limits.timeout_action != ModelQueuePolicy.REJECT:
        raise NotYet(
            _("with DELAY, a request that has waited too long waits on, behind all others.")
        )
    found = limits.max_queue_size
    if found != MAY_WAIT:
        waiting = found or _("any number")
        raise NotYet(
            _("the time is right; {waiting} may wait, expected {expected}.").format(
                waiting=waiting, expected=MAY_WAIT
            )
        )


def _check_flood(said: Counter) -> None:
    """Find out whether some were answered, and the others refused."""
    strange = [words for words in said if words != "answered" and "[503]" not in words]
    if strange:
        raise NotYet(_("Triton loads it, but responds: {response}").format(response=strange[0]))
    if said["answered"] == AT_ONCE:
        raise NotYet(
            _(
                "all {requests} requests were answered, the last after {seconds:g} s; none was "
                "refused."
            ).format(requests=AT_ONCE, seconds=AT_ONCE * SECONDS)
        )


# 08.4

#: Runs of each number of rows, and how many plans there may be beside that for one row.
CHOICES = (
    ({7: 20, 1: 20}, 1),
    ({3: 30, 7: 2}, 1),
    ({8: 10, 4: 10, 1: 5}, 2),
    ({6: 40, 2: 40}, 2),
    ({1: 50}, 3),
)


def exercise_4(best_plans: Callable) -> str:
    """Check a function that chooses the plans for the batches that were counted."""
    for sizes, most in CHOICES:
        found = call(best_plans, dict(sizes), dict(PLAN_MS), most)
        chosen = chosen_plans(found, most)
        fastest = shortest_time(sizes, most)
        if (took := time_of_all(sizes, chosen)) > fastest:
            told = _(
                "with at most {most} beside 1 and the runs {sizes}, you chose {chosen}, which take "
                "{took:,} ms; {fastest:,} ms are possible."
            ).format(most=most, sizes=sizes, chosen=listed(chosen), took=took, fastest=fastest)
            if too_large := {plan for plan in chosen if plan > max(sizes)}:
                why = _("No batch is large enough for {plans}.").format(plans=listed(too_large))
                raise NotYet(with_more(told, why))
            raise NotYet(told)
        if idle := {plan for plan in chosen - {1} if time_of_all(sizes, chosen - {plan}) <= took}:
            raise NotYet(
                _(
                    "for the runs {sizes} you chose {chosen}, but leaving out {idle} costs no "
                    "time, and a plan costs memory."
                ).format(sizes=sizes, chosen=listed(chosen), idle=listed(idle))
            )
    return _("The plans that fit the batches there are, and no others.")
