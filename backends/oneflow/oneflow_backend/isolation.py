"""A saved graph in a process of its own; one that dies is replaced, and the request repeated."""

import os
import threading
from collections.abc import Callable

from oneflow_backend.graph_folder import GraphFolder
from oneflow_backend.shared_tensors import SharedTensors
from oneflow_backend.worker_process import WorkerDied, WorkerError, WorkerProcess

#: Loading is given this long; the largest graphs that were tried took half a minute.
LOAD_SECONDS = 600.0
#: A single run while the graph is loaded is given this long, or ``run_seconds`` if that is more:
#: the first one takes several times as long as those that follow.
FIRST_RUN_SECONDS = 30.0
#: Between two tries to start a worker that cannot load its graph any more.
RETRY_SECONDS = 1.0


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
        batch_sizes: numbers of rows to have a plan of their own; None to choose.
        run_seconds: a worker that does not respond for so long is killed.
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
        self._worker: WorkerProcess | None = None  # the living one, once it has loaded the graph
        self._started: WorkerProcess | None = None  # the one started last
        self._failure = ""
        self._closed = False
        self._keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)
        self._keeper.start()
        try:
            self._living_worker()
        except WorkerError as error:
            self.close()
            raise GraphRefused(str(error)) from None

    @property
    def worker_pid(self) -> int:
        """The process in which OneFlow runs the graph now."""
        return self._living_worker().process.pid

    def run(self, rows: int = 0) -> None:
        """Run the first ``rows`` rows of ``tensors.inputs``; results go to ``tensors.outputs``.

        Raises:
            WorkerDied: every try ended with the worker's death.
            WorkerError: OneFlow raised an error, or no worker can be started any more.
        """
        for tries_left in range(self._retries, -1, -1):
            worker = self._living_worker()
            try:
                worker.request(rows, self._run_seconds)
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

    def _living_worker(self) -> WorkerProcess:
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

    def _start(self) -> WorkerProcess:
        """Start a worker; one that dies or hangs is tried twice more, at last without batches."""
        for tries_left in (2, 1, 0):
            order = self._order if tries_left else self._order | {"batch_sizes": []}
            worker = WorkerProcess(order)
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

    def _report(self, *, worker: WorkerProcess | None = None, failure: str = "") -> None:
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
