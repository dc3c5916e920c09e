"""A worker that is killed at any moment is replaced, and no answer is taken for another.

OneFlow is left out: these workers answer at once, so that thousands of kills fit into a second or
two. ``tests/integration/test_crashes.py`` does the same with real ones.
"""

import importlib
import random
import sys
import threading
from pathlib import Path

import pytest

from oneflow_backend.graph_folder import GraphFolder, TensorSpec

isolation = importlib.import_module("oneflow_backend.isolation")

KILLS = 150
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
    rows = int(request)
    if rows == 3:
        time.sleep(3600)
    if rows == 4:
        os.abort()
    parent.send(b'{"error": "no"}' if rows == 2 else b"done")
"""


@pytest.fixture
def make_graph(tmp_path, monkeypatch):
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    monkeypatch.setattr(isolation, "WORKER", script)
    monkeypatch.setattr(isolation, "_python", lambda: sys.executable)
    graphs, log = [], []

    def make(retries=3, run_seconds=60):
        graph = isolation.IsolatedGraph(
            FOLDER, "cpu", rows=8, batch_sizes=None, run_seconds=run_seconds, retries=retries,
            log=log.append,
        )  # fmt: skip
        graphs.append(graph)
        return graph, log

    yield make
    for graph in graphs:
        graph.close()


def test_kills_at_any_moment_cost_no_request(make_graph):
    graph, _ = make_graph(retries=50)
    answered, errors, end = [0], [], threading.Event()

    def ask():
        while not end.is_set():
            try:
                graph.run(1)
            except Exception as error:
                errors.append(error)
            answered[0] += 1

    client = threading.Thread(target=ask, daemon=True)
    client.start()
    pause, random_seconds = threading.Event(), random.Random(0)
    try:
        for _ in range(KILLS):
            if worker := graph._worker:
                worker.process.kill()
            before, waited = answered[0], 0.0
            while answered[0] < before + 2:
                pause.wait(0.001)
                waited += 0.001
                assert waited < SECONDS, f"hangs after {graph.restarts} restarts"
            pause.wait(random_seconds.random() * 0.003)
    finally:
        end.set()
    client.join(SECONDS)
    assert not errors
    assert graph.restarts >= KILLS / 2  # some kills meet a worker that is dead already


def test_an_error_of_oneflow_is_passed_on_and_harms_nothing(make_graph):
    graph, _ = make_graph()
    with pytest.raises(isolation.WorkerError, match=r"^no$"):
        graph.run(2)
    graph.run(1)
    assert graph.restarts == 0


def test_a_hang_ends_after_its_deadline(make_graph):
    graph, log = make_graph(retries=1, run_seconds=0.2)
    with pytest.raises(
        isolation.WorkerDied, match=r"died 2 times over .* not answer within 0\.2 s"
    ):
        graph.run(3)
    graph.run(1)
    assert graph.restarts == 2
    assert log == ["OneFlow's process was ended by signal 9; another one is started"] * 2


def test_a_run_that_hangs_while_the_graph_is_loaded_ends_after_its_deadline(
    make_graph, monkeypatch, tmp_path
):
    monkeypatch.setattr(isolation, "FIRST_RUN_SECONDS", 0.3)
    hangs_once = f"""\
from pathlib import Path
parent.send(b'{{"running": true}}')
if not Path({str(tmp_path / "hung")!r}).exists():
    Path({str(tmp_path / "hung")!r}).touch()
    time.sleep(3600)
parent.send(b'{{"running": false}}')
time.sleep(0.6)  # what is not a run has all the time that loading has
parent.send"""
    (tmp_path / "worker.py").write_text(WORKER.replace("parent.send", hangs_once, 1))
    graph, log = make_graph(run_seconds=0.2)
    graph.run(1)
    assert log == [
        "OneFlow's process died while it loaded: did not answer within 0.3 s; another is started"
    ]


def test_poison_is_tried_as_often_as_told(make_graph):
    graph, _ = make_graph(retries=2)
    with pytest.raises(isolation.WorkerDied, match="died 3 times over this request: was ended by"):
        graph.run(4)
    graph.run(1)
    assert graph.restarts == 3


def test_closing_leaves_no_process_and_no_descriptor(make_graph):
    def descriptors():
        return len(list(Path("/proc/self/fd").iterdir()))

    graph, _ = make_graph()
    before = descriptors()
    graph.run(1)
    process = graph._started.process
    graph.close()
    assert process.returncode == -9
    assert descriptors() < before
    graph.close()  # once more does no harm


def test_a_choice_of_pages_that_was_made_is_left_alone(monkeypatch):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    assert isolation.environment()["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.arena_max=1")
    assert "GLIBC_TUNABLES" not in isolation.environment()
