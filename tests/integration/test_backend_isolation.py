"""A worker that is killed at any moment is replaced, and no response is taken for another.

OneFlow is left out of most: these workers respond at once, so that many kills fit into a second or
two. ``test_crashes.py`` kills real ones.
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path

import numpy as np
import oneflow as flow
import pytest
from oneflow import nn

from oneflow_backend import isolation, worker_process
from oneflow_backend.graph_folder import GraphFolder, TensorSpec
from oneflow_backend.isolation import IsolatedGraph
from oneflow_backend.worker_process import WorkerDied, WorkerError
from serving_kit.paths import BACKENDS

SECONDS = 60
FLOAT32 = 2
FOLDER = GraphFolder(
    Path("model"), (TensorSpec("a", FLOAT32, (1, 3)),), (TensorSpec("y", FLOAT32, (1, 3)),), ()
)

WORKER = """\
import json, os, socket, sys, time
order = json.loads(sys.argv[1])
parent = socket.socket(fileno=order["socket"])
parent.send(json.dumps({"plans": [1], "reason": ""}).encode())
while request := parent.recv(256):
    begin, rows = map(int, request.split())
    if rows == 3:
        time.sleep(3600)
    if rows == 4:
        os.abort()
    if rows >= 5:
        for done in range(begin + 1, rows):
            time.sleep(0.05)
            if done == 6 and rows == 8 and begin == 0:
                os.abort()
            parent.send(b"%d" % done)
    parent.send(b'{"error": "no"}' if rows == 2 else b"done")
"""


@pytest.fixture
def make_graph(tmp_path, monkeypatch):
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    monkeypatch.setattr(worker_process, "WORKER", script)
    graphs, log = [], []

    def make(retries=3, run_seconds=60):
        graph = IsolatedGraph(
            FOLDER, "cpu", rows=8, batch_sizes=None, run_seconds=run_seconds, retries=retries,
            log=log.append,
        )  # fmt: skip
        graphs.append(graph)
        return graph, log

    yield make
    for graph in graphs:
        graph.close()


@pytest.mark.parametrize("kills", [20, pytest.param(150, marks=pytest.mark.long)])
def test_kills_at_any_moment_cost_no_request(make_graph, kills):
    graph, _ = make_graph(retries=50)
    done, errors, end = [0], [], threading.Event()

    def send():
        while not end.is_set():
            try:
                graph.run(1)
            except Exception as error:
                errors.append(error)
            done[0] += 1

    client = threading.Thread(target=send, daemon=True)
    client.start()
    pause, random_seconds = threading.Event(), random.Random(0)
    try:
        for _ in range(kills):
            with contextlib.suppress(ProcessLookupError):
                os.kill(graph.worker_pid, signal.SIGKILL)
            before, waited = done[0], 0.0
            while done[0] < before + 2:
                pause.wait(0.001)
                waited += 0.001
                assert waited < SECONDS, f"hangs after {graph.restarts} restarts"
            pause.wait(random_seconds.random() * 0.003)
    finally:
        end.set()
    client.join(SECONDS)
    assert not errors
    assert graph.restarts >= kills / 2


def test_an_error_of_oneflow_is_passed_on_and_harms_nothing(make_graph):
    graph, _ = make_graph()
    with pytest.raises(WorkerError, match=r"^no$"):
        graph.run(2)
    graph.run(1)
    assert graph.restarts == 0


def test_a_hang_ends_after_its_deadline(make_graph):
    graph, log = make_graph(retries=1, run_seconds=0.2)
    with pytest.raises(WorkerDied, match=r"died 2 times on .* not end within 0\.2 s"):
        graph.run(3)
    graph.run(1)
    assert graph.restarts == 2
    too_slow = (
        "a run did not end within 0.2 s; if the graph is that slow, raise run_timeout_seconds"
    )
    assert log == [f"OneFlow's process died, and is replaced: {too_slow} in config.pbtxt"] * 2


def test_the_limit_is_for_one_run_and_a_retry_goes_on_where_the_worker_died(make_graph):
    graph, log = make_graph(retries=1, run_seconds=0.7)
    done = []
    graph.run(20, done=done.append)  # takes 0.95 s
    assert (done, log) == (list(range(1, 20)), [])
    done.clear()
    graph.run(8, done=done.append)
    assert (done, len(log)) == (list(range(1, 8)), 1)


def test_a_run_that_hangs_while_the_graph_is_loaded_ends_after_its_deadline(
    make_graph, monkeypatch, tmp_path
):
    monkeypatch.setattr(isolation, "FIRST_RUN_SECONDS", 0.3)
    hangs_once = f"""\
