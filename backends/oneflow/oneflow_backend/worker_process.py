"""One worker process, as its parent sees it: how it is started, sent requests and ended."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from oneflow_backend import complaints, openblas
from oneflow_backend.shared_tensors import DONE, runs_of

WORKER = Path(__file__).with_name("worker.py")
#: Has glibc ask for large pages: the CPU then looks up fewer of them to read a graph's larger
#: results. Versions before 2.35 ignore it.
LARGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
#: A process that has closed its socket is given this long to end.
END_SECONDS = 10.0


class WorkerError(RuntimeError):
    """The worker could not respond.

    Args:
        why: a sentence for a client.
        words: what OneFlow wrote itself, for the log; empty when it wrote nothing.
    """

    def __init__(self, why: str, words: str = ""):
        super().__init__(why)
        self.words = " ".join(words.split())

    @property
    def for_log(self) -> str:
        """The message, with OneFlow's own message."""
        return f"{self} (OneFlow's own words: {self.words})" if self.words else str(self)


class WorkerDied(WorkerError):
    """The worker died, or had to be killed, while it held a request.

    Args:
        by_itself: whether it ended by an exit code, as the next one would.
        by_chance: whether the next one may not end over the same thing.
    """

    def __init__(
        self, why: str, words: str = "", *, by_itself: bool = False, by_chance: bool = False
    ):
        super().__init__(why, words)
        self.by_itself, self.by_chance = by_itself, by_chance


class WorkerProcess:
    """A worker process: its socket, and what it wrote to standard error.

    Args:
        order: what ``worker.py`` reads: the graph, the device, the memory of the tensors.

    Raises:
        WorkerError: there is no Python to start it with.
    """

    def __init__(self, order: dict):
        self._in_use, self._lock = threading.Lock(), threading.Lock()
        self._death: WorkerDied | None = None
        #: What the worker tries at load; empty when it tries nothing.
        self.trial = ""
        self.plans = [1]
        self._loaded = False
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

        ``trial`` is what the worker tried last: should it die, that was the cause.

        Raises:
            WorkerDied, WorkerError: see ``receive``.
        """
        message = self.receive(load_seconds)
        while "trial" in message:
            self.trial = message["trial"]
            runs = message.get("runs", 0)
            message = self.receive(runs * run_seconds if runs else load_seconds)
        self.plans, self._loaded = message["plans"], True
        return message

    def request(self, begin: int, rows: int, seconds: float, done: Callable[[int], None]) -> None:
        """Run the graph on some rows; raises as ``receive`` does.

        Args:
            begin: the first row.
            rows: the one after the last; 0 for a graph without a batch.
            seconds: the limit for the run of one row.
            done: is told after each run but the last how many rows are done.
        """
        runs = runs_of(begin, rows, self.plans) or [(0, 1)]
        with self._in_use:
            try:
                self._socket.send(b"%d %d" % (begin, rows))
            except OSError:
                raise self.death() from None
            for first, end in runs:
                if self.receive((end - first) * seconds):
                    done(end)

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
            with self._lock:
                self._death = WorkerDied(
                    f"a run did not end within {seconds:g} s; if the graph is that slow, raise "
                    "run_timeout_seconds in config.pbtxt"
                )
            raise self._death from None
        except OSError:
            message = b""
        if not message:
            raise self.death()
        if message == DONE:
            return {}
        message = json.loads(message)
        if isinstance(message, int):  # a run has ended
            return {"rows": message}
        if "error" in message:
            raise WorkerError(message["error"], message.get("words", ""))
        return message

    def death(self) -> WorkerDied:
        """Say how the process ended, and why if that can be known."""
        with self._lock:  # both the keeper and the thread with the request call this
            if not self._death:
                self._death = self._find_death()
            return self._death

    def _find_death(self) -> WorkerDied:
        try:
            code = self.process.wait(timeout=END_SECONDS)
        except subprocess.TimeoutExpired:
            return WorkerDied("it closed its socket")
        text = os.pread(self._words, 1 << 20, 0).decode(errors="replace")
        why, words = complaints.explain(code, text, running=self._loaded or bool(self.trial))
        by_chance = complaints.by_chance(code, text)
        return WorkerDied(why, words, by_itself=code > 0, by_chance=by_chance)

    def kill(self) -> None:
        """End the process, even one that is stopped."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Close what was opened for the process, which has ended."""
        self.death()
        # Not under a thread that still waits in recv(): the next worker's socket may get the
        # same number, and that thread would then take a response that is not its own.
        with self._in_use:
            self._socket.close()
            os.close(self._words)


def environment() -> dict[str, str]:
    """Return the variables that a worker has in addition to its parent's, whose values are kept."""
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
