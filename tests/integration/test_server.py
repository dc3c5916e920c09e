"""The embedded server starts, says what is wrong, and leaves nothing behind, however it ends."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from serving_kit import server as server_module
from serving_kit import supervisor
from serving_kit.errors import ServerError
from serving_kit.server import TritonServer

SECONDS = 30


def wait_until(condition):
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def traces():
    """Everything a run may leave: run folders, their processes, their shared memory."""
    runs = list(Path(tempfile.gettempdir()).glob(f"{server_module.RUN_PREFIX}*"))
    processes = [pid for run in runs for pid in supervisor.processes_of(run)]
    segments = [path for run in runs for path in Path("/dev/shm").glob(f"{run.name}*")]
    return runs + processes + segments


@pytest.fixture
def clean():
    """What other, living servers of this session have; a test must come back to it."""
    before = traces()
    yield before
    wait_until(lambda: traces() == before)


@pytest.fixture
def owner(small_repository):
    """A process of its own that starts a server and keeps it; its PID, and the run's folder."""
    code = (
        "import sys; from serving_kit.server import TritonServer\n"
        "with TritonServer(sys.argv[1]) as server:\n"
        "    print(server._run_dir, flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, small_repository],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    run_dir = Path(process.stdout.readline().strip())
    assert supervisor.processes_of(run_dir)
    yield process, run_dir
    process.kill()
    process.communicate()


def test_ready_then_gone(clean, small_repository):
    server = TritonServer(small_repository)
    assert not server.is_ready()
    with server:
        assert server.is_ready()
        assert server.version == "2.51.0"
        assert str(server) == f"embedded Triton 2.51.0 on 127.0.0.1:{server.ports[0]}"
        with pytest.raises(ServerError, match=r"already running, on 127.*; stop\(\) it first"):
            server.start()
        listening = {
            connection.laddr.ip.removeprefix("::ffff:")  # IPv4, as gRPC shows it
            for pid in supervisor.processes_of(server._run_dir)
            for connection in psutil.Process(pid).net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }
        assert listening == {"127.0.0.1"}
    assert not server.is_ready()
    assert traces() == clean
    server.stop()  # once more does no harm
    with server:  # and it can be started again
        assert server.is_ready()


def test_wanted_ports_are_taken(clean, small_repository):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ServerError, match=f"port {port} of 127.0.0.1 is taken by another"):
            TritonServer(small_repository, http_port=port).start()
    with TritonServer(small_repository, http_port=port) as server:
        assert server.url == f"127.0.0.1:{port}"


def test_a_port_that_is_taken_while_triton_starts(clean, small_repository, monkeypatch):
    find = server_module._find_ports
    with socket.create_server(("127.0.0.1", 0)) as other:
        offered = iter([other.getsockname()[1]])

        def find_taken_first(wanted):
            ports = find(wanted)
            return (next(offered, ports[0]), *ports[1:])

        monkeypatch.setattr(server_module, "_find_ports", find_taken_first)
        with TritonServer(small_repository) as server:
            assert server.ports[0] != other.getsockname()[1]


def test_a_path_with_a_space(clean, small_repository):
    spaced = small_repository.parent / "my own models"
    small_repository.rename(spaced)
    with TritonServer(spaced) as server:
        assert server.is_ready()


def test_a_temporary_folder_with_a_space(clean, small_repository, tmp_path, monkeypatch):
    spaced = tmp_path / "my files"
    spaced.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(spaced))
    with pytest.raises(ServerError, match="its path has a space; set TMPDIR to a folder without"):
        TritonServer(small_repository).start()
    assert not list(spaced.iterdir())


def test_no_repository(clean, tmp_path):
    with pytest.raises(ServerError, match=r"nothing is not a folder: expected a model repository"):
        TritonServer(tmp_path / "nothing").start()


def test_a_server_that_dies_at_start_shows_its_log(clean, small_repository):
    shutil.rmtree(small_repository / "small" / "1" / "model")
    with pytest.raises(ServerError) as caught:
        TritonServer(small_repository).start()
    text = str(caught.value)
    assert text.startswith("Triton ended with exit code 1 before it was ready. Its log says:")
    assert "failed to load 'small'" in text and "Traceback" not in text


def test_a_server_that_is_never_ready(clean, small_repository):
    with pytest.raises(ServerError, match="Triton was not ready after 0 s"):
        TritonServer(small_repository, ready_timeout=0.2).start()


def test_a_python_without_its_shared_library(clean, small_repository, monkeypatch):
    monkeypatch.setattr(server_module, "_library_path", lambda: "/nowhere")
    with pytest.raises(ServerError, match=r"Triton needs libpython3\.10\.so\.1\.0, which this"):
        TritonServer(small_repository).start()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_server_ends_with_its_owner(clean, owner, number):
    process, run_dir = owner
    process.send_signal(number)
    process.wait(SECONDS)
    wait_until(lambda: not run_dir.exists())
    assert not supervisor.processes_of(run_dir)


def test_a_signal_to_the_supervisor_ends_all(clean, owner):
    _, run_dir = owner
    os.kill(int((run_dir / "supervisor.pid").read_text()), signal.SIGTERM)
    wait_until(lambda: not run_dir.exists())
    assert not supervisor.processes_of(run_dir)


def test_when_the_supervisor_is_killed_triton_ends_and_the_next_start_sweeps(
    clean, owner, small_repository
):
    _, run_dir = owner
    os.kill(int((run_dir / "supervisor.pid").read_text()), signal.SIGKILL)
    wait_until(lambda: not supervisor.processes_of(run_dir))
    assert run_dir.exists()
    with TritonServer(small_repository):
        assert not run_dir.exists()


def test_when_triton_is_killed_nothing_stays_and_the_owner_can_tell(clean, small_repository):
    server = TritonServer(small_repository).start()
    triton = [
        psutil.Process(pid)
        for pid in supervisor.processes_of(server._run_dir)
        if psutil.Process(pid).name() == "tritonserver"
    ]
    triton[0].kill()
    wait_until(lambda: not server.is_ready())
    server.stop()
    assert traces() == clean
