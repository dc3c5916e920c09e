"""Runs the requests that Triton hands over together; responds to each when its rows are done.

Requests are joined into groups that fit into the shared memory. No request waits for those behind
it in its group, and where a run kills OneFlow's process, or fails, those that were not in that run
are answered before those that were are tried again, each alone.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from oneflow_backend.isolation import IsolatedGraph
from oneflow_backend.worker_process import WorkerError


@dataclass(frozen=True)
class Entry:
    """A request: its place among those of Triton's call, its inputs, and how many rows they are."""

    place: int
    arrays: Sequence[np.ndarray]
    rows: int


#: answer(place, outputs or the error, whether more is to be run before Triton's call returns)
Answer = Callable[[int, "list[np.ndarray] | WorkerError", bool], None]


def run_all(
    graph: IsolatedGraph, requests: list[tuple[int, Sequence[np.ndarray]]], *, rows: int | None,
    answer: Answer,
) -> None:  # fmt: skip
    """Run requests, and respond to each of them once.

    Args:
        graph: runs them.
        requests: the place and the inputs of each, in the order in which they came.
        rows: the largest batch; None when the graph takes its own shapes only.
        answer: is called for each request. The outputs are overwritten by the next run of another
            group; until then they stay.
    """
    entries = [Entry(i, arrays, len(arrays[0]) if rows else 0) for i, arrays in requests]
    groups = deque(_groups(entries, rows))
    suspects: deque[list[Entry]] = deque()
    while groups or suspects:
        group = groups.popleft() if groups else suspects.popleft()
        more = bool(groups or suspects)
        run = _Run(graph, group, answer, batched=rows is not None, more=more)
        try:
            run.run()
        except WorkerError as error:
            if len(group) == 1:
                answer(group[0].place, error, more)
                continue
            failed, rest = run.split()
            groups.extendleft([rest] if rest else [])
            suspects.extend([entry] for entry in failed)


def _groups(entries: list[Entry], rows: int | None) -> list[list[Entry]]:
    """Split the requests into groups that fit into one run; alone where there is no batch."""
    groups: list[list[Entry]] = []
    free = 0
    for entry in entries:
        if not (groups and rows and entry.rows <= free):
            groups.append([])
            free = rows or 0
        groups[-1].append(entry)
        free -= entry.rows
    return groups


class _Run:
    """One group on its way through the graph."""

    def __init__(
        self, graph: IsolatedGraph, group: list[Entry], answer: Answer, *, batched: bool, more: bool
    ):
        self._graph, self._answer, self._batched, self._more = graph, answer, batched, more
        ends = np.cumsum([entry.rows for entry in group]).tolist()
        #: The requests that are not answered yet, each with the place of its rows.
        self._open = deque(
            (entry, slice(end - entry.rows, end) if batched else slice(None))
            for entry, end in zip(group, ends, strict=True)
        )
        self._rows = ends[-1]
        self._done = 0

    def run(self) -> None:
        """Run the group; the response to each request is sent when its rows are done.

        Raises:
            WorkerError: those that are not answered have no result; see ``split``.
        """
        for entry, where in self._open:
            for target, array in zip(self._graph.tensors.inputs, entry.arrays, strict=True):
                np.copyto(target[where] if self._batched else target, array)
        alone = len(self._open) == 1
        # Together they are tried once: what killed the process is then tried alone.
        self._graph.run(self._rows, retries=None if alone else 0, done=self._answer_until)
        self._answer_until(self._rows)

    def _answer_until(self, rows: int) -> None:
        """Answer the requests whose rows are among the first ``rows``."""
        self._done = rows
        while self._open and (not self._batched or self._open[0][1].stop <= rows):
            entry, where = self._open.popleft()
            outputs = [
                output[where] if self._batched else output for output in self._graph.tensors.outputs
            ]
            self._answer(entry.place, outputs, self._more or bool(self._open))

    def split(self) -> tuple[list[Entry], list[Entry]]:
        """Return the requests that had rows in the run that failed, and those behind it."""
        end = self._graph.next_run(self._done, self._rows)
        failed = [entry for entry, where in self._open if where.start < end]
        return failed, [entry for entry, where in self._open if where.start >= end]
