"""The run folder of each server: its log, its supervisor's PID, and whatever else it needs.

It is a temporary folder that is removed with the server.
"""

import contextlib
import os
import secrets
import signal
import tempfile
import time
import zlib
from pathlib import Path

from serving_kit.errors import ServerError
from serving_kit.server import supervisor

RUN_PREFIX = "serving-kit-run-"
#: A supervisor writes its PID well within this time after its run folder was laid out.
STARTING_SECONDS = 60
#: A supervisor that was asked to stop is killed after this time.
STOP_SECONDS = supervisor.KILL_AFTER_SECONDS + 15


def new_run_dir() -> Path:
    """Return the path of a run folder, which is to be made once its supervisor is there.

    Raises:
        ServerError: its path contains a space, which makes Triton hang.
    """
    parent = Path(tempfile.gettempdir())
    if any(character.isspace() for character in str(parent)):
        raise ServerError(
            f"Triton cannot work in {parent}, the folder for temporary files: its path contains a "
            "space; set TMPDIR to a folder without one"
        )
    return parent / f"{prefix_in(parent)}{secrets.token_hex(8)}"


def prefix_in(parent: Path) -> str:
    """Return what the names of the runs in one folder for temporary files begin with.

    The names in /dev/shm begin like them, and so show to which folder's runs they belong.
    """
    return f"{RUN_PREFIX}{zlib.crc32(os.fsencode(parent)):08x}-"


def supervisor_of(run_dir: Path) -> int | None:
    """Return the PID of a run's supervisor, or None when it is not alive."""
    try:
        pid = int((run_dir / supervisor.PID_FILE).read_text())
    except (FileNotFoundError, ValueError):
        return None
    return pid if _is_supervisor(pid, run_dir) else None


def _is_supervisor(pid: int, run_dir: Path) -> bool:
    """Tell whether a process is a run's supervisor: another one may have its number by now."""
    try:
        return str(run_dir).encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False


def end(run_dir: Path) -> None:
    """Make sure that a run ends: its supervisor, and everything that belongs to it."""
    if pid := supervisor_of(run_dir):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while _is_supervisor(pid, run_dir) and time.monotonic() < deadline:
            time.sleep(0.05)
        if _is_supervisor(pid, run_dir):
            os.kill(pid, signal.SIGKILL)
    supervisor.clean_up(run_dir)


def sweep() -> None:
    """Clean up after runs whose supervisor was itself killed."""
    for run_dir in Path(tempfile.gettempdir()).glob(f"{RUN_PREFIX}*"):
        # A run of another user cannot be read; one that ends just now is gone.
        with contextlib.suppress(OSError):
            if run_dir.stat().st_uid == os.getuid() and not _is_alive(run_dir):
                supervisor.clean_up(run_dir)


def _is_alive(run_dir: Path) -> bool:
    """Tell whether a run's supervisor is alive, or may be about to start."""
    if supervisor_of(run_dir):
        return True
    pid_is_written = (run_dir / supervisor.PID_FILE).exists()
    return not pid_is_written and time.time() - run_dir.stat().st_mtime < STARTING_SECONDS


def exit_code_of(run_dir: Path) -> int | None:
    """Return the exit code of a run's Triton that ended for good; None while it runs."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        return int((run_dir / supervisor.EXIT_CODE_FILE).read_text())
    return None


def log_of(run_dir: Path) -> str:
    """Return what a run's Triton has printed so far."""
    with contextlib.suppress(FileNotFoundError):
        return (run_dir / supervisor.LOG_FILE).read_text(errors="replace")
    return ""
