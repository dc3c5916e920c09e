"""The servers that this kit has started: their run folders, and how to find them again.

Each server has a run folder among the temporary files, with its log, its supervisor's PID and
whatever else it needs; it goes with the server. One that outlives its owner is also recorded in
``build/servers/`` of this clone, so that another notebook, ``make status`` or ``make stop``
finds it.
"""

import contextlib
import fcntl
import json
import os
import secrets
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from serving_kit.errors import ServerError
from serving_kit.paths import SERVERS
from serving_kit.server import supervisor

RUN_PREFIX = "serving-kit-run-"
#: A supervisor writes its PID well within this time after its run folder was laid out.
STARTING_SECONDS = 60
#: A supervisor that was asked to stop is killed after this time.
STOP_SECONDS = supervisor.KILL_AFTER_SECONDS + 15


def new_run_dir() -> Path:
    """Return the path of a run folder, which is to be made once its supervisor is there.

    Raises:
        ServerError: its path has a space, which Triton does not survive.
    """
    parent = Path(tempfile.gettempdir())
    if any(character.isspace() for character in str(parent)):
        raise ServerError(
            f"Triton cannot work in {parent}, the folder for temporary files: "
            "its path has a space; set TMPDIR to a folder without one"
        )
    return parent / f"{RUN_PREFIX}{secrets.token_hex(8)}"


def supervisor_of(run_dir: Path) -> int | None:
    """Return the PID of a run's supervisor, or None when it is not alive."""
    try:
        pid = int((run_dir / "supervisor.pid").read_text())
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
    """End a run for certain: its supervisor, and with it or after it all that belongs to it."""
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
    pid_is_written = (run_dir / "supervisor.pid").exists()
    return not pid_is_written and time.time() - run_dir.stat().st_mtime < STARTING_SECONDS


@dataclass(frozen=True)
class Record:
    """A server that outlives its owner, as ``build/servers/<name of the run folder>.json``."""

    run_dir: str
    #: The arguments of TritonServer.
    settings: dict
    #: What the models and the backend were when it started; see ``server.fingerprint``.
    fingerprint: str
    #: The way to a server that was chosen; see ``server.Choice``.
    choice: dict
    ports: list[int]
    version: str

    def write(self) -> None:
        """Record the server."""
        file = _record_file(Path(self.run_dir))
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self), indent=2) + "\n")
        partial.rename(file)


def forget(run_dir: Path) -> None:
    """Remove the record of a run, if it has one."""
    _record_file(run_dir).unlink(missing_ok=True)


def _record_file(run_dir: Path) -> Path:
    return SERVERS / f"{run_dir.name}.json"


def records() -> list[Record]:
    """Return the records of all servers that are alive, oldest first; drop the stale ones."""
    alive = []
    for file in SERVERS.glob("*.json"):
        try:
            written = file.stat().st_mtime
            record = Record(**json.loads(file.read_text()))
        except FileNotFoundError:  # stopped just now
            continue
        except (ValueError, TypeError):  # not a record, or one of another version of the kit
            end(Path(tempfile.gettempdir()) / file.stem)
            file.unlink(missing_ok=True)
            continue
        if supervisor_of(Path(record.run_dir)):
            alive.append((written, record))
        else:
            end(Path(record.run_dir))
            forget(Path(record.run_dir))
    return [record for _, record in sorted(alive, key=lambda entry: entry[0])]


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Wait until no other process of this clone starts or stops a server that is recorded."""
    SERVERS.mkdir(parents=True, exist_ok=True)
    lock = os.open(SERVERS, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # given up by the kernel if this process is killed
        yield
    finally:
        os.close(lock)
