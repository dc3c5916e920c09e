"""A server that outlives its owner: found again, taken again, refused, and stopped for certain."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from serving_kit import cli
from serving_kit.errors import ServerError
from serving_kit.server import TritonServer, running_servers, runs, supervisor
from serving_kit.server import registry as server_registry

SECONDS = 90
SERVE = [sys.executable, "-m", "serving_kit", "serve"]


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
def kit(registry, capsys):
    """Gives a command of the command line; returns exit code, output and errors.

    In this process, as it is quicker; the tests below with SERVE have a process of its own.
    """

    def kit(*arguments):
        capsys.readouterr()
        code = cli.main([str(argument) for argument in arguments])
        return code or 0, *capsys.readouterr()

    return kit


def supervisors(registry):
    return [
        runs.supervisor_of(Path(json.loads(f.read_text())["run_dir"]))
        for f in registry.glob("*.json")
    ]


def run_folders():
    """Those of this worker, which has a folder for temporary files of its own."""
    return set(Path(tempfile.gettempdir()).glob(f"{runs.RUN_PREFIX}*"))


def test_serve_status_stop(kit, registry, tiny_repository, port):
    serve = ("serve", "--repository", tiny_repository, "--port", port)
    code, output, errors = kit(*serve)
    assert (code, errors) == (0, "")
    choice, server, addresses, models, stop = output.splitlines()
    assert choice == "choice    local on the CPU: asked for"
    assert re.fullmatch(
        rf"server    embedded Triton 2.51.0 on 127.0.0.1:{port}, ready in [\d.]+ s", server
    )
    assert addresses == (
        f"ports     HTTP 127.0.0.1:{port}, gRPC 127.0.0.1:{port + 1}, "
        f"metrics http://127.0.0.1:{port + 2}/metrics"
    )
    assert (models, stop) == ("models    tiny", "stop      make stop")
    (record,) = registry.glob("*.json")

    code, output, _ = kit("status")
    assert code == 0
    assert output.splitlines() == [
        f"server    embedded Triton 2.51.0 on 127.0.0.1:{port}: ready",
        f"models    tiny, from {tiny_repository}",
    ]
    # The same once more: it is taken as it is.
    code, output, _ = kit(*serve)
    assert code == 0 and "was running already" in output
    # In another way: refused, and the server goes on.
    assert kit(*serve, "--model-control") == (
        1,
        "",
        f"error: port {port} is taken by embedded Triton 2.51.0 on 127.0.0.1:{port}, which this "
        f"kit started to serve {tiny_repository} with other settings; stop it (make stop), or "
        "choose "
        "another port\n",
    )
    assert list(registry.glob("*.json")) == [record]

    _, output, _ = kit("stop")
    assert output == f"stopped   embedded Triton 2.51.0 on 127.0.0.1:{port}\n"
    assert kit("status")[0] == 1
    assert kit("stop")[1] == "no server was running\n"


def test_another_notebook_takes_the_running_server_and_stops_it(registry, empty_repository):
    first = TritonServer(empty_repository, detached=True).start()
    second = TritonServer(empty_repository, detached=True).start()
    assert (first.found_running, second.found_running) == (False, True)
    assert second.ports == first.ports and second.is_ready()
    # Models that were saved anew are not those that it serves: it starts afresh.
    (empty_repository / "notes.txt").write_text("changed")
    third = TritonServer(empty_repository, detached=True).start()
    assert not third.found_running and third.is_ready()
    assert not first.is_ready() and not second.is_ready()
    assert len(supervisors(registry)) == 1
    third.stop()
    assert not third.is_ready() and list(registry.glob("*.json")) == []
    first.stop()  # does no harm
    second.stop()


def test_a_server_that_was_taken_can_be_started_again(registry, empty_repository):
    with TritonServer(empty_repository, detached=True):
        again = TritonServer(empty_repository, detached=True).start()
        assert again.found_running
        again.stop()
        again.start()
        assert not again.found_running and again.is_ready()
        again.stop()


def test_it_survives_the_kernel_that_started_it(registry, tiny_repository, traces):
    code = (
        "import sys, time; from serving_kit.server.triton import TritonServer\n"
        "TritonServer(sys.argv[1], detached=True).start()\n"
        "print('ready', flush=True); time.sleep(600)"
    )
    kernel = subprocess.Popen(
        [sys.executable, "-c", code, tiny_repository],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert kernel.stdout.readline() == b"ready\n"
    os.killpg(kernel.pid, signal.SIGKILL)
    kernel.communicate()
    (server,) = running_servers()
    assert server.is_ready()
    # Its supervisor is nobody's child any more, and ends all the same.
    run_dir = server.run_dir
    server.stop()
    assert not traces(run_dir)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_start_that_is_cut_short_leaves_nothing(
    registry, empty_repository, port, number, traces, wait_until
):
    before = run_folders()
    process = subprocess.Popen(
        [*SERVE, "--repository", empty_repository, "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    wait_until(lambda: run_folders() - before)
    (run_dir,) = run_folders() - before
    process.send_signal(number)
    process.communicate(timeout=SECONDS)
    wait_until(lambda: not traces(run_dir))
    assert running_servers() == []


def test_two_starts_at_once_end_with_one_server(registry, empty_repository, port):
    both = [
        subprocess.Popen(
            [*SERVE, "--repository", empty_repository, "--port", str(port)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=SECONDS)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted("was running already" in output for output in outputs) == [False, True]
    assert len(supervisors(registry)) == 1


def test_stale_records(kit, registry, empty_repository, traces, wait_until):
    run_dir = TritonServer(empty_repository, detached=True).start().run_dir
    (record,) = registry.glob("*.json")
    text = record.read_text()
    os.kill(runs.supervisor_of(run_dir), signal.SIGKILL)
    wait_until(lambda: not supervisor.processes_of(run_dir))
    assert kit("status")[1] == "no server is running; start one with make serve\n"
    assert not traces(run_dir) and list(registry.glob("*.json")) == []
    # The number of its process may be another program's by now; that one must not be harmed.
    run_dir.mkdir()
    bystander = subprocess.Popen(["sleep", "600"])
    (run_dir / "supervisor.pid").write_text(str(bystander.pid))
    record.write_text(text)
    assert kit("stop")[1] == "no server was running\n"
    assert bystander.poll() is None and not run_dir.exists()
    bystander.kill()
    bystander.wait()


@pytest.mark.parametrize(
    "text",
    [
        # As the kit wrote it before servers had a ServerSpec.
        '{"run_dir": "RUN_DIR", "settings": {"mode": "local"}, "fingerprint": "", "ports": [1]}',
        '{"run_dir": "RUN_DIR", "spec": {"mode": "local"}, "ports": [1]}',
        '{"run_dir": "RUN_DIR", "sp',
        "[]",
    ],
)
def test_a_record_that_cannot_be_read_is_dropped_and_its_server_ended(
    kit, registry, empty_repository, traces, text
):
    run_dir = TritonServer(empty_repository, detached=True).start().run_dir
    (record,) = registry.glob("*.json")
    assert traces(run_dir)
    record.write_text(text.replace("RUN_DIR", str(run_dir)))
    assert kit("status") == (1, "no server is running; start one with make serve\n", "")
    assert not traces(run_dir) and not record.exists()


def test_a_record_that_cannot_be_read_has_nothing_else_removed(registry, tmp_path):
    registry.mkdir()
    other = Path(tempfile.mkdtemp(prefix="somebody-s-"))
    (registry / f"{other.name}.json").write_text(json.dumps({"run_dir": str(tmp_path)}))
    assert running_servers() == []
    assert tmp_path.exists() and list(registry.glob("*.json")) == []
    other.rmdir()


def test_triton_dies_behind_our_back(kit, registry, empty_repository, port, impatient, triton):
    serve = ("serve", "--repository", empty_repository, "--port", port)
    assert kit(*serve)[0] == 0
    (server,) = running_servers()
    for number in range(4):
        triton(server.run_dir).kill()
        server.wait_until_ready(SECONDS)
        code, output, _ = kit("status")
        assert code == 0 and ": ready\n" in output
        why = "Triton was ended by signal 9 (SIGKILL) after "
        assert f"restarts  {number + 1}; before the last, {why}" in output
    triton(server.run_dir).kill()
    with pytest.raises(ServerError):
        server.wait_until_ready(SECONDS)
    code, output, _ = kit("status")
    assert code == 1
    assert "ended for good, exit code -9; start it again with make serve" in output
    code, output, _ = kit(*serve)
    assert code == 0 and "ready in" in output
    assert len(supervisors(registry)) == 1


def test_a_supervisor_that_does_not_react_is_killed(
    registry, empty_repository, monkeypatch, traces
):
    server = TritonServer(empty_repository, detached=True).start()
    run_dir = server.run_dir
    os.kill(runs.supervisor_of(run_dir), signal.SIGSTOP)
    monkeypatch.setattr(runs, "STOP_SECONDS", 0.5)
    server.stop()
    assert running_servers() == [] and not traces(run_dir)


def test_a_dry_run_starts_nothing(kit, empty_repository):
    code, output, errors = kit("serve", "--repository", empty_repository, "--dry-run")
    assert (code, errors) == (0, "")
    assert "--http-port=8000" in output and "bin/tritonserver" in output
    assert running_servers() == []
