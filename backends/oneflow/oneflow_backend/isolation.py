"""A saved graph in a process of its own, which may die: it is replaced, and asked again."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from oneflow_backend import openblas
from oneflow_backend.graph_folder import GraphFolder
from oneflow_backend.shared_tensors import DONE, SharedTensors

WORKER = Path(__file__).with_name("worker.py")
#: Loading is given this long; the largest graphs that were tried took half a minute.
LOAD_SECONDS = 600.0
#: A single run while the graph is loaded is given this long, or ``run_seconds`` if that is more:
#: the first one takes several times as long as those that follow.
FIRST_RUN_SECONDS = 30.0
#: Has glibc ask for large pages: the CPU then looks up fewer of them to read a graph's larger
#: results. Versions before 2.35 know no such thing, and pass it over.
LARGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
#: Between two tries to start a worker that cannot load its graph any more.
RETRY_SECONDS = 1.0


def environment() -> dict[str, str]:
    """Return the variables that a worker has besides its parent's; a choice made there stays."""
    unset = {name: value for name, value in LARGE_PAGES.items() if name not in os.environ}
    return unset | openblas.environment()


class WorkerError(RuntimeError):
    """The worker could not give an answer; the message says why."""


class WorkerDied(WorkerError):
    """The worker died, or had to be killed, while it held a request."""


class GraphRefused(ValueError):
    """OneFlow, or the worker's own checks, will not run this graph."""


class IsolatedGraph:
    """Runs a saved graph in a worker process, and always has a living worker.

    A thread keeps it so: it starts a worker, waits for its end, and starts the next. It is also
    the only thread that starts one, because the kernel ends a worker with the thread that did.

    Args:
        folder: the checked folder of the graph.
        device: ``"cpu"`` or ``"cuda:<i>"``.
        rows: the largest batch; None when the graph takes its own shapes only.
        batch_sizes: numbers of rows that shall have a plan of their own; None to choose.
        run_seconds: a worker that does not answer for so long is killed.
        retries: how often a request is tried again after its worker died.
        log: is given a sentence about each worker that died, and other things worth knowing.

    Raises:
        GraphRefused: the graph cannot be loaded.
    """

    def __init__(
        self,
        folder: GraphFolder,
        device: str,
        *,
        rows: int | None,
        batch_sizes: list[int] | None,
        run_seconds: float,
        retries: int,
        log: Callable[[str], None],
    ):
        self.tensors = SharedTensors(folder, rows)
        #: How many workers died and were replaced.
        self.restarts = 0
        self._order = {
            "path": str(folder.path),
            "device": device,
            "rows": rows,
            "batch_sizes": batch_sizes,
            "proven": False,
            "parent": os.getpid(),
            "memory": self.tensors.descriptor,
        }
        self._run_seconds, self._retries, self._log = run_seconds, retries, log
        self._changed = threading.Condition()
        self._worker: _Worker | None = None  # the living one, once it has loaded the graph
        self._started: _Worker | None = None  # the one started last
        self._failure = ""
        self._closed = False
        self._keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)
        self._keeper.start()
        try:
            self._living_worker()
        except WorkerError as error:
            self.close()
            raise GraphRefused(str(error)) from None

    def run(self, rows: int = 0) -> None:
        """Answer the first ``rows`` rows that lie in ``tensors.inputs``, into ``tensors.outputs``.

        Raises:
            WorkerDied: every try ended with the worker's death.
            WorkerError: OneFlow raised an error, or no worker can be started any more.
        """
        for tries_left in range(self._retries, -1, -1):
            worker = self._living_worker()
            try:
                worker.ask(rows, self._run_seconds)
                return
            except WorkerDied as death:
                worker.kill()
                with self._changed:
                    self._changed.wait_for(lambda dead=worker: self._worker is not dead)
                if not tries_left:
                    times = f"{self._retries + 1} times" if self._retries else "once"
                    raise WorkerDied(
                        f"OneFlow's process died {times} over this request: {death}"
                    ) from None

    def _living_worker(self) -> "_Worker":
        """Return the worker, once it has loaded the graph."""
        with self._changed:
            self._changed.wait_for(lambda: self._worker or self._failure or self._closed)
            if self._worker:
                return self._worker
            raise WorkerError(self._failure or "the model is being unloaded")

    def _keep(self) -> None:
        """Have a worker at all times, until ``close()``."""
        while not self._closed:
            try:
                worker = self._start()
            except (WorkerError, OSError) as error:
                self._report(failure=str(error))
                with self._changed:
                    self._changed.wait_for(lambda: self._closed, RETRY_SECONDS)
                continue
            self._report(worker=worker)
            worker.process.wait()
            self._report()
            if not self._closed:
                self.restarts += 1
                self._log(f"OneFlow's process {worker.last_words()}; another one is started")
            worker.close()

    def _start(self) -> "_Worker":
        """Start a worker; one that dies or hangs is tried twice more, at last without batches."""
        for tries_left in (2, 1, 0):
            order = self._order if tries_left else self._order | {"batch_sizes": []}
            worker = _Worker(order)
            with self._changed:
                self._started = worker
                if self._closed:
                    worker.kill()
            try:
                loaded = worker.loaded(LOAD_SECONDS, max(FIRST_RUN_SECONDS, self._run_seconds))
            except WorkerDied as death:
                worker.kill()
                worker.close()
                refused = worker.process.returncode > 0  # it ended by itself: so will the next
                if refused or not tries_left or self._closed:
                    raise WorkerError(f"OneFlow's process died while it loaded: {death}") from None
                self._log(f"OneFlow's process died while it loaded: {death}; another is started")
                continue
            except WorkerError:
                worker.kill()
                worker.close()
                raise
            self._remember(loaded)
            return worker
        raise AssertionError("unreachable")

    def _remember(self, loaded: dict) -> None:
        """Keep what the first worker proved: the next ones load the same plans without a proof."""
        if not self._order["proven"]:
            self._order |= {"proven": True, "batch_sizes": [n for n in loaded["plans"] if n > 1]}
            if loaded["reason"]:
                self._log(f"batches run row by row where no plan was proven: {loaded['reason']}")

    def _report(self, *, worker: "_Worker | None" = None, failure: str = "") -> None:
        with self._changed:
            self._worker, self._failure = worker, failure
            self._changed.notify_all()

    def close(self) -> None:
        """End the worker; the object cannot be used any more."""
        if self._closed:
            return
        with self._changed:
            self._closed = True
            if self._started:
                self._started.kill()
            self._changed.notify_all()
        self._keeper.join()
        os.close(self.tensors.descriptor)


