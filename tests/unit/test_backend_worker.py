"""The rules by which the backend's worker judges batches, and the memory it shares."""

import os
from pathlib import Path

import numpy as np
import pytest

from oneflow_backend.graph_folder import GraphFolder, TensorSpec
from oneflow_backend.proof import Unequal, prove, random_rows, relative_difference
from oneflow_backend.shared_tensors import SharedTensors
from oneflow_backend.worker import wanted_plans

FLOAT32, INT64, UINT8 = 2, 6, 7
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


def test_a_batch_that_equals_its_rows_is_taken():
    prove(graph_with(0), FOLDER, 3)
    prove(graph_with(2e-6), FOLDER, 3)


def test_a_batch_that_differs_is_refused():
    with pytest.raises(Unequal, match="OUTPUT_0 of 3 rows together differs from the rows a"):
        prove(graph_with(1e-3), FOLDER, 3)


def test_differences_are_relative_to_the_largest_value_of_their_own_row():
    expected = np.float32([[1000, 0], [1, 0]])
    found = expected + np.float32([[0, 0.01], [0, 0.01]])
    assert relative_difference(found, expected) == pytest.approx(0.01)
    assert relative_difference(found[:1], expected[:1]) == pytest.approx(1e-5)


def test_what_is_not_a_float_must_be_equal():
    assert relative_difference(np.array([[1]]), np.array([[1]])) == 0
    assert relative_difference(np.array([[1]]), np.array([[2]])) == np.inf


def test_nan_is_equal_to_nan_only():
    nan, one = np.float32([[np.nan]]), np.float32([[1]])
    assert relative_difference(nan, nan) == 0
    assert relative_difference(nan, one) == np.inf


@pytest.mark.parametrize(
    ("batch_sizes", "device", "milliseconds", "expected"),
    [
        ([4, 2], "cpu", 100.0, [2, 4]),  # as told
        ([], "cuda:0", 1.0, []),
        (None, "cpu", 1.0, [2, 4, 8]),
        (None, "cpu", 100.0, []),  # a batch takes as long as its rows
        (None, "cuda:0", 100.0, [2, 4, 8]),
    ],
)
def test_which_numbers_of_rows_get_a_plan(batch_sizes, device, milliseconds, expected):
    order = {"batch_sizes": batch_sizes, "device": device, "rows": 9}
    assert wanted_plans(order, milliseconds) == expected
    assert wanted_plans(order | {"rows": 1, "batch_sizes": None}, milliseconds) == []


def test_random_rows_are_of_each_inputs_type_and_differ():
    a, b = random_rows(FOLDER, 4)
    assert (a.shape, a.dtype, b.shape, b.dtype) == ((4, 3), np.float32, (4, 5), np.uint8)
    assert len(np.unique(a)) == 12


def test_shared_tensors_are_seen_through_their_descriptor():
    ours = SharedTensors(FOLDER, 2)
    theirs = SharedTensors(FOLDER, 2, ours.descriptor)
    assert [array.shape for array in ours.inputs] == [(2, 3), (2, 5)]
    assert [array.shape for array in ours.outputs] == [(2,), (2, 0)]
    ours.inputs[1][:] = 7
    theirs.outputs[0][:] = [3, 4]
    assert (theirs.inputs[1] == 7).all() and ours.outputs[0].tolist() == [3, 4]
    assert not theirs.inputs[0].any()  # tensors do not overlap
    os.close(ours.descriptor)