from pathlib import Path
parent.send(b'{{"trial": "zeros", "runs": 1}}')
if not Path({str(tmp_path / "hung")!r}).exists():
    Path({str(tmp_path / "hung")!r}).touch()
    time.sleep(3600)
parent.send(b'{{"trial": ""}}')
time.sleep(0.4)  # what is not a run has all the time that loading has
parent.send"""
    (tmp_path / "worker.py").write_text(WORKER.replace("parent.send", hangs_once, 1))
    graph, log = make_graph(run_seconds=0.2)
    graph.run(1)
    assert log == [
        "OneFlow's process died during a trial run of the graph on zeros, which is skipped from "
        "now on: a run did not end within 0.3 s; if the graph is that slow, raise "
        "run_timeout_seconds in config.pbtxt"
    ]


@pytest.mark.parametrize("crashes", [1, 2])
def test_a_trial_that_may_have_crashed_by_chance_is_made_once_more(make_graph, tmp_path, crashes):
    crash = f"""\
from pathlib import Path
count = Path({str(tmp_path / "crashes")!r})
if "zeros" not in order["left_out"]:
    parent.send(b'{{"trial": "zeros", "runs": 1}}')
    count.open("a").write("x")
    if count.stat().st_size <= {crashes}:
        os.kill(os.getpid(), 11)
    parent.send(b'{{"trial": ""}}')
parent.send"""
    (tmp_path / "worker.py").write_text(WORKER.replace("parent.send", crash, 1))
    graph, log = make_graph()
    graph.run(1)
    assert len(log) == crashes
    assert ["which is skipped" in line for line in log] == [False, True][:crashes]


def test_poison_is_tried_as_often_as_told(make_graph):
    graph, _ = make_graph(retries=2)
    with pytest.raises(WorkerDied, match="died 3 times on this request: OneFlow ended its"):
        graph.run(4)
    graph.run(1)
    assert graph.restarts == 3


def test_closing_leaves_no_process_and_no_descriptor(make_graph):
    def descriptors():
        return len(list(Path("/proc/self/fd").iterdir()))

    graph, _ = make_graph()
    before = descriptors()
    graph.run(1)
    pid = graph.worker_pid
    graph.close()
    assert not Path(f"/proc/{pid}").exists()
    assert descriptors() < before
    graph.close()  # once more does no harm


def test_a_choice_of_pages_that_was_made_is_left_alone(monkeypatch):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    assert worker_process.environment()["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.arena_max=1")
    assert "GLIBC_TUNABLES" not in worker_process.environment()


class Sine(nn.Module):
    """A function of a number without a shape."""

    def forward(self, x):
        return flow.sin(x)


RUN_TWICE = """\
import sys
current, *sys.path = sys.path
from importlib.util import find_spec
from pathlib import Path
from oneflow_backend.graph_folder import read_graph_folder
from oneflow_backend.isolation import IsolatedGraph
assert not find_spec("serving_kit")
sys.path = [current, *sys.path]
folder = read_graph_folder(Path(sys.argv[1]))
graph = IsolatedGraph(
    folder, "cpu", rows=None, batch_sizes=None, run_seconds=60, retries=0, log=print
)
for x in (0.5, 1.0):
    graph.tensors.inputs[0][...] = x
    graph.run()
    print(graph.tensors.outputs[0])
graph.close()
"""


def test_the_folder_alone_runs_a_graph_whatever_lies_beside_it(tmp_path, save_graph):
    """A graph of scalars, in a process whose path begins with the current folder, as a notebook's.

    Modules that have the names of others lie there, and in the backend's own package.
    """
    save_graph(Sine(), [np.float32(0.5)], tmp_path / "1")
    shutil.copytree(BACKENDS / "oneflow", tmp_path / "backend")
    for folder in (tmp_path, tmp_path / "backend" / "oneflow_backend"):
        for name in ("json", "socket", "numpy", "oneflow"):
            (folder / f"{name}.py").write_text("raise SystemExit('not this one')")
    packages = sysconfig.get_path("purelib")
    done = subprocess.run(
        [sys.executable, "-S", "-c", RUN_TWICE, tmp_path / "1" / "model"],  # -S: without the kit
        env={**os.environ, "PYTHONPATH": f"{tmp_path / 'backend'}:{packages}"},
        cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert np.allclose([float(line) for line in done.stdout.split()], np.sin([0.5, 1.0]))
