"""The rules by which the backend's worker judges batches, and the memory it shares."""

import importlib
import itertools
import os
import socket
import time
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from oneflow_backend.graph_folder import GraphFolder, TensorSpec

# Modules of the backend, whose folder serving_kit.graph_folder has put on sys.path.
worker = importlib.import_module("oneflow_backend.worker")
shared_tensors = importlib.import_module("oneflow_backend.shared_tensors")

FLOAT32, INT64, UINT8, BOOL = 2, 6, 7, 12
FOLDER = GraphFolder(
    Path("model"),
    inputs=(TensorSpec("a", FLOAT32, (1, 3)), TensorSpec("b", UINT8, (1, 5))),
    outputs=(TensorSpec("y", INT64, (1,)), TensorSpec("z", FLOAT32, (1, 0))),
    variables=(),
)


def graph_with(together_differs_by):
    """A stand-in for a SavedGraph: sums rows, and is off by so much when there are several."""

    def graph(a, b):
        total = a.sum(axis=1, keepdims=True) + b.sum(axis=1, keepdims=True)
        return ((total * (1 + together_differs_by * (len(a) > 1))).astype(np.float32),)

    return graph


def test_a_batch_that_equals_its_rows_is_proven():
    worker.prove(graph_with(0), FOLDER, 3)
    worker.prove(graph_with(2e-6), FOLDER, 3)


def test_a_batch_that_differs_is_not():
    with pytest.raises(worker.Unequal, match="OUTPUT_0 of 3 rows together differs from the rows a"):
        worker.prove(graph_with(1e-3), FOLDER, 3)


def test_a_graph_of_scalars_runs_where_they_lie():
    class Graph:
        bound = 0

        def bind(self, inputs, outputs):
            self.bound += 1
            return lambda: np.copyto(outputs[0], 2 * inputs[0])

    one = worker.Worker.__new__(worker.Worker)
    one.graph, one.batched, one._runs = Graph(), False, {}
    one.tensors = SimpleNamespace(inputs=[np.array(3.0)], outputs=[np.array(0.0)])
    one.run(0)
    assert one.tensors.outputs[0] == 6.0
    one.tensors.inputs[0][...] = 4.0
    one.run(0)
    assert (one.tensors.outputs[0], one.graph.bound) == (8.0, 1)


def test_a_plan_that_oneflow_will_not_compile_leaves_the_single_rows():
    class Graph:
        dropped: ClassVar = []

        def add_batch(self, n):
            raise RuntimeError("cannot compile\nand more")

        def drop_batch(self, n):
            self.dropped.append(n)

    loaded = worker.Worker.__new__(worker.Worker)
    loaded.graph, loaded.plans, loaded.reason = Graph(), [1], ""
    order = {"batch_sizes": [2, 4], "device": "cpu", "rows": 4, "proven": False}
    loaded._add_plans(FOLDER, order, 1.0)
    assert (loaded.plans, loaded.reason, Graph.dropped) == ([1], "cannot compile", [2])


def test_differences_are_relative_to_the_largest_value_of_their_own_row():
    expected = np.float32([[1000, 0], [1, 0]])
    found = expected + np.float32([[0, 0.01], [0, 0.01]])
    assert worker._relative_difference(found, expected) == pytest.approx(0.01)
    assert worker._relative_difference(found[:1], expected[:1]) == pytest.approx(1e-5)


def test_what_is_not_a_float_must_be_equal():
    assert worker._relative_difference(np.array([[1]]), np.array([[1]])) == 0
    assert worker._relative_difference(np.array([[1]]), np.array([[2]])) == np.inf


def test_nan_is_equal_to_nan_only():
    nan, one = np.float32([[np.nan]]), np.float32([[1]])
    assert worker._relative_difference(nan, nan) == 0
    assert worker._relative_difference(nan, one) == np.inf


def test_powers_of_two():
    assert [worker._powers_of_two(n) for n in (1, 2, 3, 8)] == [[], [2], [2], [2, 4, 8]]


def test_random_rows_are_of_each_inputs_type_and_differ():
    a, b = worker._random_rows(FOLDER, 4)
    assert (a.shape, a.dtype, b.shape, b.dtype) == ((4, 3), np.float32, (4, 5), np.uint8)
    assert len(np.unique(a)) == 12


def test_shared_tensors_are_seen_by_who_has_the_descriptor():
    ours = shared_tensors.SharedTensors(FOLDER, 2)
    theirs = shared_tensors.SharedTensors(FOLDER, 2, ours.descriptor)
    assert [array.shape for array in ours.inputs] == [(2, 3), (2, 5)]
    assert [array.shape for array in ours.outputs] == [(2,), (2, 0)]
    ours.inputs[1][:] = 7
    theirs.outputs[0][:] = [3, 4]
    assert (theirs.inputs[1] == 7).all() and ours.outputs[0].tolist() == [3, 4]
    assert not theirs.inputs[0].any()  # tensors do not overlap
    os.close(ours.descriptor)


SPINNER, COMPUTING, WAITING = 11, 12, 13


@pytest.fixture
def calmed(monkeypatch):
    """Lets a worker watch threads that spend so many ticks; returns those it made nice."""

    def calm(*watches, graph=lambda *_: time.sleep(0.01)):
        looks = [dict.fromkeys(watches[0], (50, 50))]
        for spent in watches:
            looks.append({t: (50 + user, 50 + system) for t, (user, system) in spent.items()})
        times = itertools.chain(looks, itertools.repeat(looks[-1]))
        monkeypatch.setattr(worker, "_times_of_threads", lambda: next(times))
        monkeypatch.setattr(worker, "WATCHED_MILLISECONDS", 20.0)
        nice = []
        monkeypatch.setattr(os, "setpriority", lambda which, thread, value: nice.append(thread))
        loaded = worker.Worker.__new__(worker.Worker)
        loaded.graph = graph
        parent, loaded._parent = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with parent, loaded._parent:
            loaded._calm_spinner(FOLDER)
        return nice

    return calm


def test_the_thread_that_only_yields_is_made_nice(calmed):
    spent = {COMPUTING: (10, 1), SPINNER: (2, 8), WAITING: (0, 0)}
    assert calmed(spent) == [SPINNER]


def test_a_thread_that_got_too_few_ticks_is_watched_on(calmed):
    first, later = {COMPUTING: (10, 1), SPINNER: (1, 2)}, {COMPUTING: (20, 1), SPINNER: (2, 4)}
    assert calmed(first, first, later) == [SPINNER]


@pytest.mark.parametrize(
    "spent",
    [
        {COMPUTING: (10, 1), SPINNER: (1, 2)},  # not seen for long enough
        {COMPUTING: (10, 1), WAITING: (0, 0)},
        {COMPUTING: (3, 8), SPINNER: (2, 8)},  # which of them?
    ],
)
def test_where_it_is_not_clear_no_thread_is(calmed, spent):
    assert calmed(spent) == []


def test_a_graph_that_does_not_take_zeros_is_not_watched(calmed):
    def refuse(*_):
        raise RuntimeError("zeros")

    assert calmed({SPINNER: (2, 8)}, graph=refuse) == []


def test_the_times_of_threads_are_those_of_this_process():
    times = worker._times_of_threads()
    assert os.getpid() in times
    assert all(user >= 0 and system >= 0 for user, system in times.values())
