"""However a server, its owner or its supervisor ends, at whatever moment: nothing is left."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serving_kit.errors import ServerError
from serving_kit.server import TritonServer, embedded, runs, supervisor
from serving_kit.server.supervisor import leftovers

SECONDS = 60

#: Python itself leaves a file behind when it is interrupted while it looks for a temporary folder.
OWNER = """
import sys, tempfile
from serving_kit.server.triton import TritonServer
tempfile.gettempdir()
print("starting", flush=True)
with TritonServer(sys.argv[1]) as server:
    print(server.run_dir, flush=True)
    sys.stdin.read()
"""

#: Holds still in the middle of its start: there is a run folder, and no Triton yet.
SLOW_OWNER = """
import sys, time
from serving_kit.server import embedded
from serving_kit.server.triton import TritonServer
def lay_out(run_dir, model_repository):
    (run_dir / "backends").mkdir()
    print(run_dir, flush=True)
    time.sleep(600)
embedded.lay_out = lay_out
TritonServer(sys.argv[1]).start()
"""


def start(owner, repository):
    """Start a process of its own that starts a server and keeps it."""
    return subprocess.Popen(
        [sys.executable, "-c", owner, repository],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_dir_of(owner):
    assert owner.stdout.readline() == "starting\n"
    return Path(owner.stdout.readline().strip())


@pytest.fixture
def start_owner():
    """Starts an owner of a server; returns it and the run folder once the server is ready."""
    owners = []

    def start_owner(repository):
        owner = start(OWNER, repository)
        owners.append(owner)
        run_dir = run_dir_of(owner)
        assert supervisor.processes_of(run_dir)
        return owner, run_dir

    yield start_owner
    for owner in owners:
        owner.kill()
        with owner:  # closes its pipes and waits for it
            pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_server_ends_with_its_owner(
    is_clean, start_owner, empty_repository, traces, wait_until, number
):
    owner, run_dir = start_owner(empty_repository)
    owner.send_signal(number)
    owner.wait(SECONDS)
    wait_until(lambda: not traces(run_dir))


def test_processes_and_shared_memory_of_models_end_with_a_killed_owner(
    is_clean, start_owner, tiny_repository, traces, triton, wait_until
):
    owner, run_dir = start_owner(tiny_repository)
    # By this the sweep of /tmp/python_env_* knows a Triton that lives.
    started = triton(run_dir).create_time()
    assert any(abs(start - started) < 1 for start in leftovers.python_backend_starts())
    assert list(supervisor.SHARED_MEMORY.glob(f"{supervisor.shm_prefix(run_dir)}*"))
    owner.kill()
    wait_until(lambda: not traces(run_dir))


@pytest.mark.parametrize(
    "tenths", [0, 3, 12, *(pytest.param(n, marks=pytest.mark.long) for n in range(1, 34, 2))]
)
def test_interrupted_at_any_moment_of_the_start(is_clean, tiny_repository, tenths):
    owner = start(OWNER, tiny_repository)
    assert owner.stdout.readline() == "starting\n"
    time.sleep(tenths / 10)
    owner.send_signal(signal.SIGINT)
    _, errors = owner.communicate(timeout=SECONDS)
    assert "KeyboardInterrupt" in errors


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_an_owner_that_ends_before_triton_starts(
    is_clean, empty_repository, traces, wait_until, number
):
    with start(SLOW_OWNER, empty_repository) as owner:
        run_dir = Path(owner.stdout.readline().strip())
        assert (run_dir / "backends").is_dir()
        owner.send_signal(number)
    wait_until(lambda: not traces(run_dir))


def test_the_supervisor_ends_before_triton_starts(
    is_clean, empty_repository, monkeypatch, wait_until
):
    def lay_out(run_dir, model_repository):
        # For a moment after its start, the kernel shows no environment of a process.
        wait_until(lambda: supervisor.processes_of(run_dir))
        (pid,) = supervisor.processes_of(run_dir)
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        return model_repository

    monkeypatch.setattr(embedded, "lay_out", lay_out)
    with pytest.raises(ServerError) as caught:
        TritonServer(empty_repository).start()
    assert str(caught.value) == (
        "Triton ended with exit code -9 before it was ready; it has written no log"
    )


@pytest.mark.long
def test_twenty_starts_in_a_row_five_of_them_killed(
    is_clean, start_owner, small_repository, traces, wait_until
):
    def start_and_end(number):
        owner, run_dir = start_owner(small_repository)
        if number % 4 == 3:
            owner.kill()
        owner.communicate()  # closes its standard input, upon which it stops its server
        wait_until(lambda: not traces(run_dir))

    # While one of them waits, the other gets on: two rows take half the time.
    with ThreadPoolExecutor(2) as two_rows:
        list(two_rows.map(start_and_end, range(20)))
    assert is_clean()


def test_a_signal_to_the_supervisor_ends_all(
    is_clean, start_owner, empty_repository, traces, wait_until
):
    _, run_dir = start_owner(empty_repository)
    os.kill(runs.supervisor_of(run_dir), signal.SIGTERM)
    wait_until(lambda: not traces(run_dir))


def test_when_the_supervisor_is_killed_triton_ends_and_the_next_start_sweeps(
    is_clean, start_owner, tiny_repository, empty_repository, traces, wait_until
):
    _, run_dir = start_owner(tiny_repository)
    os.kill(runs.supervisor_of(run_dir), signal.SIGKILL)
    wait_until(lambda: not supervisor.processes_of(run_dir))
    assert run_dir.exists()
    with TritonServer(empty_repository):
        assert not traces(run_dir)
