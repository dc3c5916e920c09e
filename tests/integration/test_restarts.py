"""A Triton that ends by itself is started again, with all that it had, and leaves nothing."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from serving_kit.errors import ServerError
from serving_kit.server import TritonServer, runs, supervisor
from serving_kit.server.embedded import EmbeddedLauncher
from serving_kit.server.ports import HOST
from serving_kit.server.spec import ServerSpec
from serving_kit.server.supervisor.api import option

SECONDS = 60
MB = 1_000_000
JSON, FORM = "application/json", "application/x-www-form-urlencoded"
HUGE = {"inputs": [{"name": "X", "shape": [8589934592], "datatype": "FP32", "data": [1]}]}

#: What Triton parses on the stack of a thread; with the usual 8 MiB each of these ended it.
DEEP = {
    "open lists": ("/v2/logging", JSON, b"[" * 500_000),
    "closed lists": ("/v2/logging", JSON, b'{"a":' + b"[" * 500_000 + b"]" * 500_000 + b"}"),
    "a form": ("/v2/health/ready", FORM, b"a" * 30 * MB),
}


def post(server, path, kind, body):
    """Send a request; return the first line of the response, empty when there is none."""
    with contextlib.suppress(OSError), socket.create_connection((HOST, server.ports[0])) as triton:
        triton.settimeout(SECONDS)
        head = f"POST {path} HTTP/1.1\r\nHost: triton\r\nContent-Type: {kind}\r\n"
        size = f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        triton.sendall(head.encode() + size.encode() + body)
        return triton.recv(4096).split(b"\r\n")[0].decode()
    return ""


def post_chunks(server, count):
    """Send a request of that many chunks of one byte."""
    with socket.create_connection((HOST, server.ports[0])) as triton:
        triton.settimeout(SECONDS)
        head = b"POST /v2/logging HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        triton.sendall(head + b"1\r\nX\r\n" * count + b"0\r\n\r\n")
        return triton.recv(4096).split(b"\r\n")[0].decode()


@pytest.fixture(scope="module")
def empty_server(tmp_path_factory):
    with TritonServer(tmp_path_factory.mktemp("no models"), mode="local") as server:
        yield server


@pytest.mark.parametrize("what", DEEP)
def test_what_is_parsed_on_the_stack_does_not_end_triton(empty_server, what):
    assert post(empty_server, *DEEP[what]).startswith("HTTP/1.1 ")
    assert empty_server.is_ready() and not empty_server.restarts()


def test_530_000_chunks_of_one_byte_do_not_end_triton(empty_server):
    assert post_chunks(empty_server, 530_000).startswith("HTTP/1.1 ")
    assert empty_server.is_ready() and not empty_server.restarts()


def change(server, model, action):
    path = f"/v2/repository/models/{model}/{action}"
    assert supervisor.request(HOST, server.ports[0], path, "{}")[0] == 200


def is_ready(server, model):
    with contextlib.suppress(OSError):
        path = f"/v2/models/{model}/ready"
        return supervisor.request(HOST, server.ports[0], path)[0] == 200
    return False


def test_a_huge_shape_ends_triton_and_it_is_started_again(
    is_clean, tiny_repository, tiny, tiny_version, triton, wait_until
):
    """With the models that it had in the end: those of its start, and those that clients chose."""
    for name in ("other", "broken"):
        shutil.copytree(tiny_repository / "tiny", tiny_repository / name)
    shutil.copytree(tiny_version, tiny_repository / "graph" / "1")
    (tiny_repository / "graph" / "config.pbtxt").write_text(tiny.CONFIG)
    models = ["tiny", "graph", "broken"]
    with TritonServer(tiny_repository, models=models, model_control=True) as server:
        change(server, "other", "load")
        change(server, "tiny", "unload")
        (tiny_repository / "broken" / "1" / "model.py").write_text("raise ValueError('broken')")
        before, old = (server.ports, server.run_dir), triton(server.run_dir)
        of_old = old.children(recursive=True)
        shared = set(supervisor.SHARED_MEMORY.glob(f"{supervisor.shm_prefix(server.run_dir)}*"))
        assert len(of_old) >= 4 and shared  # three stubs and a worker
        time.sleep(3 * supervisor.LOOK_SECONDS)  # what changed just now is not known
        assert post(server, "/v2/models/other/infer", JSON, json.dumps(HUGE).encode()) == ""
        wait_until(lambda: "W supervisor: Triton responds again after " in server.log())
        assert triton(server.run_dir) != old
        assert (server.ports, server.run_dir) == before and server.exit_code() is None
        assert not any(process.is_running() for process in of_old)
        assert not any(segment.exists() for segment in shared)
        # One that cannot be loaded any more does not keep the others from being served.
        ready = {name: is_ready(server, name) for name in ("tiny", "other", "graph", "broken")}
        assert ready == {"tiny": False, "other": True, "graph": True, "broken": False}
        (why,) = server.restarts()
        assert re.fullmatch(
            r"Triton was ended by signal (6 \(SIGABRT|11 \(SIGSEGV)\) after .+ s", why
        )
        _, metrics = supervisor.request(HOST, server.ports[2], "/metrics")
        assert b"\noneflow_triton_restarts 1\n" in metrics


def test_after_five_ends_within_a_minute_it_gives_up(is_clean, empty_repository, impatient, triton):
    with TritonServer(empty_repository) as server:
        for number in range(5):
            triton(server.run_dir).kill()
            if number < 4:
                server.wait_until_ready(SECONDS)
        with pytest.raises(ServerError) as caught:
            server.wait_until_ready(SECONDS)
        assert server.exit_code() == -signal.SIGKILL
        assert len(server.restarts()) == 4
    first, *_, last = str(caught.value).splitlines()
    assert first == "Triton ended with exit code -9 before it was ready"
    assert last.endswith("the 5th time within 60 s; not started again")


#: Owns a server whose Triton has ended twice, so that the supervisor waits for a second.
OWNER = """
import os, signal, sys, psutil
from serving_kit.server import TritonServer, supervisor
server = TritonServer(sys.argv[1]).start()
for number in range(2):
    for pid in supervisor.processes_of(server.run_dir):
        if psutil.Process(pid).name() == "tritonserver":
            os.kill(pid, signal.SIGKILL)
    if number == 0:
        server.wait_until_ready(60)
