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

from oneflow_backend.complaints import explain_error
from oneflow_backend.example_inputs import Kind, kinds_of
from oneflow_backend.graph_folder import GraphFolderError, read_graph_folder
from oneflow_backend.shared_tensors import DONE, SharedTensors, runs_of
from oneflow_backend.verification import POISON, Verification, plan_trial

PR_SET_PDEATHSIG = 1

#: On a CPU a batch is no faster than its rows, but for graphs so short that the call itself is
#: what takes time.
SHORT_MILLISECONDS = 5.0
#: A graph whose first run takes this long is not short, whatever that run had to get ready.
LONG_MILLISECONDS = 300.0
#: So many kinds of inputs are tried for the first run.
WARM_UP_KINDS = 3


def main() -> None:
    """Load the graph, report it, and run it for the parent until the parent ends."""
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
        why, words = explain_error(error)
        _say(parent, error=f"OneFlow cannot load {order['path']}: {why}", words=words)
        return
    _say(parent, plans=worker.plans, reason=worker.reason)
    while request := parent.recv(256):
        try:
            worker.run(*map(int, request.split()))
        except Exception as error:  # of many kinds; all go to the request that met them
            why, words = explain_error(error)
            _say(parent, error=why, words=words)
        else:
            parent.send(DONE)


class Worker:
    """A saved graph, its plans, and the memory that its tensors come and go through."""

    def __init__(self, order: dict, parent: socket.socket):
        self._parent = parent
        folder = read_graph_folder(order["path"])
        self.tensors = SharedTensors(folder, order["rows"], order["memory"])
        self.batched = order["rows"] is not None
        from oneflow_backend.id_ranges import id_ranges
        from oneflow_backend.job import read_job
        from oneflow_backend.saved_graph import SavedGraph

        self.graph = SavedGraph(order["path"], order["device"])
        #: Numbers of rows that have a plan of their own, the largest first.
        self.plans = [1]
        #: Runs that are bound to rows of the shared memory, by the rows.
        self._runs: dict[str, Callable[[], None]] = {}
        #: Why a wanted plan is not there; empty when all are.
        self.reason = ""
        self._folder, self._left_out = folder, order["left_out"]
        self._ranges = id_ranges(read_job(folder), folder)
        if self.graph.one_by_one:
            milliseconds = self._time_one_run()
        else:
            milliseconds = self._time_graph(order["device"])
        if self.batched:
            self._add_plans(wanted_plans(order, milliseconds), verified=order["verified"])

    def _kinds(self) -> list[Kind]:
        return kinds_of(self._folder, self._ranges, self._left_out)

    def _time_graph(self, device: str) -> float:
        """As ``_time_one_run``; a graph that is short on a CPU stays on one core."""
        cores = os.sched_getaffinity(0)
        _stay_on({sorted(cores)[os.getpid() % len(cores)]})
        milliseconds = self._time_one_run()
        if device != "cpu" or milliseconds > SHORT_MILLISECONDS:
            _stay_on(cores)
        return milliseconds

    def _time_one_run(self) -> float:
        """Run the graph, so that no request pays for its first run; return milliseconds."""
        for kind in self._kinds()[:WARM_UP_KINDS]:
            inputs = kind.whole(self._folder, self._ranges)
            try:
                first = self._milliseconds(kind.name, inputs)
                return first if first > LONG_MILLISECONDS else self._milliseconds(kind.name, inputs)
            except Exception:  # of many kinds: these may be nothing that this graph takes
                continue
        return np.inf

    def _milliseconds(self, what: str, inputs: list[np.ndarray]) -> float:
        began = time.perf_counter()
        self._run_at_load(what, *inputs)
        return (time.perf_counter() - began) * 1000

    def _run_at_load(self, what: str, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run the graph as a trial, and say so: a run may hang, or be the end of this process."""
        rows = len(inputs[0]) if self.batched and inputs else 1
        _say(self._parent, trial=what, runs=rows)
        try:
            return self.graph(*inputs)
        finally:
            _say(self._parent, trial="")

    def _add_plans(self, sizes: list[int], *, verified: bool) -> None:
        """Make plans for so many rows, the smallest first, until one cannot be had."""
        added: list[int] = []
        for n in sizes:
            try:
                self._add_plan(n)
            except Exception as obstacle:  # CannotBatch, or one of OneFlow's many kinds
                self.graph.drop_batch(n)
                self.reason = explain_error(obstacle)[0]
                break
            added.append(n)
        if added and not verified:
            added = self._verified(added)
        self.plans = [*reversed(added), 1]

    def _add_plan(self, n: int) -> None:
        if plan_trial(n) in self._left_out:
            raise ValueError(f"OneFlow's process died of {plan_trial(n)}")
        _say(self._parent, trial=plan_trial(n), runs=0)
        self.graph.add_batch(n)
        _say(self._parent, trial="")

    def _verified(self, sizes: list[int]) -> list[int]:
        """Return the numbers of rows whose plans may be used; drop the other plans."""
        verification = Verification(self._run_at_load, self._folder, self._ranges, sizes)
        refused = verification.run(self._kinds(), poison=POISON not in self._left_out)
        for n, reason in sorted(refused.items(), reverse=True):
            self.graph.drop_batch(n)
            self.reason = reason
        return [n for n in sizes if n not in refused]

    def run(self, begin: int, rows: int) -> None:
        """Run the rows from ``begin`` to ``rows``, and say after each run how far that is."""
        if not self.batched:
            self._run_where(...)
            return
        for first, end in runs_of(begin, rows, self.plans):
            self._run_where(slice(first, end))
            if end < rows:
                self._parent.send(b"%d" % end)

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


def _stay_on(cores: set[int]) -> None:
    """Move all threads of this process to these cores; short graphs stay on one.

    OneFlow 0.9.0 starts a job's actors before it notes that the job runs; a job that ends first
    crashes the process. On one core that needs a preemption at just that moment: 80,000 runs of
    ``x * w`` passed where two cores crashed within 6,000. A short graph gains speed by it, too.
    """
    for thread in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores)


def _say(parent: socket.socket, **message: object) -> None:
    parent.send(json.dumps(message).encode())


if __name__ == "__main__":
    main()
    # Not sys.exit: OneFlow hangs when it is taken down while it holds a graph.
    os._exit(0)
