"""An operator as a batch meets it: which of its tensors carry the batch, and in which dimension.

A tensor carries the batch in one dimension: n * k long where it is k long for one row, and row i is
the i-th block of k. A rule (``batch_values.py``, ``batch_places.py``; ``batch_table.py`` has all)
takes an operator of the job for one row, with that dimension for each of its inputs, and returns
the same for its outputs, or raises ``CannotBatch``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


class CannotBatch(ValueError):
    """Rows cannot be joined; the message names the operator that prevents it, and says why."""


@dataclass(frozen=True)
class Tensor:
    """An input or output of an operator.

    Args:
        key: the argument of the operator, such as ``weight``.
        shape: for one row.
        data_type: MLIR's name of it, such as ``f32``.
        dim: the dimension that carries the batch; None where the tensor is the same for all rows.
    """

    key: str
    shape: tuple[int, ...]
    data_type: str
    dim: int | None = None

    @property
    def rank(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    @property
    def block(self) -> int:
        """The length of one row in the dimension that carries the batch."""
        return self.shape[self.dim]


class Rows(NamedTuple):
    """The dimension in which each output carries the batch, None for an output that does not.

    ``repeat`` maps the places of those inputs that are the same for all rows, but must be repeated
    for each, to the dimension: they are as long there as one row is where the others carry it.
    """

    dims: tuple[int | None, ...]
    repeat: Mapping[int, int] = {}


@dataclass(frozen=True)
class Operator:
    """One operator of a job for one row; ``attributes`` are numbers, strings and tuples."""

    kind: str
    name: str
    attributes: Mapping[str, Any]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @property
    def carrying(self) -> list[Tensor]:
        """The inputs that carry the batch."""
        return [tensor for tensor in self.inputs if tensor.dim is not None]

    def input(self, key: str) -> Tensor:
        """Return the first tensor of an argument."""
        return next(tensor for tensor in self.inputs if tensor.key == key)

    def all_at(self, dim: int | None, repeat: Mapping[int, int] | None = None) -> Rows:
        """All outputs carry the batch in one dimension."""
        return Rows((dim,) * len(self.outputs), repeat or {})

    def refuse(self, reason: str) -> CannotBatch:
        """Return the error to raise; the reason continues after the operator's name."""
        return CannotBatch(f"{self.kind} {self.name!r} {reason}")


Rule = Callable[[Operator], Rows]


def line_up(op: Operator, shared: tuple[str, ...] = ()) -> tuple[int, dict[int, int]]:
    """Return where the inputs carry the batch, counted from the right, and ``repeat``.

    Args:
        op: its inputs are aligned from the right.
        shared: arguments that are no part of this, and must be the same for all rows.

    Raises:
        CannotBatch: the inputs carry the batch in different places, or one would stretch it.
    """
    aligned = [(i, tensor) for i, tensor in enumerate(op.inputs) if tensor.key not in shared]
    places = {(t.dim - t.rank, t.block) for _, t in aligned if t.dim is not None}
    if any(tensor.key in shared for tensor in op.carrying):
        raise op.refuse(f"has one {' and '.join(shared)} for all rows, but it depends on the batch")
    if len(places) > 1:
        raise op.refuse("combines tensors that carry the batch in different dimensions or lengths")
    ((place, block),) = places
    repeat = {}
    for i, tensor in aligned:
        size = tensor.shape[place] if tensor.rank >= -place else None
        if tensor.dim is None and size == block:
            repeat[i] = place + tensor.rank
        elif tensor.dim is None and size not in (1, None):
            raise op.refuse(f"stretches the batch dimension to {size}")
    return place, repeat


def only(op: Operator, *keys: str) -> Tensor:
    """Return the one input that carries the batch.

    Raises:
        CannotBatch: it is none of these arguments, or there is a second one.
    """
    for tensor in op.carrying:
        if tensor.key not in keys:
            raise op.refuse(f"has one {tensor.key} for all rows, but it depends on the batch")
    if len(op.carrying) > 1:
        raise op.refuse("combines two tensors that both carry the batch")
    return op.carrying[0]
