"""Rules for operators that move values: shapes, slices, joins, and what indices choose.

Every rule returns where the results carry the batch; see ``batch_axis``.
"""

from math import prod

from oneflow_backend.batch_axis import Operator, Rows, line_up, only
from oneflow_backend.batch_values import WORKS_ALONG, side_by_side, together

CHOOSES = "chooses among the rows of the batch by number"


def reshape(op: Operator) -> Rows:
    """Rows keep their place: as many elements go before the batch's dimension as did."""
    (tensor,) = op.inputs
    out = op.outputs[0].shape
    before = prod(tensor.shape[: tensor.dim])
    # Dimensions of 1 leave a choice: the first, as programs write the batch before the rest.
    for dim in range(len(out)):
        if prod(out[:dim]) == before:
            return op.all_at(dim)
    raise op.refuse(f"splits the rows: {list(tensor.shape)} to {list(out)}")


def transpose(op: Operator) -> Rows:
    """Dimension ``perm[i]`` becomes dimension i."""
    (tensor,) = op.inputs
    return op.all_at([dim % tensor.rank for dim in op.attributes["perm"]].index(tensor.dim))


def expand_dims(op: Operator) -> Rows:
    """A dimension of 1 is put in."""
    (tensor,) = op.inputs
    axis = op.attributes["axis"] % (tensor.rank + 1)
    return op.all_at(tensor.dim + (axis <= tensor.dim))


def squeeze(op: Operator) -> Rows:
    """Dimensions of 1 are taken out."""
    (tensor,) = op.inputs
    axes = [axis % tensor.rank for axis in op.attributes["axes"]]
    if tensor.dim in axes:
        raise op.refuse("removes the batch dimension")
    return op.all_at(tensor.dim - sum(axis < tensor.dim for axis in axes))


def expand(op: Operator) -> Rows:
    """Dimensions of 1 are stretched, and new ones come first."""
    (tensor,) = op.inputs
    place = tensor.dim - tensor.rank
    if op.outputs[0].shape[place] != tensor.block:
        raise op.refuse("stretches the batch dimension")
    return op.all_at(place + op.outputs[0].rank)


def broadcast_like(op: Operator) -> Rows:
    """``x`` is stretched along ``broadcast_axes`` to the shape of ``like``."""
    x, rank = op.input("x"), op.outputs[0].rank
    if x.rank != rank:
        raise op.refuse("is supported only for tensors with the same number of dimensions")
    place, repeat = line_up(op)
    stretched = place + rank in op.attributes["broadcast_axes"]
    if stretched and x.dim is not None:
        raise op.refuse("stretches the batch dimension")
    return op.all_at(place + rank, {} if stretched else repeat)


def slice_(op: Operator) -> Rows:
    """Part of each dimension; of the batch's it must be all."""
    (tensor,) = op.inputs
    _check_all_rows(op, tensor)
    return op.all_at(tensor.dim)


def slice_update(op: Operator) -> Rows:
    """``ref`` with part of it replaced by ``value``; in the batch's dimension it must be all."""
    rows = together(op)
    _check_all_rows(op, op.carrying[0])
    return rows


def _check_all_rows(op: Operator, tensor) -> None:
    start, stop, step = (op.attributes[key][tensor.dim] for key in ("start", "stop", "step"))
    if (start, stop, step) != (0, tensor.block, 1):
        raise op.refuse("takes part of the batch dimension")


def narrow(op: Operator) -> Rows:
    """Part of one dimension; if it is the batch's, all of it."""
    (tensor,) = op.inputs
    part = op.attributes["start"], op.attributes["length"]
    if op.attributes["dim"] % tensor.rank == tensor.dim and part != (0, tensor.block):
        raise op.refuse("takes part of the batch dimension")
    return op.all_at(tensor.dim)


def concat(op: Operator) -> Rows:
    """One after the other along ``axis``."""
    rows = together(op)
    if op.attributes["axis"] % op.outputs[0].rank in rows.dims:
        raise op.refuse("joins along the batch dimension")
    return rows


def stack(op: Operator) -> Rows:
    """One beside the other in a new dimension, ``axis``."""
    place, repeat = line_up(op)
    if len(repeat) + len(op.carrying) < len(op.inputs):
        raise op.refuse("takes tensors that are not one row's")
    rank = op.inputs[0].rank
    axis, dim = op.attributes["axis"] % (rank + 1), place + rank
    return op.all_at(dim + (axis <= dim), repeat)


def pad(op: Operator) -> Rows:
    """Values are put before and after each dimension."""
    (tensor,) = op.inputs
    if op.attributes["padding_before"][tensor.dim] or op.attributes["padding_after"][tensor.dim]:
        raise op.refuse("puts rows beside those of the batch")
    return op.all_at(tensor.dim)


def diagonal(op: Operator) -> Rows:
    """Of the first two dimensions; the diagonal comes last."""
    (tensor,) = op.inputs
    if tensor.dim < 2:
        raise op.refuse(WORKS_ALONG)
    return op.all_at(tensor.dim - 2)


def unfold_tensor(op: Operator) -> Rows:
    """Windows of one dimension, whose places come last."""
    (tensor,) = op.inputs
    if op.attributes["dimension"] % tensor.rank == tensor.dim:
        raise op.refuse(WORKS_ALONG)
    return op.all_at(tensor.dim)


def one_hot(op: Operator) -> Rows:
    """A new last dimension."""
    (tensor,) = op.inputs
    return op.all_at(tensor.dim)


def gather(op: Operator) -> Rows:
    """``in`` at ``indices`` along ``axis``, in whose place the dimensions of the indices come."""
    tensor = only(op, "in", "indices")
    axis = op.attributes["axis"] % op.input("in").rank
    if tensor.key == "indices":
        return op.all_at(axis + tensor.dim)
    if tensor.dim == axis:
        raise op.refuse(CHOOSES)
    return op.all_at(tensor.dim + (op.input("indices").rank - 1 if tensor.dim > axis else 0))


def embedding(op: Operator) -> Rows:
    """A row of the table ``weight`` for each index."""
    return op.all_at(only(op, "indices").dim)


def gather_nd(op: Operator) -> Rows:
    """``params`` where the last dimension of ``indices`` says, which is for its first ones."""
    tensor = only(op, "params", "indices")
    indices = op.input("indices")
    count = indices.shape[-1]
    if tensor.key == "indices" and tensor.dim < tensor.rank - 1:
        return op.all_at(tensor.dim)
    if tensor.key == "indices" or tensor.dim < count:
        raise op.refuse(CHOOSES)
    return op.all_at(tensor.dim - count + indices.rank - 1)


def batch_gather(op: Operator) -> Rows:
    """Along the last dimension of ``indices``, for each place before it."""
    if any(tensor.dim >= op.input("indices").rank - 1 for tensor in op.carrying):
        raise op.refuse(CHOOSES)
    return side_by_side(op)


def along_dim(op: Operator) -> Rows:
    """Indices along ``dim``, for each place in the other dimensions, counted from the left."""
    if any(tensor.dim == op.attributes["dim"] % tensor.rank for tensor in op.carrying):
        raise op.refuse(CHOOSES)
    return side_by_side(op)


def searchsorted(op: Operator) -> Rows:
    """Places of ``values`` in one sorted sequence for all rows, or in the row's own."""
    sequence = op.input("sorted_sequence")
    if sequence.dim is None and sequence.rank == 1:
        return op.all_at(only(op, "values").dim)
    if any(tensor.dim == tensor.rank - 1 for tensor in op.carrying):
        raise op.refuse(WORKS_ALONG)
    return side_by_side(op)
