"""The order of operators: after what they need, else as they were."""

from graphlib import CycleError

import pytest

from oneflow_backend.topological import in_order


def test_each_follows_its_needs_and_else_the_smallest_key_comes_first():
    assert in_order([set(), {2}, set(), {0}], keys=[0, 1, 2, 3]) == [0, 2, 1, 3]
    assert in_order([set(), set(), set()], keys=["c", "b", "a"]) == [2, 1, 0]
    assert in_order([], keys=[]) == []


def test_a_circle_has_no_order():
    with pytest.raises(CycleError):
        in_order([{1}, {0}], keys=[0, 1])
