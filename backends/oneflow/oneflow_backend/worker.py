"""The process in which OneFlow runs; started by ``worker_process.py``, never by hand.

OneFlow may abort, crash or hang. Here that costs nothing but this process: tensors lie in memory
that the parent made, and the parent starts another worker.
"""

import sys

# Python puts the folder of a program first on the path: there a module of this package would be
# imported in place of any other of its name.
if __name__ == "__main__":
    sys.path.pop(0)

import ctypes
import json
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from types import EllipsisType

import numpy as np

from oneflow_backend.graph_folder import GraphFolder, GraphFolderError, read_graph_folder
from oneflow_backend.proof import prove
from oneflow_backend.shared_tensors import DONE, SharedTensors

PR_SET_PDEATHSIG = 1

#: On a CPU a batch is no faster than its rows, but for graphs so short that the call itself is
#: what takes time.
SHORT_MILLISECONDS = 5.0
#: A graph whose first run takes this long is not short, whatever that run had to get ready.
LONG_MILLISECONDS = 300.0


def main() -> None:
    """Load the graph, say so, and run it for the parent until that ends."""
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
        """As ``_time_one_run``; a graph that is short on a CPU stays on one core."""
        cores = os.sched_getaffinity(0)
        _stay_on({sorted(cores)[os.getpid() % len(cores)]})
        milliseconds = self._time_one_run(folder)
        if device != "cpu" or milliseconds > SHORT_MILLISECONDS:
            _stay_on(cores)
        return milliseconds

    def _time_one_run(self, folder: GraphFolder) -> float:
        """Run the graph, so that no request pays for its first run; return milliseconds."""
        zeros = _zeros(folder)
        try:
            first = self._milliseconds(zeros)
            return first if first > LONG_MILLISECONDS else self._milliseconds(zeros)
        except Exception:  # zeros may be nothing that this graph takes
            return np.inf

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
        for n in wanted_plans(order, milliseconds):
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
        """Run the first ``rows`` rows of the inputs, with as few runs as the plans allow."""
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


def wanted_plans(order: dict, milliseconds: float) -> list[int]:
    """Return the numbers of rows to have a plan of their own, the smallest first.

    Those of the order; without, powers of two where a batch takes less time than its rows.
    """
    if order["batch_sizes"] is not None:
        return sorted(order["batch_sizes"])
    if order["device"] == "cpu" and milliseconds >= SHORT_MILLISECONDS:
        return []
    largest = order["rows"]
    return [1 << i for i in range(1, largest.bit_length()) if 1 << i <= largest]


def _zeros(folder: GraphFolder) -> list[np.ndarray]:
    return [np.zeros(spec.shape, spec.dtype) for spec in folder.inputs]


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
