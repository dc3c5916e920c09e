"""Each operator that the backend runs one by one gives the bits that OneFlow's graphs give."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = 300
PROGRAM = Path(__file__).with_name("compare_engines.py")


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """What both engines made of each case; in a process of its own, as OneFlow may end it."""
    if len(os.sched_getaffinity(0)) < 2 and os.environ.get("CI") != "true":
        pytest.skip("operators are run one by one where there are two cores")
    done = subprocess.run(
        [sys.executable, PROGRAM, tmp_path_factory.mktemp("graphs")],
        env={**os.environ, "GLOG_minloglevel": "3"},
        capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_both_engines_give_the_same_bits(compared):
    assert {name for name, case in compared["cases"].items() if not case["equal"]} == set()


def test_all_operators_that_may_be_run_so_are_compared(compared):
    cases = [case for case in compared["cases"].values() if case["one by one"]]
    assert {kind for case in cases for kind in case["kinds"]} == {*compared["operators"]}


def test_what_needs_another_is_run_as_a_graph(compared):
    as_graphs = [name for name, case in compared["cases"].items() if not case["one by one"]]
    assert as_graphs == compared["others"]
