"""The checks of lesson 11's exercises: right answers pass, wrong ones get their own feedback."""

from statistics import fmean, median

import numpy as np
import pytest

# 11.1


def speedup(spent, possible):
    total = sum(spent.values())
    return {kind: total / (total - ms + ms / possible[kind]) for kind, ms in spent.items()}


def test_what_a_fix_is_worth(verdict):
    told = verdict("11.1", speedup)
    assert told == "Right! Norm first: 1.8 times; making Pad 50 times as fast gives only 1.1."
    assert speedup({"a": 600, "b": 400}, {"a": 4, "b": 1}) == {"a": 1000 / 550, "b": 1}


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda spent, possible: possible, "you say 4 for the whole"),
        (lambda spent, possible: {"Norm": 1.8}, "it has the kinds ['Norm'], expected ['Conv', 'N"),
        (lambda spent, possible: dict.fromkeys(spent), "you say None for the whole"),
        (lambda spent, possible: 1.8, "it returned a float"),
    ],
)
def test_feedback_on_fixes(verdict, answer, hint):
    assert hint in verdict("11.1", answer)


# 11.2


def compare(first, second, clock, rounds, *, warm=True, waits=True, turns=True, mean=median):
    took = {first: [], second: []}

    def once(run):
        began = clock()
        result = run()
        if waits:
            result.numpy()
        took[run].append(clock() - began)

    if warm:
        first().numpy(), second().numpy()
    order = [first, second] * rounds if turns else [first] * rounds + [second] * rounds
    for run in order:
        once(run)
    return [mean(seconds) for seconds in took.values()]


def test_a_stopwatch_that_can_be_trusted(verdict):
    assert verdict("11.2", compare).startswith("Right! Waited for, warm, in turns")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"waits": False}, "nothing goes wrong, your seconds are 1e-06 and 1e-06, not 2 to 1: you"),
        ({"mean": sum}, "your seconds are 0.18, expected 0.02: one call of each"),
        ({"warm": False, "mean": fmean}, "the first run counts in your result"),
        ({"mean": fmean}, "one bad moment changes your result"),
        ({"mean": max}, "one bad moment changes your result"),
        ({"turns": False}, "Let them take turns"),
    ],
)
def test_feedback_on_stopwatches(verdict, options, told):
    assert told in verdict("11.2", lambda *arguments: compare(*arguments, **options))


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda first, second, clock, rounds: None, "it returned None; let it return two numbers"),
        (lambda first, second, clock, rounds: compare(first, second, clock, 3), "ran only 4 times"),
    ],
)
def test_stopwatches_that_do_something_else(verdict, answer, told):
    assert told in verdict("11.2", answer)


# 11.3


def window_index(height, width, kernel, mode="reflect"):
    places = np.arange(height * width, dtype=np.int32).reshape(height, width)
    padded = np.pad(places, kernel // 2, mode=mode)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel))
    return windows.reshape(-1, kernel * kernel)


def test_an_index_for_windows(verdict):
    assert verdict("11.3", window_index).startswith("Right! A gather with this index")


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda *a: window_index(*a, mode="edge"), "pixel 0 sees the rows [0, 0, 1, 0, 0, 1, 5, 5"),
        (lambda h, w, k: window_index(h, w, k)[: h * w - 1], "shape is (24, 9), expected (25, 9)"),
        (lambda h, w, k: window_index(w, h, k), "for 6 x 9 pixels and a 3 x 3 kernel pixel 0"),
        (lambda *a: window_index(*a).astype(np.int64), "the numbers are right, but int64"),
        (lambda *a: window_index(*a).tolist(), "it returned a list"),
    ],
)
def test_feedback_on_windows(verdict, answer, hint):
    assert hint in verdict("11.3", answer)
