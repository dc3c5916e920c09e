"""A saved graph in a process of its own; one that dies is replaced, and the request repeated."""

import os
import threading
from collections.abc import Callable

from oneflow_backend.example_inputs import EVERYTHING
from oneflow_backend.graph_folder import GraphFolder
from oneflow_backend.shared_tensors import SharedTensors, runs_of
from oneflow_backend.worker_process import WorkerDied, WorkerError, WorkerProcess

#: Loading is given this long; the largest graphs that were tried took half a minute.
LOAD_SECONDS = 600.0
#: A single run while the graph is loaded is given this long, or ``run_seconds`` if that is more:
#: the first one takes several times as long as those that follow.
FIRST_RUN_SECONDS = 30.0
#: When so many trials at load ended the worker, the next one tries nothing.
MOST_LEFT_OUT = 5
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
            "verified": False,
            "left_out": [],
            "parent": os.getpid(),
            "memory": self.tensors.descriptor,
        }
        self._run_seconds, self._retries, self._log = run_seconds, retries, log
        self._changed = threading.Condition()
        self._worker: WorkerProcess | None = None  # the living one, once it has loaded the graph
        self._started: WorkerProcess | None = None  # the one started last
        self._failure: Exception | None = None
        self._closed = False
        self._keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)
        self._keeper.start()
        try:
            self._living_worker()
        except WorkerError as error:
            self.close()
            if error.words:
                self._log(error.for_log)
            raise GraphRefused(str(error)) from None

    @property
    def worker_pid(self) -> int:
        """The process in which OneFlow runs the graph now."""
        return self._living_worker().process.pid

    def run(
        self,
        rows: int = 0,
        *,
        retries: int | None = None,
        done: Callable[[int], None] = lambda rows: None,
    ) -> None:
        """Run the first ``rows`` rows of ``tensors.inputs``; results go to ``tensors.outputs``.

        Args:
            rows: how many; 0 for a graph without a batch.
            retries: how often to try again after a worker's death; None for the graph's own.
            done: is told after each run but the last how many rows are done.

        Raises:
            WorkerDied: every try ended with the worker's death.
            WorkerError: OneFlow raised an error, or no worker can be started any more.
        """
        retries, begin = self._retries if retries is None else retries, 0

        def note(end: int) -> None:
            nonlocal begin
            begin = end
            done(end)

        for tries_left in range(retries, -1, -1):
            worker = self._living_worker()
            try:
                worker.request(begin, rows, self._run_seconds, note)
                return
            except WorkerDied as death:
                worker.kill()
                with self._changed:
                    self._changed.wait_for(lambda dead=worker: self._worker is not dead)
                if not tries_left:
                    times = f"{retries + 1} times" if retries else "once"
                    raise WorkerDied(
                        f"OneFlow's process died {times} on this request: {death}", death.words
                    ) from None

    def next_run(self, begin: int, rows: int) -> int:
        """Return the row after the last of the run that begins with row ``begin``."""
        return runs_of(begin, rows, [*sorted(self._order["batch_sizes"], reverse=True), 1])[0][1]

    def _living_worker(self) -> WorkerProcess:
        """Return the worker, once it has loaded the graph."""
        with self._changed:
            self._changed.wait_for(lambda: self._worker or self._failure or self._closed)
            if self._worker:
                return self._worker
            if self._failure:
                raise WorkerError(str(self._failure), getattr(self._failure, "words", ""))
            raise WorkerError("the model is being unloaded")

    def _keep(self) -> None:
        """Have a worker at all times, until ``close()``."""
        while not self._closed:
            try:
                self._keep_one()
            except Exception as error:  # whatever it is: requests wait for this thread
                self._report(failure=error)
                with self._changed:
                    self._changed.wait_for(lambda: self._closed, RETRY_SECONDS)

    def _keep_one(self) -> None:
        """Start a worker, and wait for its end."""
        worker = self._start()
        self._report(worker=worker)
        worker.process.wait()
        self._report()
        if not self._closed:
            self.restarts += 1
            self._log(f"OneFlow's process died, and is replaced: {worker.death().for_log}")
        worker.close()

    def _start(self) -> WorkerProcess:
        """Start a worker.

        What it was trying when it died or hung is left out at the next start, at last all trials;
        without such a reason it is tried twice more, and after a crash of the kind that short
        graphs have, the same trial is made once more.
        """
        tries_left, again = 2, set()
        while True:
            worker = WorkerProcess(self._order)
            with self._changed:
                self._started = worker
                if self._closed:
                    worker.kill()
            try:
                loaded = worker.loaded(LOAD_SECONDS, max(FIRST_RUN_SECONDS, self._run_seconds))
            except WorkerDied as death:
                worker.kill()
                worker.close()
                tries_left -= not worker.trial
                # One that ends by itself will do so again.
                if self._closed or tries_left < 0 or (death.by_itself and not worker.trial):
                    raise WorkerError(
                        f"OneFlow's process died while it loaded the graph: {death}", death.words
                    ) from None
                if worker.trial and (not death.by_chance or worker.trial in again):
                    self._leave_out(worker.trial, death)
                else:
                    again.add(worker.trial)
                    self._log(
                        "OneFlow's process died while it loaded the graph, and is replaced: "
                        f"{death.for_log}"
                    )
                continue
            except WorkerError:
                worker.kill()
                worker.close()
                raise
            self._remember(loaded)
            return worker

    def _leave_out(self, trial: str, death: WorkerDied) -> None:
        """Have the next workers do without what one died of, or without any trial."""
        self._order["left_out"] = [*self._order["left_out"], trial]
        if len(self._order["left_out"]) == MOST_LEFT_OUT:
            self._order |= {"left_out": [EVERYTHING], "batch_sizes": []}
        self._log(
            f"OneFlow's process died during a trial run of the graph on {trial}, which is skipped "
            f"from now on: {death.for_log}"
        )

    def _remember(self, loaded: dict) -> None:
        """Keep what the first worker verified: the next ones load the same plans as they are."""
        if not self._order["verified"]:
            self._order |= {"verified": True, "batch_sizes": [n for n in loaded["plans"] if n > 1]}
            if loaded["reason"]:
                self._log(f"batches run row by row where no plan was verified: {loaded['reason']}")

    def _report(
        self, *, worker: WorkerProcess | None = None, failure: Exception | None = None
    ) -> None:
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
