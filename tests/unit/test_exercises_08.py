"""The checks of lesson 08's exercises, as far as they need no server."""

import re

import pytest

from serving_kit.exercises import lesson_08

# 08.1


def totals(text, name, model):
    found = re.findall(rf'^{name}\{{model="{model}",version="(\d+)"\}} (\S+)$', text, re.M)
    return {int(version): float(number) for version, number in found}


def averages(before, after, model, versions=(1, 2)):
    """Return rows and runs of some versions between two texts."""
    return [
        sum(totals(after, name, model)[v] - totals(before, name, model)[v] for v in versions)
        for name in ("nv_inference_count", "nv_inference_exec_count")
    ]


def average_batch(before, after, model, **more):
    rows, runs = averages(before, after, model, **more)
    return rows / runs if runs else 0.0


NOTHING = lesson_08.metrics(painter=[(0, 0)], finder=[(0, 0), (0, 0)])


def test_the_average_batch(verdict):
    assert verdict("08.1", average_batch).startswith("Right!")


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda *_: "8", "returned a str; let it return one number"),
        (lambda *_: 7, "you found 7 for 240 rows in 30 runs: expected 8."),
        (
            lambda before, after, model: average_batch(before, after, "painter", versions=(1,)),
            "that is the painter's, which comes first",
        ),
        (
            lambda before, after, model: average_batch(NOTHING, after, "painter", versions=(1,)),
            "that is the painter's since the server started",
        ),
        (lambda before, after, model: average_batch(NOTHING, after, model), "in between?"),
        (lambda *texts: average_batch(*texts, versions=(1,)), "that is version 1 alone"),
        (lambda *texts: average_batch(*texts, versions=(2,)), "that is version 2 alone"),
        (
            lambda *texts: sum(average_batch(*texts, versions=(v,)) for v in (1, 2)) / 2,
            "the average of two averages",
        ),
        (lambda *texts: 1 / average_batch(*texts), "that is runs through rows"),
        (lambda *texts: averages(*texts)[0], "in how many runs?"),
        (lambda *texts: average_batch(*texts) or 1.0, "without a run in between, let it return 0"),
    ],
)
def test_hints_on_the_average_batch(verdict, answer, hint):
    assert hint in verdict("08.1", answer)


# 08.2


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
        (policy(seconds=0), "nobody is refused who has waited for half a second"),
        (policy(seconds=500), "the limit of time is 500 s, expected 0.5."),
        (policy(action="DELAY"), "with DELAY, who has waited too long waits on"),
        (policy(size=0), "the time is right; as many as like may wait, expected 100."),
        (policy(size=4), "the time is right; 4 may wait, expected 100."),
        ("dynamic_batching {", "Triton could not read this in line 1: "),
        ("\nmax_queue_size: 100", 'in line 2: there is no field "max_queue_size" here'),
    ],
)
def test_hints_on_the_limits_of_a_queue(verdict, monkeypatch, answer, hint):
    monkeypatch.delattr(lesson_08, "empty_server")  # the text alone tells
    assert hint in verdict("08.2", answer)
