"""How requests that come together share the runs of a graph, and when each is answered."""

from types import SimpleNamespace

import numpy as np
import pytest

from oneflow_backend.joining import run_all
from oneflow_backend.shared_tensors import runs_of
from oneflow_backend.worker_process import WorkerDied, WorkerError

KILLER, POISON = -1.0, -2.0


class Graph:
    """Stands in for an ``IsolatedGraph``: doubles rows, and notes what it was made to run."""

    def __init__(self, plans=(1,), rows=8):
        self.tensors = SimpleNamespace(inputs=[np.zeros((rows, 1))], outputs=[np.zeros((rows, 1))])
        self.plans, self.runs = plans, []

    def next_run(self, begin, rows):
        return runs_of(begin, rows, self.plans)[0][1]

    def run(self, rows, *, retries, done):
        for begin, end in runs_of(0, rows, self.plans) or [(0, 8)]:
            x = self.tensors.inputs[0][begin:end]
            self.runs.append(x.ravel().tolist())
            if KILLER in x:
                raise WorkerDied(f"died, {retries} retries")
            if POISON in x:
                raise WorkerError("not these values")
            self.tensors.outputs[0][begin:end] = 2 * x
            if end < rows:
                done(end)


def run(graph, *requests, rows=8):
    """Return what each request got, in the order of the answers, and whether more was to come."""
    answers = []

    def answer(place, result, more):
        failed = isinstance(result, WorkerError)
        answers.append((place, str(result) if failed else result[0].ravel().tolist(), more))

    entries = [(i, [np.array(values, float)[:, None]]) for i, values in enumerate(requests)]
    run_all(graph, entries, rows=rows, answer=answer)
    return answers


def test_each_request_is_answered_as_soon_as_its_rows_are_done():
    graph = Graph()
    answers = run(graph, [1, 2], [3], [4])
    assert answers == [(0, [2, 4], True), (1, [6], True), (2, [8], False)]
    assert graph.runs == [[1], [2], [3], [4]]


def test_a_plan_runs_rows_of_several_requests():
    graph = Graph(plans=(4, 2, 1))
    assert run(graph, [1], [2, 3], [4, 5]) == [
        (0, [2], True), (1, [4, 6], True), (2, [8, 10], False),
    ]  # fmt: skip
    assert graph.runs == [[1, 2, 3, 4], [5]]


def test_groups_fit_into_the_shared_memory():
    graph = Graph(plans=(8, 4, 2, 1))
    answers = run(graph, [1] * 5, [2] * 3, [3])
    assert [place for place, *_ in answers] == [0, 1, 2]
    assert [len(rows) for rows in graph.runs] == [8, 1]


def test_what_kills_is_tried_again_alone_and_last():
    graph = Graph()
    answers = run(graph, [1], [KILLER], [3], [4])
    assert [(place, more) for place, _, more in answers] == [
        (0, True), (2, True), (3, True), (1, False),
    ]  # fmt: skip
    assert answers[-1][1] == "died, None retries"  # as often as the graph is told to
    assert graph.runs == [[1], [KILLER], [3], [4], [KILLER]]


def test_those_in_the_same_run_as_a_killer_are_tried_alone():
    graph = Graph(plans=(2, 1))
    answers = {place: result for place, result, _ in run(graph, [1], [KILLER], [3], [4])}
    assert answers == {0: [2], 1: "died, None retries", 2: [6], 3: [8]}
    assert graph.runs == [[1, KILLER], [3, 4], [1], [KILLER]]


@pytest.mark.parametrize("plans", [(1,), (4, 2, 1)])
def test_an_error_goes_to_the_request_that_met_it(plans):
    answers = {place: result for place, result, _ in run(Graph(plans), [1, 2], [POISON], [3])}
    assert answers == {0: [2, 4], 1: "not these values", 2: [6]}


def test_without_a_batch_each_request_has_a_run_of_its_own():
    graph = Graph()
    answers = run(graph, [1] * 8, [2] * 8, rows=None)
    assert answers == [(0, [2] * 8, True), (1, [4] * 8, False)]
