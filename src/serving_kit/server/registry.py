"""The servers that outlive their owner, recorded so that others find them again.

Each has a file in ``build/servers/`` of this clone: another notebook, ``make status`` and ``make
stop`` look there.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from serving_kit.errors import ServerError
from serving_kit.files import write_file
from serving_kit.paths import BACKENDS, SERVERS
from serving_kit.server import runs
from serving_kit.server.spec import ServerSpec


@dataclass(frozen=True)
class Record:
    """A server that outlives its owner."""

    run_dir: Path
    spec: ServerSpec
    ports: tuple[int, ...]
    version: str
    #: What the models and the backend were when it started; see ``fingerprint``.
    fingerprint: str
    #: The name of the run of the gateway that it stands behind; empty without one.
    gateway: str = ""

    def write(self) -> None:
        """Record the server."""
        entries = asdict(self) | {"run_dir": str(self.run_dir), "spec": self.spec.to_json()}
        write_file(_file(self.run_dir), json.dumps(entries, indent=2) + "\n")


def read(file: Path) -> Record:
    """Read the record of a server.

    Raises:
        OSError, ValueError, TypeError, KeyError, ServerError: it cannot be read, is not a record,
            or is one of another version of the kit.
    """
    entries = json.loads(file.read_text())
    entries |= {
        "run_dir": Path(entries["run_dir"]),
        "spec": ServerSpec.from_json(entries["spec"]),
        "ports": tuple(entries["ports"]),
    }
    return Record(**entries)


def records() -> list[Record]:
    """Return the records of all servers that are alive, oldest first; drop the stale ones."""
    alive = []
    for file in SERVERS.glob("*.json"):
        try:
            written = file.stat().st_mtime
            record = read(file)
        except FileNotFoundError:  # stopped just now
            continue
        except (ValueError, TypeError, KeyError, ServerError):
            _drop(file)
            continue
        if runs.supervisor_of(record.run_dir):
            alive.append((written, record))
        else:
            runs.end(record.run_dir)
            forget(record.run_dir)
    return [record for _, record in sorted(alive, key=lambda entry: entry[0])]


def _drop(file: Path) -> None:
    """Remove a record that cannot be read, and end its server, which nobody could find any more.

    Its name is the name of the run folder. What the file says of it is not trusted: a folder that
    is no run's would be removed.
    """
    if file.stem.startswith(runs.RUN_PREFIX):
        runs.end(Path(tempfile.gettempdir()) / file.stem)
    file.unlink(missing_ok=True)


def forget(run_dir: Path) -> None:
    """Remove the record of a run, if it has one."""
    _file(run_dir).unlink(missing_ok=True)


def _file(run_dir: Path) -> Path:
    return SERVERS / f"{run_dir.name}.json"


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


def fingerprint(model_repository: Path) -> str:
    """Return a text that changes when a file of a model repository or of the backend does."""
    digest = hashlib.sha256()
    for top in (model_repository, BACKENDS / "oneflow"):
        for folder, folders, files in os.walk(top):
            # What Python writes as it runs, and what is still being written.
            folders[:] = sorted(n for n in folders if n != "__pycache__" and n[0] != ".")
            for name in sorted(files):
                path = Path(folder, name)
                with contextlib.suppress(OSError):
                    status = path.stat()
                    digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
