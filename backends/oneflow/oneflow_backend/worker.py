"""The process in which OneFlow runs; started by ``isolation.py``, never by hand.

OneFlow may abort, crash or hang. Here that costs nobody but this process: tensors lie in memory
that the parent made, and the parent starts another worker.
"""

import ctypes
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import EllipsisType

import numpy as np

from oneflow_backend.graph_folder import GraphFolder, GraphFolderError, read_graph_folder
from oneflow_backend.shared_tensors import DONE, SharedTensors

PR_SET_PDEATHSIG = 1

#: A batched plan may differ from single rows by this much, relative to the row's largest value:
#: other shapes make other kernels sum in another order.
TOLERANCE = {"float16": 1e-2, "float32": 1e-5, "float64": 1e-12}

#: On a CPU a batch is no faster than its rows, but for graphs so short that the call itself is
#: what takes time.
SHORT_MILLISECONDS = 5.0
#: A graph whose first run takes this long is not short, whatever that run had to get ready.
LONG_MILLISECONDS = 300.0
#: The kernel counts a thread's time in ticks of 10 ms; one that shall be judged by its time must
#: have been watched for some of them.
WATCHED_MILLISECONDS = 100.0
TICKS = 3
#: While a server starts, cores are scarce: a spinner that got too few ticks is watched on.
WATCHES = 5
#: Enough to let others go first; with SCHED_IDLE two instances on two cores did a tenth less.
SPINNER_NICENESS = 10


def main() -> None:
    """Load the graph, say so, and answer until the parent goes."""
    order = json.loads(sys.argv[1])
    # The kernel kills this process when its parent ends, however it ends, even if it is stopped.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != order["parent"]:
        return
    parent = socket.socket(fileno=order["socket"])
    try:
        worker = Worker(order, parent)
    except GraphFolderError as error:
        _say(parent, error=str(error))
        return
    except Exception as error:  # OneFlow raises many kinds
        _say(parent, error=f"OneFlow cannot load {order['path']}: {_first_line(error)}")
        return
    _say(parent, plans=worker.plans, reason=worker.reason)
    while request := parent.recv(256):
        try:
            worker.run(int(request))
        except Exception as error:  # of many kinds; all go to the request that met them
            _say(parent, error=f"{type(error).__name__}: {_first_line(error)}")
        else:
            parent.send(DONE)


