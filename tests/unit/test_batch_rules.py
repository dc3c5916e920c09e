"""Rules of a batch, each with what is easily mistaken: blocks, alignment, constants, attributes."""

import pytest

from oneflow_backend.batch_axis import CannotBatch, Operator, Rows, Tensor
from oneflow_backend.batch_table import check_same_each_time, rows_of


def operator(kind, *inputs, outputs=1, **attributes):
    """Inputs are (argument, shape, the dimension of the batch or None); outputs, shapes."""
    tensors = tuple(Tensor(key, shape, "f32", dim) for key, shape, dim in inputs)
    shapes = [(1,)] * outputs if isinstance(outputs, int) else outputs
    return Operator(kind, "m.x", attributes, tensors, tuple(Tensor("", s, "f32") for s in shapes))


def x(*shape, dim=0):
    return "x", shape, dim


JOINED = {
    "one is stretched over the rows": (
        operator("broadcast_add", x(1, 8), ("y", (8,), None), outputs=[(1, 8)]),
        Rows((0,)),
    ),
    "a constant as long as a block is repeated": (
        operator("broadcast_add", x(5, 8), ("y", (5, 8), None), outputs=[(5, 8)]),
        Rows((0,), {1: 0}),
    ),
    "aligned from the right": (
        operator("broadcast_mul", x(1, 8), ("y", (3, 1, 8), 1), outputs=[(3, 1, 8)]),
        Rows((1,)),
    ),
    "what is not stretched is repeated": (
        operator("add_n", x(1, 8), ("x", (1, 8), None), outputs=[(1, 8)]),
        Rows((0,), {1: 0}),
    ),
    "softmax beside the batch": (operator("softmax", x(5, 8)), Rows((0,))),
    "a sum moves the batch": (
        operator("reduce_sum", x(4, 1, 6, dim=1), outputs=[(1, 6)], axis=(0,)),
        Rows((0,)),
    ),
    "a sum keeps dimensions": (
        operator("reduce_sum", x(4, 1, 6, dim=1), outputs=[(1, 1, 6)], axis=(0,)),
        Rows((1,)),
    ),
    "columns": (
        operator("matmul", ("a", (3, 6), None), ("b", (1, 6), 0), outputs=[(3, 1)],
                 transpose_a=False, transpose_b=True),
        Rows((1,)),
    ),
    "a factor for all heads is repeated": (
        operator("batch_matmul", ("a", (2, 5, 4), 0), ("b", (2, 4, 5), None), outputs=[(2, 5, 5)],
                 transpose_a=False, transpose_b=False),
        Rows((0,), {1: 0}),
    ),
    "rows keep their place": (operator("reshape", x(1, 5, 8), outputs=[(5, 8)]), Rows((0,))),
    "indices for a table": (
        operator("gather", ("in", (10, 4), None), ("indices", (1, 7), 0), outputs=[(1, 7, 4)],
                 axis=0),
        Rows((0,)),
    ),
    "a table for all rows": (
        operator("gather", ("in", (3, 1, 9), 1), ("indices", (2, 2), None), axis=0,
                 outputs=[(2, 2, 1, 9)]),
        Rows((2,)),
    ),
    "no part of the batch is cut": (
        operator("slice", x(5, 8), outputs=[(5, 2)], start=(0, 1), stop=(5, 3), step=(1, 1)),
        Rows((0,)),
    ),
}  # fmt: skip
REFUSED = {
    "lengths that differ": operator("broadcast_add", x(1, 8), ("y", (5, 8), 0), outputs=[(5, 8)]),
    "dimensions that differ": operator(
        "broadcast_add", x(1, 8), ("y", (8, 1), 1), outputs=[(8, 8)]
    ),
    "stretched": operator("broadcast_add", x(1, 8), ("y", (3, 8), None), outputs=[(3, 8)]),
    "softmax along": operator("softmax", x(8, 5, dim=1)),
    "cumsum along": operator("cumsum", x(5, 8), outputs=[(5, 8)], dim=0),
    "flip along": operator("flip", x(5, 8), outputs=[(5, 8)], dims=(1, 0)),
    "roll of all": operator("roll", x(1, 8), outputs=[(1, 8)], dims=(-1,), shifts=(1,)),
    "sum along, counted from the right": operator("reduce_sum", x(1, 8), axis=(-2,)),
    "sum of all": operator("reduce_sum", x(1, 8), axis=()),
    "contracted": operator(
        "matmul", ("a", (1, 6), 0), ("b", (1, 6), None), transpose_a=True, transpose_b=False
    ),
    "rows by rows": operator(
        "matmul", ("a", (1, 6), 0), ("b", (1, 6), 0), transpose_a=False, transpose_b=True
    ),
    "every second row": operator(
        "slice", x(1, 8), outputs=[(1, 8)], start=(0, 0), stop=(1, 8), step=(2, 1)
    ),
    "apart": operator("reshape", x(8, 1, dim=1), outputs=[(2, 4)]),
    "squeezed away": operator("squeeze", x(1, 8), axes=(0,)),
    "channels": operator("conv2d", ("in", (4, 1, 8, 8), 1), ("weight", (1, 1, 3, 3), None)),
    "weights of rows": operator("conv2d", ("in", (1, 1, 8, 8), 0), ("weight", (1, 1, 3, 3), 0)),
    "alpha of rows": operator("prelu", x(4, 5, dim=1), ("alpha", (5,), None)),
    "table of rows": operator("gather", ("in", (5, 8), 0), ("indices", (1,), None), axis=0),
    "numbers of rows": operator("gather_nd", ("params", (1, 8), 0), ("indices", (3, 1), None)),
    "moments of the batch": operator("normalization", x(3, 4, dim=1), outputs=[(3, 4)], axis=1),
    "known to mix": operator("dot", x(8)),
}
ANYWHERE = {
    "dropout": "drops values at random: it was traced in training mode; call eval() before tracing",
    "normal": "draws random numbers, which joined rows would share",
    "assign": "changes a tensor that the next run reads",
    "einsum_foo": "is not known to treat rows independently",
}


@pytest.mark.parametrize("name", JOINED)
def test_rows_are_joined(name):
    op, rows = JOINED[name]
    assert rows_of(op) == rows


@pytest.mark.parametrize("name", REFUSED)
def test_rows_are_not_joined(name):
    op = REFUSED[name]
    with pytest.raises(CannotBatch, match=rf"^{op.kind} 'm\.x' \w"):
        rows_of(op)


@pytest.mark.parametrize("kind", ANYWHERE)
def test_what_keeps_rows_apart_wherever_it_stands(kind):
    with pytest.raises(CannotBatch) as caught:
        check_same_each_time(operator(kind))
    assert str(caught.value) == f"{kind} 'm.x' {ANYWHERE[kind]}"


def test_integers_that_a_batch_would_change_are_refused():
    tensors = tuple(Tensor("in", (1, 8), "si32", 0) for _ in range(2))
    with pytest.raises(CannotBatch, match="int64 is exact"):
        rows_of(Operator("add_n", "m.x", {}, tensors, (Tensor("", (1, 8), "si32"),)))
