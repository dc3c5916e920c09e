"""A server that outlives its owner: found again, taken again, refused, and stopped for certain."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from serving_kit.server import TritonServer, ports, running_servers, runs, supervisor
from serving_kit.server import registry as server_registry

SECONDS = 90


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A place of a test's own where servers are recorded; all are stopped in the end."""
    folder = tmp_path / "servers"
    monkeypatch.setattr(server_registry, "SERVERS", folder)
    monkeypatch.setenv("SERVING_KIT_SERVERS", str(folder))
    yield folder
    for server in running_servers():
        server.stop()
    assert list(folder.glob("*")) == []


@pytest.fixture
def kit(registry, small_repository):
    """Run a verb of the command line, as a user of this registry."""

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "serving_kit", *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    return run


def supervisors(registry):
    return [
        runs.supervisor_of(Path(json.loads(f.read_text())["run_dir"]))
        for f in registry.glob("*.json")
    ]


def test_serve_status_stop(kit, registry, small_repository, port):
    done = kit("serve", "--repository", small_repository, "--port", port)
    assert (done.returncode, done.stderr) == (0, "")
    choice, server, addresses, models, stop = done.stdout.splitlines()
    assert choice == "choice    local on the CPU: asked for"
    assert re.fullmatch(
        rf"server    embedded Triton 2.51.0 on 127.0.0.1:{port}, ready in [\d.]+ s", server
    )
    assert addresses == (
        f"ports     HTTP 127.0.0.1:{port}, gRPC 127.0.0.1:{port + 1}, "
        f"metrics http://127.0.0.1:{port + 2}/metrics"
    )
    assert (models, stop) == ("models    small", "stop      make stop")

    done = kit("status")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        f"server    embedded Triton 2.51.0 on 127.0.0.1:{port}: ready",
        f"models    small, from {small_repository}",
    ]
    # The same once more: it is taken as it is.
    done = kit("serve", "--repository", small_repository, "--port", port)
    assert done.returncode == 0 and "was running already" in done.stdout
    # In another way: refused, and the server goes on.
    done = kit("serve", "--repository", small_repository, "--port", port, "--model-control")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"error: port {port} is taken by embedded Triton 2.51.0 on 127.0.0.1:{port}, which this "
        f"kit started to serve {small_repository} in another way; stop it (make stop), or choose "
        "another port\n"
    )
    assert len(supervisors(registry)) == 1

    done = kit("stop")
    assert done.stdout == f"stopped   embedded Triton 2.51.0 on 127.0.0.1:{port}\n"
    assert ports.free_ports((port, port + 1, port + 2))
    assert (kit("status").returncode, kit("stop").stdout) == (1, "no server was running\n")


def test_another_notebook_takes_the_running_server_and_stops_it(registry, small_repository):
    first = TritonServer(small_repository, detached=True).start()
    second = TritonServer(small_repository, detached=True).start()
    assert (first.found_running, second.found_running) == (False, True)
    assert second.ports == first.ports and second.is_ready()
    # Models that were saved anew are not those that it serves: it starts afresh.
    config = small_repository / "small" / "config.pbtxt"
    config.write_text(config.read_text() + "# changed\n")
    third = TritonServer(small_repository, detached=True).start()
    assert not third.found_running and third.is_ready()
    assert len(supervisors(registry)) == 1
    third.stop()
    assert not first.is_ready() and list(registry.glob("*.json")) == []
    first.stop()  # does no harm


