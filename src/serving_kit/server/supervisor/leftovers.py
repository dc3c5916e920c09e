"""What belongs to one run, and how it is removed."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

#: In the environment of every process of one run; its value is the run folder.
RUN_MARK = "SERVING_KIT_RUN"

SHARED_MEMORY = Path("/dev/shm")
#: Where the python backend makes a folder for packed environments, wherever TMPDIR points. It is
#: empty, as the kit's models have none, and stays when Triton is killed.
ENVIRONMENTS, ENVIRONMENT = Path("/tmp"), "python_env_??????"
PYTHON_BACKEND = b"libtriton_python.so"
#: In a run folder: the ID of the Docker container, as ``docker run --cidfile`` writes it.
CONTAINER_FILE = "container"
#: And the supervisor's PID, the exit code of a Triton that ended for good, and Triton's output.
PID_FILE, EXIT_CODE_FILE, LOG_FILE = "supervisor.pid", "exit_code", "log"
#: And the folder for what its processes call temporary files.
TEMPORARY = "tmp"


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
    """End what a run left running; remove its container, shared memory and folders."""
    with contextlib.suppress(FileNotFoundError):
        container = (run_dir / CONTAINER_FILE).read_text()
        # Of one that is gone already, as it should be, Docker only says so.
        subprocess.run(["docker", "rm", "--force", container], capture_output=True, check=False)
    for pid in processes_of(run_dir):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    sweep_shared_memory(shm_prefix(run_dir))
    sweep_environments()
    shutil.rmtree(run_dir, ignore_errors=True)


def sweep_shared_memory(prefix: str) -> None:
    """Remove the shared memory whose names begin so."""
    for segment in SHARED_MEMORY.glob(f"{prefix}*"):
        segment.unlink(missing_ok=True)


def sweep_environments() -> None:
    """Remove the empty folders of Tritons that were killed.

    Nothing in them tells whose they are. But a folder that was made before all living Tritons
    started is none of theirs.
    """
    first_start = min(python_backend_starts(), default=time.time())
    for folder in ENVIRONMENTS.glob(ENVIRONMENT):
        with contextlib.suppress(OSError):  # gone by now, another user's, or not empty
            if folder.stat().st_mtime < first_start:
                folder.rmdir()


def python_backend_starts() -> Iterator[float]:
    """Yield when each process started that has the python backend, in seconds since 1970."""
    boot = time.time() - float(Path("/proc/uptime").read_text().split()[0])
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):  # no process, another user's, or gone by now
            if PYTHON_BACKEND in (entry / "maps").read_bytes():
                # The name, in brackets, may have spaces; the start is the 20th entry after it.
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                yield boot + int(fields[19]) / os.sysconf("SC_CLK_TCK")