class _Worker:
    """One worker process: its socket, and what it wrote to standard error."""

    def __init__(self, order: dict):
        self._in_use, self._lock, self._last_words = threading.Lock(), threading.Lock(), ""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket, self._words = ours, os.memfd_create("oneflow-stderr")
        # The worker finds oneflow and numpy where this process would, also outside of a stub.
        path = os.pathsep.join(filter(None, sys.path))
        self.process = subprocess.Popen(
            [_python(), WORKER, json.dumps(order | {"socket": theirs.fileno()})],
            stdin=subprocess.DEVNULL,
            stdout=self._words,
            stderr=self._words,
            env={**os.environ, **environment(), "PYTHONPATH": path},
            pass_fds=(theirs.fileno(), order["memory"]),
        )
        theirs.close()

    def loaded(self, load_seconds: float, run_seconds: float) -> dict:
        """Wait until the graph is loaded; each run of it meanwhile has a limit of its own.

        Raises:
            WorkerDied, WorkerError: see ``receive``.
        """
        answer = self.receive(load_seconds)
        while "running" in answer:
            answer = self.receive(run_seconds if answer["running"] else load_seconds)
        return answer

    def ask(self, rows: int, seconds: float) -> None:
        """Have the first rows answered; see ``receive``."""
        with self._in_use:
            try:
                self._socket.send(b"%d" % rows)
            except OSError:
                raise WorkerDied(self.last_words()) from None
            self.receive(seconds)

    def receive(self, seconds: float) -> dict:
        """Wait for an answer.

        Raises:
            WorkerDied: there is none, because the process ended or the time is over.
            WorkerError: the worker says what went wrong; it goes on working.
        """
        try:
            self._socket.settimeout(seconds)
            answer = self._socket.recv(65536)
        except TimeoutError:
            raise WorkerDied(f"did not answer within {seconds:g} s") from None
        except OSError:
            answer = b""
        if not answer:
            raise WorkerDied(self.last_words())
        if answer == DONE:
            return {}
        answer = json.loads(answer)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def last_words(self) -> str:
        """Say how the process ended, with OneFlow's own complaint if it made one."""
        with self._lock:  # both the keeper and the thread with the request ask
            if not self._last_words:
                self._last_words = self._read_last_words()
            return self._last_words

    def _read_last_words(self) -> str:
        try:
            code = self.process.wait(timeout=10)
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
        """End the process; one that is stopped, too."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Close what was opened for the process, which has ended."""
        self.last_words()
        # Not under a thread that still waits in recv(): the next worker's socket may get the
        # same number, and that thread would then take an answer that is not its own.
        with self._in_use:
            self._socket.close()
            os.close(self._words)


def _python() -> str:
    """Return the Python to start workers with: the one that is embedded in Triton's stub.

    ``sys.executable`` does not say: in the stub it is whatever ``python3`` comes first on PATH.
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