class Worker:
    """A saved graph, its plans, and the memory that its tensors come and go through."""

    def __init__(self, order: dict, parent: socket.socket):
        self._parent = parent
        folder = read_graph_folder(order["path"])
        self.tensors = SharedTensors(folder, order["rows"], order["memory"])
        self.batched = order["rows"] is not None
        from oneflow_backend.saved_graph import SavedGraph

        self.graph = SavedGraph(order["path"], order["device"])
        #: Numbers of rows that have a plan of their own, the largest first.
        self.plans = [1]
        #: Runs that are bound to rows of the shared memory, by the rows.
        self._runs: dict[str, Callable[[], None]] = {}
        #: Why a wanted plan is not there; empty when all are.
        self.reason = ""
        if self.graph.one_by_one:
            milliseconds = self._time_one_run(folder)
        else:
            milliseconds = self._time_graph(folder, order["device"])
        if self.batched:
            self._add_plans(folder, order, milliseconds)

    def _time_graph(self, folder: GraphFolder, device: str) -> float:
        """As ``_time_one_run``, with what OneFlow's engine for graphs asks for on a CPU."""
        cores = os.sched_getaffinity(0)
        _stay_on({sorted(cores)[os.getpid() % len(cores)]})
        milliseconds = self._time_one_run(folder)
        is_long = milliseconds > SHORT_MILLISECONDS
        if device != "cpu" or is_long:
            _stay_on(cores)
        if device == "cpu" and is_long:
            self._calm_spinner(folder)
        return milliseconds

    def _time_one_run(self, folder: GraphFolder) -> float:
        """Run the graph, so that no request pays for its first run; return milliseconds."""
        zeros = _zeros(folder)
        try:
            first = self._milliseconds(zeros)
            return first if first > LONG_MILLISECONDS else self._milliseconds(zeros)
        except Exception:  # zeros may be nothing that this graph takes
            return np.inf

    def _calm_spinner(self, folder: GraphFolder) -> None:
        """Make OneFlow's scheduler thread nice to all others.

        While a graph runs, that thread does nothing but ask whether it has ended, and yields: a
        second core is busy for nothing, and two workers on two cores are in each other's way
        (``VirtualMachine::ScheduleLoop`` of OneFlow 0.9.0). It is told by its system time, which
        is all ``sched_yield``; where that is not clear, all stays as it was.
        """
        before = _times_of_threads()
        for _ in range(WATCHES):
            watched = 0.0
            try:
                while watched < WATCHED_MILLISECONDS:
                    watched += self._milliseconds(_zeros(folder))
            except Exception:  # zeros may be nothing that this graph takes
                return
            spinners = _spinners(before, _times_of_threads())
            if len(spinners) == 1:
                os.setpriority(os.PRIO_PROCESS, spinners[0], SPINNER_NICENESS)
                return

    def _milliseconds(self, inputs: list[np.ndarray]) -> float:
        began = time.perf_counter()
        self._run_at_load(*inputs)
        return (time.perf_counter() - began) * 1000

    def _run_at_load(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run the graph, and let the parent know: a run may hang, which is not slow loading."""
        _say(self._parent, running=True)
        try:
            return self.graph(*inputs)
        finally:
            _say(self._parent, running=False)

    def _add_plans(self, folder: GraphFolder, order: dict, milliseconds: float) -> None:
        wanted = order["batch_sizes"]
        if wanted is None:
            pays = order["device"] != "cpu" or milliseconds < SHORT_MILLISECONDS
            wanted = _powers_of_two(order["rows"]) if pays else []
        for n in sorted(wanted):
            try:
                self.graph.add_batch(n)
                if not order["proven"]:
                    prove(self._run_at_load, folder, n)
            except Exception as obstacle:  # CannotBatch, Unequal, or one of OneFlow's many kinds
                self.graph.drop_batch(n)
                self.reason = _first_line(obstacle)
                break
            self.plans.insert(0, n)

    def run(self, rows: int) -> None:
        """Answer the first ``rows`` rows of the inputs, with as few runs as the plans allow."""
        if not self.batched:
            self._run_where(...)
            return
        begin = 0
        while begin < rows:
            n = next(n for n in self.plans if n <= rows - begin)
            self._run_where(slice(begin, begin + n))
            begin += n

    def _run_where(self, rows: slice | EllipsisType) -> None:
        """Run the graph on some rows of the shared memory, or on all of it, scalars included."""
        key = str(rows)
        if key not in self._runs:
            tensors = (self.tensors.inputs, self.tensors.outputs)
            self._runs[key] = self.graph.bind(*([array[rows] for array in t] for t in tensors))
        self._runs[key]()


class Unequal(ValueError):
    """A batched plan gave a row another answer than the row gets alone."""


def prove(graph, folder: GraphFolder, n: int) -> None:
    """Compare a plan for n rows with n single runs, on random rows.

    Raises:
        Unequal: an output differs by more than ``TOLERANCE``; the plan must not be used.
    """
    rows = _random_rows(folder, n)
    alone = [graph(*(array[i : i + 1] for array in rows)) for i in range(n)]
    together = graph(*rows)
    for k, batch in enumerate(together):
        expected = np.concatenate([outputs[k] for outputs in alone])
        difference = _relative_difference(batch, expected)
        if not difference <= TOLERANCE.get(batch.dtype.name, 0):
            raise Unequal(
                f"OUTPUT_{k} of {n} rows together differs from the rows alone by {difference:.2g} "
                "of its largest value"
            )


def _relative_difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference in any row, relative to the row's largest value."""
    if found.dtype.kind != "f":
        return 0.0 if np.array_equal(found, expected) else np.inf
    if np.array_equal(found, expected, equal_nan=True):
        return 0.0
    rows = (len(found), -1)
    found, expected = (array.astype(np.float64).reshape(rows) for array in (found, expected))
    if not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return np.inf
    largest = np.maximum(np.abs(expected).max(axis=1), np.finfo(np.float32).tiny)
    return float((np.abs(found - expected).max(axis=1) / largest).max())


def _random_rows(folder: GraphFolder, n: int) -> list[np.ndarray]:
    """Return n rows for every input: normal floats, any uint8, else integers and booleans 0 or 1.

    Integers are often indices, which must exist: 0 and 1 do in every table worth indexing.
    """
    random = np.random.default_rng(0)
    arrays = []
    for spec in folder.inputs:
        shape = (n, *spec.shape[1:])
        if spec.dtype.kind == "f":
            arrays.append(random.standard_normal(shape).astype(spec.dtype))
        else:
            high = 256 if spec.dtype == np.uint8 else 2
            arrays.append(random.integers(0, high, shape).astype(spec.dtype))
    return arrays


def _powers_of_two(largest: int) -> list[int]:
    return [1 << i for i in range(1, largest.bit_length()) if 1 << i <= largest]


def _zeros(folder: GraphFolder) -> list[np.ndarray]:
    return [np.zeros(spec.shape, spec.dtype) for spec in folder.inputs]


def _times_of_threads() -> dict[int, tuple[int, int]]:
    """Return user and system time, in ticks, of each thread of this process; see proc(5)."""
    times = {}
    for thread in Path("/proc/self/task").iterdir():
        fields = (thread / "stat").read_text().rpartition(")")[2].split()
        times[int(thread.name)] = int(fields[11]), int(fields[12])
    return times


def _spinners(before: dict, after: dict) -> list[int]:
    """Return the threads that have spent mostly system time in between, and enough of it."""
    found = []
    for thread, (user, system) in after.items():
        user_before, system_before = before.get(thread, (0, 0))
        user, system = user - user_before, system - system_before
        if system >= TICKS and system > user:
            found.append(thread)
    return found


def _stay_on(cores: set[int]) -> None:
    """Move all threads of this process to these cores; short graphs stay on one.

    OneFlow 0.9.0 starts a job's actors before it notes that the job runs; a job that ends first
    crashes the process. On one core that needs a preemption at just that moment: 80,000 runs of
    ``x * w`` passed where two cores crashed within 6,000. A short graph gains speed by it, too.
    """
    for thread in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores)


def _say(parent: socket.socket, **answer: object) -> None:
    parent.send(json.dumps(answer).encode())


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else ""


if __name__ == "__main__":
    main()
    # Not sys.exit: OneFlow hangs when it is taken down while it holds a graph.
    os._exit(0)
