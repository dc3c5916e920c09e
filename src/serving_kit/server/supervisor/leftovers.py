"""What belongs to one run, and how it is removed."""

import contextlib
import os
import shutil
import signal
import subprocess
import zlib
from pathlib import Path

#: In the environment of every process of one run; its value is the run folder.
RUN_MARK = "SERVING_KIT_RUN"

SHARED_MEMORY = Path("/dev/shm")
#: Where the python backend makes a folder for packed environments, wherever TMPDIR points. It is
#: empty, as the kit's models have none, and stays when Triton is killed.
ENVIRONMENTS = Path("/tmp")
#: In a run folder: the ID of the Docker container, as ``docker run --cidfile`` writes it.
CONTAINER_FILE = "container"
#: And the supervisor's PID, the exit code of a Triton that ended for good, and Triton's output.
PID_FILE, EXIT_CODE_FILE, LOG_FILE = "supervisor.pid", "exit_code", "log"
#: And the folder for what its processes call temporary files.
TEMPORARY = "tmp"


def shm_prefix(run_dir: Path) -> str:
    """Return what the names of this run's shared memory begin with."""
    return f"{run_dir.name}-"


def environments_prefix(run_dir: Path) -> str:
    """Return what the name of the python backend's folder in ``ENVIRONMENTS`` begins with."""
    return f"kit{zlib.crc32(os.fsencode(run_dir.name)):08x}"


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
    for folder in ENVIRONMENTS.glob(f"{environments_prefix(run_dir)}*"):
        with contextlib.suppress(OSError):  # gone by now, or not an empty folder
            folder.rmdir()
    shutil.rmtree(run_dir, ignore_errors=True)


def sweep_shared_memory(prefix: str) -> None:
    """Remove the shared memory whose names begin so."""
    for segment in SHARED_MEMORY.glob(f"{prefix}*"):
        segment.unlink(missing_ok=True)
