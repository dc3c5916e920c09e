"""One worker process, seen from its parent: how it is started, sent requests and ended."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

from oneflow_backend import openblas
from oneflow_backend.shared_tensors import DONE

WORKER = Path(__file__).with_name("worker.py")
#: Has glibc ask for large pages: the CPU then looks up fewer of them to read a graph's larger
#: results. Versions before 2.35 ignore it.
LARGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
#: A process that has closed its socket is given this long to end.
END_SECONDS = 10.0


class WorkerError(RuntimeError):
    """The worker could not respond; the message says why."""


class WorkerDied(WorkerError):
    """The worker died, or had to be killed, while it held a request."""


class WorkerProcess:
    """A worker process: its socket, and what it wrote to standard error.

    Args:
        order: what ``worker.py`` reads: the graph, the device, the memory of the tensors.

    Raises:
        WorkerError: there is no Python to start it with.
    """

    def __init__(self, order: dict):
        self._in_use, self._lock, self._last_words = threading.Lock(), threading.Lock(), ""
        program = [find_python(), WORKER]
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket, self._words = ours, os.memfd_create("oneflow-stderr")
        self.process = subprocess.Popen(
            [*program, json.dumps(order | {"socket": theirs.fileno()})],
            stdin=subprocess.DEVNULL,
            stdout=self._words,
            stderr=self._words,
            env={**os.environ, **environment(), "PYTHONPATH": _python_path()},
            pass_fds=(theirs.fileno(), order["memory"]),
        )
        theirs.close()

    def loaded(self, load_seconds: float, run_seconds: float) -> dict:
        """Wait until the graph is loaded; each run of it meanwhile has a limit of its own.

        Raises:
            WorkerDied, WorkerError: see ``receive``.
        """
        message = self.receive(load_seconds)
        while "running" in message:
            message = self.receive(run_seconds if message["running"] else load_seconds)
        return message

    def request(self, rows: int, seconds: float) -> None:
        """Run the graph on the first rows; raises as ``receive`` does."""
        with self._in_use:
            try:
                self._socket.send(b"%d" % rows)
            except OSError:
                raise WorkerDied(self.last_words()) from None
            self.receive(seconds)

    def receive(self, seconds: float) -> dict:
        """Wait for a message.

        Raises:
            WorkerDied: there is none, because the process ended or the time is over.
            WorkerError: the worker says what went wrong; it goes on working.
        """
        try:
            self._socket.settimeout(seconds)
            message = self._socket.recv(65536)
        except TimeoutError:
            raise WorkerDied(f"did not answer within {seconds:g} s") from None
        except OSError:
            message = b""
        if not message:
            raise WorkerDied(self.last_words())
        if message == DONE:
            return {}
        message = json.loads(message)
        if "error" in message:
            raise WorkerError(message["error"])
        return message

    def last_words(self) -> str:
        """Say how the process ended, with OneFlow's own complaint if it made one."""
        with self._lock:  # both the keeper and the thread with the request call this
            if not self._last_words:
                self._last_words = self._read_last_words()
            return self._last_words

    def _read_last_words(self) -> str:
        try:
            code = self.process.wait(timeout=END_SECONDS)
        except subprocess.TimeoutExpired:
            return "closed its socket"
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        text = os.pread(self._words, 1 << 20, 0).decode(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        complaints = [line for line in lines if "Check failed" in line or "error:" in line]
        if code > 0 and not complaints:  # a Python error: its last line says which
            complaints = lines[-1:]
        return f"{how} ({complaints[-1]})" if complaints else how

    def kill(self) -> None:
        """End the process, even one that is stopped."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Close what was opened for the process, which has ended."""
        self.last_words()
        # Not under a thread that still waits in recv(): the next worker's socket may get the
        # same number, and that thread would then take a response that is not its own.
        with self._in_use:
            self._socket.close()
            os.close(self._words)


def environment() -> dict[str, str]:
    """Return the variables that a worker has besides its parent's; a choice made there stays."""
    unset = {name: value for name, value in LARGE_PAGES.items() if name not in os.environ}
    return unset | openblas.environment()


def find_python() -> str:
    """Return the Python to start workers with: the one that is embedded in Triton's stub.

    ``sys.executable`` does not say: in the stub it is whatever ``python3`` comes first on PATH.

    Raises:
        WorkerError: there is none.
    """
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    candidates = [
        os.environ.get("ONEFLOW_BACKEND_PYTHON"),
        str(Path(sys.base_exec_prefix) / "bin" / version),
        shutil.which(version),
    ]
    for candidate in candidates:
        if candidate and os.access(candidate, os.X_OK):
            return candidate
    raise WorkerError(
        f"no {version} was found to run OneFlow in; set ONEFLOW_BACKEND_PYTHON to its path"
    )


def _python_path() -> str:
    """Return this process's path, on which the worker finds oneflow, numpy and this package.

    An empty entry, as notebooks have, stands for the current folder: what lies there is not meant
    to take the place of a module.
    """
    return os.pathsep.join(filter(None, sys.path))
