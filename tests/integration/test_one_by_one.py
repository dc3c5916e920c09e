"""Each operator that the backend runs one by one gives the bits that OneFlow's graphs give."""

import json
import os
import subprocess
import sys
from pathlib import Path

import oneflow as flow
import pytest
from oneflow.core.job.job_pb2 import Job

from oneflow_backend.one_by_one import OPERATORS, OneByOne, suits

SECONDS = 300
PROGRAM = Path(__file__).with_name("compare_engines.py")


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """What both engines make of all cases; in a process of its own, as OneFlow may end it."""
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
    assert compared["differ"] == []


def test_all_operators_that_may_be_run_so_are_compared(compared):
    assert {*compared["kinds"]} - {""} == OPERATORS


def test_what_needs_another_is_run_as_a_graph(compared):
    assert not any(compared["others"].values()), compared["others"]


def test_a_job_may_have_its_operators_in_any_order():
    """And may be deeper than Python calls itself."""
    names = [f"negative-{i}" for i in range(2 * sys.getrecursionlimit() + 1)]
    job = Job()
    last = job.net.op.add(name="out").output_conf
    setattr(last, "in", f"{names[-1]}/y_0")
    for name, read in reversed([*zip(names, ["in", *names], strict=False)]):
        op = job.net.op.add(name=name).user_conf
        op.op_type_name = "negative"
        op.input["x"].s.append("in/out" if read == "in" else f"{read}/y_0")
        op.output["y"].s.append(f"{name}/y_0")
        op.output_order.append("y")
    job.net.op.add(name="in").input_conf.out = "out"
    assert suits(job)
    network = OneByOne(
        job, input_names=["in"], output_names=["out"], variables=[], variable_names=[]
    )
    (answer,) = network.run([flow.ones(3)])
    assert answer.tolist() == [-1, -1, -1]