while "in 1 s" not in server.log():
    pass
print(server.run_dir, flush=True)
sys.stdin.read()
server.stop()
"""


@pytest.mark.parametrize("end", ["stop", "kill the owner", "kill the supervisor"])
def test_what_ends_in_a_pause_leaves_nothing(is_clean, empty_repository, traces, wait_until, end):
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, empty_repository],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        run_dir = Path(owner.stdout.readline().strip())
        if end == "stop":
            owner.stdin.close()
        elif end == "kill the owner":
            owner.kill()
        else:
            os.kill(runs.supervisor_of(run_dir), signal.SIGKILL)
            wait_until(lambda: runs.supervisor_of(run_dir) is None)
            owner.stdin.close()
        wait_until(lambda: not traces(run_dir))


@pytest.fixture(
    params=["empty_repository", pytest.param("tiny_repository", marks=pytest.mark.long)]
)
def container(request, tmp_path, port):
    """The supervisor as in the image: in a folder of its own, without an owner, without a kit."""
    repository, run_dir = request.getfixturevalue(request.param), tmp_path / "run"
    run_dir.mkdir()
    launcher = EmbeddedLauncher(ServerSpec(repository, mode="local", device="cpu", image=""))
    program, *options = launcher.order(run_dir, (port, port + 1, port + 2))["command"]
    options = [option for option in options if "shm-region-prefix-name" not in option]
    shutil.copytree(Path(supervisor.__file__).parent, tmp_path / "supervisor")
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-S", tmp_path / "supervisor", "run", program, *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=launcher.environment(run_dir),
            cwd="/",
        )
    yield process, run_dir, port
    process.kill()
    process.wait()


def test_as_process_1_of_an_image(container, tmp_path, triton, wait_until):
    process, run_dir, port = container

    def responds():
        with contextlib.suppress(OSError):
            return supervisor.request(HOST, port, "/v2/health/ready")[0] == 200
        return False

    def log():
        return (tmp_path / "log").read_text()

    wait_until(responds)
    old = triton(run_dir)
    prefix = option(old.cmdline(), "backend-config", "python,shm-region-prefix-name=")
    assert f" {64 << 20} " in re.search(".*stack.*", limits(old))[0]
    of_old = old.children(recursive=True)
    time.sleep(4 * supervisor.LOOK_SECONDS)  # one that ends before it was seen up is given up
    old.kill()
    wait_until(lambda: "W supervisor: Triton responds again after " in log())
    assert "W supervisor: Triton was ended by signal 9 (SIGKILL) after " in log()
    assert responds() and not any(process.is_running() for process in of_old)
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == 0
    assert supervisor.processes_of(run_dir) == []
    assert prefix and not list(supervisor.SHARED_MEMORY.glob(f"{prefix}*"))


def limits(process):
    return Path(f"/proc/{process.pid}/limits").read_text()


@pytest.mark.long
@pytest.mark.parametrize(
    ("path", "kind", "body"),
    [
        ("/v2/logging", JSON, b"[" * 8 * MB),
        ("/v2/logging", JSON, b'{"a":' + b"[" * 4 * MB + b"]" * 4 * MB + b"}"),
        ("/v2/health/ready", FORM, b"a" * 167 * MB),
    ],
)
def test_more_than_the_stack_holds_ends_triton_and_it_is_started_again(
    is_clean, empty_repository, wait_until, path, kind, body
):
    with TritonServer(empty_repository) as server:
        assert post(server, path, kind, body) == ""
        wait_until(lambda: "Triton responds again" in server.log())
        assert server.is_ready() and len(server.restarts()) == 1
