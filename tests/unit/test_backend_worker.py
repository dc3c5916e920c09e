"""The rules by which the backend's worker chooses plans and runs, and the memory it shares."""

import os
from pathlib import Path

import pytest

from oneflow_backend.graph_folder import GraphFolder, TensorSpec
from oneflow_backend.shared_tensors import SharedTensors, runs_of
from oneflow_backend.worker import wanted_plans

FLOAT32, INT64, UINT8 = 2, 6, 7
FOLDER = GraphFolder(
    Path("model"),
    inputs=(TensorSpec("a", FLOAT32, (1, 3)), TensorSpec("b", UINT8, (1, 5))),
    outputs=(TensorSpec("y", INT64, (1,)), TensorSpec("z", FLOAT32, (1, 0))),
    variables=(),
)


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


@pytest.mark.parametrize(
    ("begin", "rows", "plans", "expected"),
    [
        (0, 3, [1], [(0, 1), (1, 2), (2, 3)]),
        (0, 7, [4, 2, 1], [(0, 4), (4, 6), (6, 7)]),
        (4, 7, [4, 2, 1], [(4, 6), (6, 7)]),  # the rest, after a worker died
        (0, 0, [1], []),  # a graph without a batch
    ],
)
def test_rows_take_as_few_runs_as_the_plans_allow(begin, rows, plans, expected):
    assert runs_of(begin, rows, plans) == expected


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
