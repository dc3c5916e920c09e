"""OneFlow's process may crash, be killed or hang: every request is answered, and rightly."""

import contextlib
import http.client
import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
import tritonclient.http as httpclient

from serving_kit import supervisor
from serving_kit.client import infer
from serving_kit.server import HOST, TritonServer

EXPORT = Path(__file__).with_name("export_graphs.py")
SECONDS = 60
REQUESTS = 100_000
CLIENTS = 8
KILLS = 50

#: The factors of the graph "shortest" in export_graphs.py.
W = np.float32([0.5, -2, 3, 1.25])
SHORTEST = """\
name: "shortest"
backend: "oneflow"
max_batch_size: 8
input [ { name: "INPUT_0" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "OUTPUT_0" data_type: TYPE_FP32 dims: [ 4 ] } ]
instance_group [ { count: 1 kind: KIND_CPU } ]
dynamic_batching { }
parameters { key: "run_timeout_seconds" value: { string_value: "5" } }
"""


@pytest.fixture
def shortest_repository(tmp_path):
    """The graph on which OneFlow 0.9.0 crashes most often: ``x * w``."""
    child = subprocess.run(
        [sys.executable, EXPORT, "shortest", tmp_path],
        env={**os.environ, "GLOG_minloglevel": "3"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert child.returncode == 0, child.stderr[-2000:]
    (tmp_path / "shortest" / "config.pbtxt").write_text(SHORTEST)
    return tmp_path


@pytest.fixture(scope="session")
def painted():
    """Pictures, and what the eager StyleNet makes of them."""
    import oneflow as flow

    from serving_kit.stylenet import load_stylenet

    stylenet = load_stylenet()
    rng = np.random.default_rng(3)
    images = [rng.uniform(0, 255, (1, 3, 64, 64)).astype(np.float32) for _ in range(4)]
    with flow.no_grad():
        return [(image, stylenet(flow.tensor(image)).numpy()) for image in images]


def restarts(server, model):
    """Return what Triton's metrics say about the model's workers; 0 when they say nothing."""
    connection = http.client.HTTPConnection(HOST, server.ports[2], timeout=SECONDS)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics", headers={"Connection": "close"})
        text = connection.getresponse().read().decode()
    pattern = rf'^oneflow_worker_restarts_total{{model="{model}",version="1"}} (\d+)'
    found = re.search(pattern, text, re.M)
    return int(found[1]) if found else 0


def workers(server):
    """Return the processes of a server in which OneFlow runs."""
    found = []
    for pid in supervisor.processes_of(server._run_dir):
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            if any(Path(part).name == "worker.py" for part in process.cmdline()):
                found.append(process)
    return found


class Load:
    """Clients that ask the same server without a pause, until one fails or the block ends."""

    def __init__(self, ask, count):
        self.answered = [0] * count
        self._ask, self._end = ask, threading.Event()
        self._pool = ThreadPoolExecutor(count)
        self._clients = [self._pool.submit(self._work, i) for i in range(count)]

    def _work(self, i):
        while not self._end.is_set():
            self._ask(i)
            self.answered[i] += 1

    def wait_until(self, condition):
        deadline = time.monotonic() + SECONDS
        while not condition():
            for client in self._clients:
                assert not client.done() or client.result()
            assert time.monotonic() < deadline, f"waited too long; answered: {self.answered}"
            time.sleep(0.01)

    def wait_for_new_requests(self):
        """Wait until every client has sent, and got an answer to, a request from now on."""
        before = list(self.answered)  # the next answer of each may be to an older request
        self.wait_until(lambda: all(np.subtract(self.answered, before) >= 2))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._end.set()
        self._pool.shutdown()
        for client in self._clients:
            client.result()


def multiply_many(server, seed):
    """Send one client's share of the requests; return how many answers were wrong."""
    rng = np.random.default_rng(seed)
    wrong = 0
    with httpclient.InferenceServerClient(server.url, network_timeout=SECONDS) as client:
        for _ in range(REQUESTS // CLIENTS):
            x = rng.normal(size=(1, 4)).astype(np.float32)
            tensor = httpclient.InferInput("INPUT_0", [1, 4], "FP32").set_data_from_numpy(x)
            answer = client.infer("shortest", [tensor]).as_numpy("OUTPUT_0")
            wrong += not np.array_equal(answer, x * W)
    return wrong


@pytest.mark.slow
def test_the_shortest_graph_answers_every_request(shortest_repository):
    with TritonServer(shortest_repository) as server, ThreadPoolExecutor(CLIENTS) as pool:
        wrong = list(pool.map(lambda seed: multiply_many(server, seed), range(CLIENTS)))
        print(f"{REQUESTS} requests took {restarts(server, 'shortest')} restarts of the worker")
    assert wrong == [0] * CLIENTS


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_no_request(small_repository, painted):
    def ask(i):
        image, expected = painted[i]
        assert np.abs(infer(image, model="small", url=server.url) - expected).max() < 1e-3

    with TritonServer(small_repository) as server, Load(ask, len(painted)) as load:
        load.wait_for_new_requests()
        for _ in range(KILLS):
            (worker,) = workers(server)
            worker.kill()
            load.wait_until(lambda dead=worker: workers(server) not in ([], [dead]))
            load.wait_for_new_requests()
        print(f"{KILLS} kills, {sum(load.answered)} answers, {restarts(server, 'small')} restarts")
        assert restarts(server, "small") >= KILLS


def test_a_worker_that_hangs_is_replaced(small_repository, painted):
    config = small_repository / "small" / "config.pbtxt"
    timeout = 'parameters { key: "run_timeout_seconds" value: { string_value: "2" } }\n'
    config.write_text(config.read_text() + timeout)
    image, expected = painted[0]
    with TritonServer(small_repository) as server:
        (worker,) = workers(server)
        worker.suspend()
        # The client itself gives up after 60 s.
        assert np.abs(infer(image, model="small", url=server.url) - expected).max() < 1e-3
        assert restarts(server, "small") == 1
        assert worker not in workers(server)
