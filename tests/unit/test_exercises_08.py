"""The checks of lesson 08's exercises, as far as they need no server."""

import math
from itertools import combinations

import pytest

from serving_kit.exercises import lesson_08

# 08.1


def instances_needed(rate, milliseconds, share=0.7):
    return max(1, math.ceil(rate * milliseconds / 1000 / share))


def test_the_number_of_instances(verdict):
    assert verdict("08.1", instances_needed).startswith("Right!")


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda *_: "4", "returned a str; let it return one number"),
        (lambda r, ms, share: r * ms / 1000 / share, "There is no part of an instance; round up."),
        (lambda r, ms, share: round(r * ms / 1000 / share), "9.17 are needed; with fewer, each"),
        (lambda r, ms, share: math.ceil(r * ms / share), "A second has 1000 milliseconds."),
        (lambda r, ms, share: math.ceil(r * ms / 1000), "That many would never rest; where is the"),
        (lambda r, ms, share: math.ceil(r * ms / 1000 * share), "divide by it"),
        (lambda r, ms, share: 7, "On average 5.5 requests are being computed at a time."),
        (lambda r, ms, share: instances_needed(r, ms, share) if r else 0, "nobody asks for yet"),
    ],
)
def test_feedback_on_the_number_of_instances(verdict, answer, hint):
    assert hint in verdict("08.1", answer)


# 08.2


def part(stats, name, what="ns"):
    return stats["inference_stats"][name][what]


def busy_ns(stats):
    return sum(batch["compute_infer"]["ns"] for batch in stats["batch_stats"])


def diagnose(before, after):
    rows = after["inference_count"] - before["inference_count"]
    runs = after["execution_count"] - before["execution_count"]
    if not runs:
        return 0, 0, 0
    waited = part(after, "queue") - part(before, "queue")
    return rows / runs, waited / rows / 1e6, (busy_ns(after) - busy_ns(before)) / 1e9


EMPTY = lesson_08.statistics({1: (0, 0)}, queue_ms=0)


def test_three_numbers_from_the_counters(verdict):
    assert verdict("08.2", diagnose).startswith("Right!")


def only(index, number):
    """Return a right answer but for one of its numbers."""

    def answer(before, after):
        found = [*diagnose(before, after)]
        found[index] = number(before, after)
        return tuple(found)

    return answer


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda *_: 3.3, "returned a float; let it return three numbers"),
        (lambda *_: (1, 2), "returned 2 values; let it return three numbers"),
        (only(0, lambda b, a: diagnose(EMPTY, a)[0]), "batch: you found 2.75: that is the average"),
        (only(0, lambda b, a: 1 / (diagnose(b, a)[0] or 1)), "that is runs divided by rows"),
        (only(0, lambda *_: 4.5), "the average of two sizes"),
        (only(0, lambda *_: 7), "you found 7: expected 3.333."),
        (only(1, lambda b, a: diagnose(EMPTY, a)[1]), "in the queue: you found 15.45: that is the"),
        (only(1, lambda b, a: 1e6 * diagnose(b, a)[1]), "that is nanoseconds"),
        (only(1, lambda b, a: diagnose(b, a)[1] / 1000), "that is seconds"),
        (
            only(1, lambda b, a: (part(a, "queue") - part(b, "queue")) / 1e6),
            "that is of all requests together",
        ),
        (only(1, lambda *_: 50), "that is divided by the runs"),
        (
            only(2, lambda b, a: diagnose(EMPTY, a)[2]),
            "busy seconds: you found 0.35: that is since",
        ),
        (
            only(2, lambda b, a: (part(a, "compute_infer") - part(b, "compute_infer")) / 1e9),
            "counts a run of eight requests eight times; batch_stats",
        ),
        (only(2, lambda b, a: part(a, "compute_infer") / 1e9), "eight times, and since the server"),
        (only(2, lambda b, a: busy_ns(a) - busy_ns(b)), "that is nanoseconds"),
        (only(2, lambda b, a: 1000 * diagnose(b, a)[2]), "that is milliseconds"),
        (lambda b, a: diagnose(b, a) if a != b else (1, 0, 0), "let it return 0, 0 and 0"),
    ],
)
def test_feedback_on_the_counters(verdict, answer, hint):
    assert hint in verdict("08.2", answer)


# 08.3


def policy(size=100, seconds=0.5, action="REJECT"):
    return f"""
    dynamic_batching {{
      default_queue_policy {{
        max_queue_size: {size}
        default_timeout_microseconds: {int(seconds * 1e6)}
        timeout_action: {action}
      }}
    }}
    """


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (policy(seconds=0), "a request that has waited for half a second is not refused"),
        (policy(seconds=500), "the limit of time is 500 s, expected 0.5."),
        (policy(action="DELAY"), "with DELAY, a request that has waited too long waits on"),
        (policy(size=0), "the time is right; any number may wait, expected 100."),
        (policy(size=4), "the time is right; 4 may wait, expected 100."),
        ("dynamic_batching {", "Triton could not read this in line 1: "),
        ("\nmax_queue_size: 100", 'in line 2: there is no field "max_queue_size" here'),
    ],
)
def test_feedback_on_the_limits_of_a_queue(verdict, monkeypatch, answer, hint):
    monkeypatch.delattr(lesson_08, "empty_server")  # the text alone tells
    assert hint in verdict("08.3", answer)


# 08.4


def best_plans(sizes, ms, most):
    def time_of(rows, plans):
        total = 0
        for plan in sorted(plans, reverse=True):
            runs, rows = divmod(rows, plan)
            total += runs * ms[plan]
        return total

    def total(plans):
        return sum(count * time_of(rows, plans) for rows, count in sizes.items())

    more = [plan for plan in ms if plan != 1]
    choices = [{1, *chosen} for n in range(most + 1) for chosen in combinations(more, n)]
    return min(choices, key=total)


def test_the_best_plans(verdict):
    assert verdict("08.4", best_plans).startswith("Right!")
    assert verdict("08.4", lambda *a: sorted(best_plans(*a))).startswith("Right!")


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda *_: 8, "returned an int; let it return a set of plans"),
        (lambda *_: {1, 5}, "there is no plan for 5 rows in ms"),
        (lambda *_: {8}, "the plan for a single row is missing"),
        (lambda sizes, ms, most: set(ms), "it chose 5 plans beside the one for a single row"),
        (
            lambda *_: {1},
            "{7: 20, 1: 20}, you chose 1, which take 4,800 ms; 3,600 ms are possible.",
        ),
        (lambda *_: {1, 8}, "No batch is large enough for 8."),
        (lambda sizes, ms, most: {1, max(sizes)}, "{3: 30, 7: 2}, you chose 1, 7"),
        (
            lambda sizes, ms, most: best_plans(sizes, ms, most) | ({8} if most == 3 else set()),
            "for the runs {1: 50} you chose 1, 8, but leaving out 8 costs no time",
        ),
    ],
)
def test_feedback_on_the_plans(verdict, answer, hint):
    assert hint in verdict("08.4", answer)
