"""How the benchmarks sum up what they saw."""

import contextlib
import importlib
import sys

import numpy as np
import pytest

from serving_kit.paths import ROOT


@pytest.fixture
def turns(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    yield importlib.import_module("turns")
    sys.modules.pop("turns")


def test_a_busy_minute_that_meets_both_does_not_change_their_ratio(turns):
    quiet, busy = [[10.0], [10.0, 12.0], [10.0]], [[30.0], [30.0, 34.0]]
    one = turns.Summary.of(quiet + busy)
    assert (one.turns, one.runs) == (quiet + busy, 7)
    assert (one.least, one.median) == (10.0, 12.0)
    other = turns.Summary.of([[2 * ms for ms in turn] for turn in quiet + busy])
    assert other.over(one) == 2.0
    assert one.over(turns.Summary.of([[20.0], [11.0], [10.0], [30.0], [32.0]])) == 1.0


def test_the_true_ratio_is_mostly_where_it_is_said_to_be(turns):
    random = np.random.default_rng(0)
    hits = 0
    for _ in range(100):
        # The median of each is 1; noise of this kind is far from normal.
        mine, its = (np.exp(0.1 * random.standard_t(2, (50, 1))).tolist() for _ in range(2))
        low, high = turns.Summary.of(mine).interval_over(turns.Summary.of(its))
        hits += low <= 1 <= high
    assert 84 <= hits <= 97
    one = turns.Summary.of([[3.0]])
    assert one.interval_over(turns.Summary.of([[2.0]])) == (1.5, 1.5)


def test_a_turn_counts_all_but_its_first_run(turns):
    calls = []
    assert len(turns.turn_of(lambda: calls.append(1), seconds=0)) == 1
    assert len(calls) == 2


def test_who_breaks_down_takes_no_more_turns(turns):
    def breaks():
        raise turns.ContestantError("out of memory")

    seen = turns.take_turns({"one": breaks, "other": lambda: [5.0]}, rounds=3)
    assert seen["one"] == "out of memory"
    assert (seen["other"].runs, seen["other"].median) == (3, 5.0)


def test_a_turn_may_be_a_single_run(turns):
    calls = []
    assert len(turns.run_of(lambda: calls.append(1))) == 1
    assert len(calls) == 1


def test_each_round_has_an_order_of_its_own(turns):
    called = []
    ways = {name: lambda name=name: called.append(name) or [1.0] for name in "abc"}
    turns.take_turns(ways, rounds=60)
    rounds = ["".join(called[i : i + 3]) for i in range(0, len(called), 3)]
    assert len(rounds) == 61
    assert set(rounds) == {"abc", "acb", "bac", "bca", "cab", "cba"}


def test_a_contestant_has_the_turns_it_is_told_to(turns, tmp_path):
    program = tmp_path / "program.py"
    program.write_text("from turns import answer_turns\nanswer_turns(lambda: None)\n")
    where = {"PYTHONPATH": str(ROOT / "benchmarks")}
    with contextlib.closing(turns.Contestant([sys.executable, program], where)) as contestant:
        assert len(contestant.run()) == 1
        assert len(contestant.turn()) > 1


def test_sittings_are_put_together(turns):
    first = {"one": turns.Summary.of([[1.0], [3.0]]), "other": turns.Summary.of([[2.0], [6.0]])}
    later = {"one": turns.Summary.of([[2.0]]), "other": "out of memory"}
    seen = turns.together([first, later])
    assert (seen["one"].turns, seen["one"].runs) == ([[1.0], [3.0], [2.0]], 3)
    assert seen["other"] == "out of memory"
