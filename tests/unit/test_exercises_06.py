"""The checks of lesson 06's exercises, as far as they need no server."""

import threading

import pytest

from serving_kit.exercises import lesson_06
from serving_kit.exercises._answers import NotYet
from serving_kit.exercises._in_time import call_in_time


def test_a_function_that_does_not_return_is_left_to_itself():
    end = threading.Event()
    with pytest.raises(NotYet, match="still at work after 0 seconds"):
        call_in_time(end.wait, seconds=0.2)
    end.set()


# 06.2


def mean_milliseconds(before, after, part="success", unit=1e6):
    first, last = (s["model_stats"][0]["inference_stats"][part] for s in (before, after))
    count = last["count"] - first["count"]
    return (last["ns"] - first["ns"]) / count / unit if count else 0.0


def test_the_mean_time_of_a_request(verdict):
    assert verdict("06.2", mean_milliseconds).startswith("Right!")


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda before, after: mean_milliseconds(lesson_06.statistics(0, 0), after), "in between"),
        (lambda before, after: 2 * mean_milliseconds(before, after), "how many were they?"),
        (lambda before, after: mean_milliseconds(before, after, unit=1), "that is nanoseconds"),
        (lambda before, after: mean_milliseconds(before, after, unit=1e9), "that is seconds"),
        (lambda before, after: mean_milliseconds(before, after, "compute_infer"), "model's part"),
        (lambda before, after: 7, "you found 7 for two requests"),
        (lambda before, after: "150", "returned a str"),
        (lambda before, after: 150, "without a request in between, let it return 0"),
    ],
)
def test_hints_on_the_mean_time(verdict, answer, hint):
    assert hint in verdict("06.2", answer)


def test_a_division_by_zero_is_named(verdict):
    def answer(before, after):
        count = lambda s: s["model_stats"][0]["inference_stats"]["success"]["count"]  # noqa: E731
        return mean_milliseconds(before, after) + 0 / (count(after) - count(before))

    assert "ZeroDivisionError" in verdict("06.2", answer)
