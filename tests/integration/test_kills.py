"""Every process of a server is killed, at random moments: no answer is wrong, nothing is left."""

import contextlib
import http.client
import json
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest

from serving_kit.server import runs, supervisor
from serving_kit.server.ports import HOST

SEED = 16
KILLS, CLIENTS = 40, 2
SECONDS = 60
#: Of a hundred kills, how many are meant for each: the first are dearer to bring back.
VICTIMS = {"owner": 8, "supervisor": 8, "tritonserver": 14, "stub": 30, "worker": 40}

#: Ends when its server has ended for good, or when it is told to.
OWNER = """
import select, sys
from serving_kit.server import TritonServer, runs

def new_run_dir(new=runs.new_run_dir):
    run_dir = new()
    print(run_dir, flush=True)
    return run_dir

runs.new_run_dir = new_run_dir
port = int(sys.argv[2])
ports = {"http_port": port, "grpc_port": port + 1, "metrics_port": port + 2}
with TritonServer(sys.argv[1], **ports) as server:
    while server.exit_code() is None and not select.select([sys.stdin], [], [], 0.1)[0]:
        pass
"""


class Lane:
    """A server that is started whenever there is none, its clients, and what becomes of them.

    Args:
        folder: has the model repository "models", and takes what owners print.
        port: the first of the server's three ports.
        seed: of the random moments and victims.
        expected: a function that returns the right response to a request of three numbers.
    """

    def __init__(self, folder, port, seed, expected):
        self.folder, self.port, self.expected = folder, port, expected
        self.random, self.began = random.Random(seed), time.monotonic()
        self.owner, self.story, self.good, self.failed, self.wrong = None, [], 0, 0, []
        self._is_over = threading.Event()

    def kill(self):
        """Kill one process after the other, under clients; see that one server serves at the end.

        Raises:
            AssertionError: it does not.
        """
        with ThreadPoolExecutor(CLIENTS) as pool:
            clients = [pool.submit(self._send, number) for number in range(CLIENTS)]
            try:
                while sum(what in VICTIMS for _, what in self.story) < KILLS:
                    self._kill_one()
                self._wait_for_good_responses(SECONDS)
            finally:
                self._is_over.set()
                self._close()
                self.owner.wait(SECONDS)
            for client in clients:
                client.result()

    def run_dirs(self):
        """Return the run folders of all servers so far."""
        return [Path(line) for line in (self.folder / "runs").read_text().split()]

    def _kill_one(self):
        self._start_if_there_is_none()
        if self.random.random() < 0.4:  # the others die as it starts, loads or stops
            self._wait_for_good_responses(5)
        time.sleep(self.random.uniform(0, 0.5))
        if self.random.random() < 0.05:
            self._close()
            self._note("stop")
            time.sleep(self.random.uniform(0, 1))
        (kind,) = self.random.choices(list(VICTIMS), VICTIMS.values())
        with contextlib.suppress(psutil.NoSuchProcess, IndexError):  # there is none at the moment
            self.random.choice(self._processes(kind)).kill()
            self._note(kind)

    def _start_if_there_is_none(self):
        if self.owner is None or self.owner.poll() is not None:
            if self.owner:
                self._close()
                time.sleep(0.3)  # the one before may still have the ports
            self._note("start")
            with (
                (self.folder / "runs").open("ab") as output,
                (self.folder / "errors").open("ab") as errors,
            ):
                self.owner = subprocess.Popen(
                    [sys.executable, "-c", OWNER, self.folder / "models", str(self.port)],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=errors,
                )

    def _close(self):
        self.owner.stdin.close()  # it stops its server, and ends

    def _wait_for_good_responses(self, seconds):
        """Wait until each client may have got a good response; the last wait must not be vain."""
        enough, deadline = self.good + 2 * CLIENTS, time.monotonic() + seconds
        while self.good < enough:
            if time.monotonic() > deadline:
                assert seconds < SECONDS, "there is no server in the end"
                return
            self._start_if_there_is_none()
            time.sleep(0.02)

    def _processes(self, kind):
        if kind == "owner":
            return [psutil.Process(self.owner.pid)]
        # Those of the last server, and of the one before, which may be about to end.
        found = []
        for run_dir in self.run_dirs()[-2:]:
            for pid in supervisor.processes_of(run_dir):
                with contextlib.suppress(psutil.Error):
                    process = psutil.Process(pid)
                    if kind_of(process.cmdline(), run_dir) == kind:
                        found.append(process)
        return sorted(found, key=lambda process: process.pid)

    def _note(self, what):
        self.story.append((round(time.monotonic() - self.began, 2), what))

    def _send(self, number):
        numbers = np.random.default_rng(number)
        while not self._is_over.is_set():
            x = numbers.integers(-9, 9, (1, 3)).astype(np.float32)
            try:
                y = self._response(x)
            except (OSError, http.client.HTTPException, ValueError):
                self.failed += 1
                time.sleep(0.05)
            else:
                self.good += 1
                if not np.allclose(y, self.expected(x), rtol=1e-5):
                    self.wrong.append((x, y))

    def _response(self, x):
        tensor = {"name": "INPUT_0", "shape": [1, 3], "datatype": "FP32", "data": x.tolist()}
        connection = http.client.HTTPConnection(HOST, self.port, timeout=SECONDS)
        with contextlib.closing(connection):
            body = json.dumps({"inputs": [tensor]})
            connection.request("POST", "/v2/models/tiny/infer", body, {"Connection": "close"})
            response = connection.getresponse()
            if response.status != 200:
                raise OSError(response.read())
            return json.loads(response.read())["outputs"][0]["data"]


def kind_of(words, run_dir):
    """Return what a process of a run is, from the words of its command line."""
    if str(run_dir) in words:
        return "supervisor"
    program = Path(words[0]).name if words else ""
    if program == supervisor.STUB:
        return "stub"
    return "worker" if "worker.py" in " ".join(words[:3]) else program


@pytest.fixture
def lanes(tmp_path, tiny, tiny_version, port, other_port):
    """Two of them, so that one gets on while the other waits: with one instance and with two."""
    lanes = []
    for instances, first in ((1, port), (2, other_port)):
        folder = tmp_path / str(instances)
        shutil.copytree(tiny_version, folder / "models" / "tiny" / "1")
        group = f"instance_group [ {{ count: {instances} kind: KIND_CPU }} ]"
        config = tiny.CONFIG.replace("instance_group [ { kind: KIND_CPU } ]", group)
        (folder / "models" / "tiny" / "config.pbtxt").write_text(config)
        lanes.append(Lane(folder, first, SEED + instances, tiny.expected))
    return lanes


def listens(port):
    with socket.socket() as client:
        return client.connect_ex((HOST, port)) == 0


@pytest.mark.long
def test_eighty_kills(is_clean, lanes, traces, wait_until):
    with ThreadPoolExecutor(len(lanes)) as pool:
        done = [pool.submit(lane.kill) for lane in lanes]
    for lane, kills in zip(lanes, done, strict=True):
        print(f"{lane.good} good responses, {lane.failed} failed requests; {lane.story}")
        errors = (lane.folder / "errors").read_text()
        assert lane.wrong == [], (SEED, lane.story)
        assert kills.exception() is None, (kills.exception(), SEED, lane.story, errors[-4000:])
        assert lane.good > KILLS
    runs.sweep()
    run_dirs = [run_dir for lane in lanes for run_dir in lane.run_dirs()]
    wait_until(lambda: not any(map(traces, run_dirs)))
    assert not any(listens(lane.port + i) for lane in lanes for i in range(3))