def test_it_survives_the_kernel_that_started_it(registry, small_repository):
    code = (
        "import sys, time; from serving_kit.server.triton import TritonServer\n"
        "TritonServer(sys.argv[1], detached=True).start()\n"
        "print('ready', flush=True); time.sleep(600)"
    )
    kernel = subprocess.Popen(
        [sys.executable, "-c", code, small_repository],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert kernel.stdout.readline() == b"ready\n"
    os.killpg(kernel.pid, signal.SIGKILL)
    kernel.communicate()
    (server,) = running_servers()
    assert server.is_ready()
    # Its process is nobody's child any more, and ends all the same.
    (pid,) = supervisors(registry)
    server.stop()
    assert not Path(f"/proc/{pid}/cmdline").exists() or pid not in supervisors(registry)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_start_that_is_cut_short_leaves_nothing(registry, small_repository, number, wait_until):
    command = [sys.executable, "-m", "serving_kit", "serve", "--repository", small_repository]
    process = subprocess.Popen(
        [*command, "--port", str(ports.free_ports((None,))[0])],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    temporary = Path(os.environ["TMPDIR"])
    before = set(temporary.glob(f"{runs.RUN_PREFIX}*"))
    wait_until(lambda: set(temporary.glob(f"{runs.RUN_PREFIX}*")) - before)
    process.send_signal(number)
    process.communicate(timeout=SECONDS)
    wait_until(lambda: set(temporary.glob(f"{runs.RUN_PREFIX}*")) <= before)
    assert running_servers() == []


def test_two_starts_at_once_end_with_one_server(registry, small_repository, port):
    command = [sys.executable, "-m", "serving_kit", "serve", "--repository", small_repository]
    both = [
        subprocess.Popen([*command, "--port", str(port)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=SECONDS)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted("was running already" in output for output in outputs) == [False, True]
    assert len(supervisors(registry)) == 1


def test_something_else_answers_on_the_port(kit, small_repository):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = kit("serve", "--repository", small_repository, "--port", port)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"error: port {port} of 127.0.0.1 is taken by another program; stop that one, or choose "
        "another port\n"
    )


def test_stale_records(kit, registry, small_repository, port, wait_until):
    assert kit("serve", "--repository", small_repository, "--port", port).returncode == 0
    (record,) = registry.glob("*.json")
    text = record.read_text()
    run_dir = Path(json.loads(text)["run_dir"])
    os.kill(runs.supervisor_of(run_dir), signal.SIGKILL)
    wait_until(lambda: not supervisor.processes_of(run_dir))
    (registry / "torn.json").write_text(text[:40])
    (registry / f"{runs.RUN_PREFIX}of-another-version.json").write_text('{"pid": 1}')
    assert kit("status").stdout == "no server is running; start one with make serve\n"
    assert not run_dir.exists() and list(registry.glob("*.json")) == []
    # The number of its process may be another program's by now; that one must not be harmed.
    run_dir.mkdir()
    bystander = subprocess.Popen(["sleep", "600"])
    (run_dir / "supervisor.pid").write_text(str(bystander.pid))
    record.write_text(text)
    assert kit("stop").stdout == "no server was running\n"
    assert bystander.poll() is None and not run_dir.exists()
    bystander.kill()
    bystander.wait()


def test_triton_dies_behind_our_back(kit, registry, small_repository, port, wait_until):
    assert kit("serve", "--repository", small_repository, "--port", port).returncode == 0
    (server,) = running_servers()
    for pid in supervisor.processes_of(server.run_dir):
        if Path(f"/proc/{pid}/comm").read_text().strip() == "tritonserver":
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: server.exit_code() is not None)
    done = kit("status")
    assert done.returncode == 1
    assert "ended by itself, exit code -9; start it again with make serve" in done.stdout
    done = kit("serve", "--repository", small_repository, "--port", port)
    assert done.returncode == 0 and "ready in" in done.stdout
    assert len(supervisors(registry)) == 1


def test_a_supervisor_that_does_not_react_is_killed(registry, small_repository, monkeypatch):
    server = TritonServer(small_repository, detached=True).start()
    (pid,) = supervisors(registry)
    os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr(runs, "STOP_SECONDS", 0.5)
    server.stop()
    assert running_servers() == []


def test_a_dry_run_starts_nothing(kit, registry, small_repository):
    done = kit("serve", "--repository", small_repository, "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    assert "--http-port=8000" in done.stdout and "bin/tritonserver" in done.stdout
    assert running_servers() == []
