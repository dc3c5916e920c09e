"""Keep one Triton Inference Server alive for exactly as long as somebody wants it.

``server.TritonServer`` starts this file as a process of its own, and holds the other end of its
standard input. When that end closes, because the server is stopped or because its owner was
killed, however brutally, the supervisor stops Triton, ends whatever it left running, and removes
its shared memory and its run folder. Standard library only.
"""

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

#: In the environment of every process of one run; its value is the run folder.
RUN_MARK = "SERVING_KIT_RUN"

#: Triton answers what it has accepted, for at most this long, before it gives up its models.
EXIT_TIMEOUT_SECONDS = 5
#: And is killed this long after it was asked to stop.
KILL_AFTER_SECONDS = 15

SHARED_MEMORY = Path("/dev/shm")
PR_SET_PDEATHSIG = 1


def shm_prefix(run_dir: Path) -> str:
    """Return what the names of this run's shared memory begin with."""
    return f"{run_dir.name}-"


def processes_of(run_dir: Path) -> list[int]:
    """Return the PIDs of all processes of one run but this one: those that carry its mark."""
    mark = f"{RUN_MARK}={run_dir}".encode()
    pids = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        # Other people's processes, and those that just ended, cannot be read.
        with contextlib.suppress(OSError):
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                pids.append(int(entry.name))
    return pids


def clean_up(run_dir: Path) -> None:
    """End what a run left running; remove its shared memory, then its folder."""
    for pid in processes_of(run_dir):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for segment in SHARED_MEMORY.glob(f"{shm_prefix(run_dir)}*"):
        segment.unlink(missing_ok=True)
    shutil.rmtree(run_dir, ignore_errors=True)


def _stop(server: subprocess.Popen) -> None:
    """Ask Triton to end; insist when it does not."""
    server.terminate()
    try:
        server.wait(KILL_AFTER_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _die_with_parent() -> None:
    """Have the kernel end Triton when the supervisor itself is killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def supervise(run_dir: Path, command: list[str]) -> None:
    """Run ``command`` until standard input closes or a signal asks to end, then clean up.

    Files in ``run_dir`` tell the owner what happens: ``supervisor.pid``, ``log`` (Triton's
    output) and, when Triton ends by itself, ``exit_code``.
    """
    _write(run_dir / "supervisor.pid", str(os.getpid()))
    wake, alarm = os.pipe()
    os.set_blocking(alarm, False)
    signal.set_wakeup_fd(alarm)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    with (run_dir / "log").open("wb") as log:
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=_die_with_parent,
        )
    try:
        while True:
            ready, _, _ = select.select([sys.stdin, wake], [], [])
            if sys.stdin in ready:
                break
            if any(number != signal.SIGCHLD for number in os.read(wake, 64)):
                break
            if server.poll() is not None:
                _write(run_dir / "exit_code", str(server.returncode))
    finally:
        if server.poll() is None:
            _stop(server)
        clean_up(run_dir)


def _write(path: Path, text: str) -> None:
    """Write a file so that a reader sees all of it or nothing."""
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    partial.rename(path)


if __name__ == "__main__":
    supervise(Path(sys.argv[1]), json.loads(sys.argv[2]))
