"""Rules for operators that compute values: along which dimensions each result has its own inputs.

Every rule returns where the results carry the batch; see ``batch_axis``.
"""

from oneflow_backend.batch_axis import Operator, Rows, Rule, line_up, only

WORKS_ALONG = "works along the batch dimension"


def each(op: Operator) -> Rows:
    """Each value of the one input gives a value at the same place of each result."""
    (tensor,) = op.inputs
    return op.all_at(tensor.dim)


def broadcast(op: Operator) -> Rows:
    """Elementwise; inputs are aligned from the right, and stretched where they are 1 long."""
    place, repeat = line_up(op)
    # What is 1 long is stretched over all rows, as it was over one.
    longer = {i: dim for i, dim in repeat.items() if op.inputs[i].shape[dim] > 1}
    return op.all_at(place + op.outputs[0].rank, longer)


def together(op: Operator) -> Rows:
    """Elementwise, on inputs of one shape: nothing is stretched."""
    return beside()(op)


def beside(*shared: str) -> Rule:
    """As ``together``, beside arguments that are the same for all rows."""

    def rule(op: Operator) -> Rows:
        place, repeat = line_up(op, shared)
        _check_rows(op, repeat, shared)
        return op.all_at(place + op.outputs[0].rank, repeat)

    return rule


def _check_rows(op: Operator, repeat: dict[int, int], shared: tuple[str, ...]) -> None:
    for i, tensor in enumerate(op.inputs):
        if tensor.dim is None and tensor.key not in shared and i not in repeat:
            raise op.refuse(f"takes {tensor.key} {list(tensor.shape)}, which is not one row's")


def cast_like(op: Operator) -> Rows:
    """Elementwise on ``in``; only the data type of ``dtype_like`` counts."""
    return op.all_at(op.input("in").dim)


def along(attribute: str) -> Rule:
    """Elementwise but along the dimensions that an attribute names."""

    def rule(op: Operator) -> Rows:
        place, repeat = line_up(op)
        _check_rows(op, repeat, ())
        rank = op.outputs[0].rank
        if place + rank in named_dims(op, attribute, rank):
            raise op.refuse(WORKS_ALONG)
        return op.all_at(place + rank, repeat)

    return rule


def named_dims(op: Operator, attribute: str, rank: int) -> list[int]:
    """Return the dimensions that an attribute names; all of them for none."""
    dims = op.attributes[attribute]
    dims = (dims,) if isinstance(dims, int) else dims
    return [dim % rank for dim in dims] or [*range(rank)]


def roll(op: Operator) -> Rows:
    """Along ``dims``; OneFlow 0.9.0 takes -1 for the whole tensor, flattened (roll_kernel)."""
    (tensor,) = op.inputs
    dims = op.attributes["dims"]
    if min(dims, default=-1) < 0:
        raise op.refuse("works along all dimensions: OneFlow takes -1 for the flattened tensor")
    if tensor.dim in dims:
        raise op.refuse(WORKS_ALONG)
    return op.all_at(tensor.dim)


def before_last(count: int) -> Rule:
    """Along the last ``count`` dimensions, whatever becomes of them; those before them stay."""

    def rule(op: Operator) -> Rows:
        if any(tensor.dim >= tensor.rank - count for tensor in op.carrying):
            raise op.refuse(WORKS_ALONG)
        return side_by_side(op)

    return rule


def first_dim(*shared: str) -> Rule:
    """Each picture of a batch by itself, with arguments that are the same for all rows."""

    def rule(op: Operator) -> Rows:
        rows = side_by_side(op, shared)
        if rows.dims[0] != 0:
            raise op.refuse(WORKS_ALONG)
        return rows

    return rule


def side_by_side(op: Operator, shared: tuple[str, ...] = ()) -> Rows:
    """All inputs but ``shared`` have the rows in the same dimension, counted from the left."""
    if any(tensor.key in shared for tensor in op.carrying):
        raise op.refuse(f"has one {' and '.join(shared)} for all rows, but it depends on the batch")
    dims = {(tensor.dim, tensor.block) for tensor in op.carrying}
    if len(dims) > 1:
        raise op.refuse("combines tensors that carry the batch in different dimensions or lengths")
    ((dim, block),) = dims
    repeat = {}
    for i, tensor in enumerate(op.inputs):
        if tensor.dim is None and tensor.key not in shared:
            if tensor.rank <= dim or tensor.shape[dim] != block:
                raise op.refuse(f"takes {tensor.key} {list(tensor.shape)}, which is not one row's")
            repeat[i] = dim
    return op.all_at(dim, repeat)


def reduce(attribute: str) -> Rule:
    """One result for all values along the dimensions that an attribute names."""

    def rule(op: Operator) -> Rows:
        (tensor,) = op.inputs
        gone = named_dims(op, attribute, tensor.rank)
        if tensor.dim in gone:
            raise op.refuse("reduces the batch dimension")
        kept = op.outputs[0].rank == tensor.rank
        return op.all_at(tensor.dim - (0 if kept else sum(dim < tensor.dim for dim in gone)))

    return rule


def normalization(op: Operator) -> Rows:
    """BatchNorm with its running statistics; ``check_state`` has refused any other."""
    shared = ("moving_mean", "moving_variance", "gamma", "beta")
    place, repeat = line_up(op, shared)
    dim = place + op.outputs[0].rank
    if dim == op.attributes["axis"]:
        raise op.refuse("has statistics for the batch dimension")
    return op.all_at(dim, repeat)


def layer_norm(op: Operator) -> Rows:
    """All dimensions from ``begin_norm_axis`` on, for each place before it."""
    tensor = only(op, "x")
    if tensor.dim >= op.attributes["begin_norm_axis"] % tensor.rank:
        raise op.refuse(WORKS_ALONG)
    return op.all_at(tensor.dim)


def rms_norm(op: Operator) -> Rows:
    """As ``layer_norm``, over as many dimensions as ``normalized_shape`` has."""
    tensor = only(op, "x")
    if tensor.dim >= tensor.rank - len(op.attributes["normalized_shape"]):
        raise op.refuse(WORKS_ALONG)
    return op.all_at(tensor.dim)


def per_channel(vector: str, attribute: str | None = None) -> Rule:
    """Elementwise, with one value of a vector for each place along a dimension: its channels."""

    def rule(op: Operator) -> Rows:
        tensor = only(op, *({each.key for each in op.inputs} - {vector}))
        axis = op.attributes[attribute] if attribute else 1
        if tensor.dim == axis and op.input(vector).shape != (1,):
            raise op.refuse(f"has a {vector} for each place along the batch dimension")
        return op.all_at(tensor.dim)

    return rule


def matmul(op: Operator) -> Rows:
    """Rows of ``a`` by columns of ``b``; dimensions before the last two are apart, and broadcast.

    The batch is never contracted, so a NaN of one row is no part of another row's sums.
    """
    rank = op.outputs[0].rank
    places = {place for tensor in op.carrying for place in [_place_in_product(op, tensor)]}
    if len(places) > 1:
        raise op.refuse("multiplies rows of the batch with each other")
    (place,) = places
    if place >= -2 and {"a", "b"} <= {tensor.key for tensor in op.carrying}:
        raise op.refuse("multiplies rows of the batch with each other")
    return op.all_at(place + rank, _factors_to_repeat(op, place))


def _place_in_product(op: Operator, tensor) -> int:
    """Return where, counted from the right, the product carries the batch of this input."""
    place = tensor.dim - tensor.rank
    if place < -2 or tensor.key == "_add_to_output":
        return place
    turned = op.attributes[f"transpose_{tensor.key}"]
    kept = {"a": -2, "b": -1}[tensor.key]
    if place != (-3 - kept if turned else kept):
        raise op.refuse("sums over the batch dimension")
    return kept


def _factors_to_repeat(op: Operator, place: int) -> dict[int, int]:
    block = op.outputs[0].shape[place]
    repeat = {}
    for i, tensor in enumerate(op.inputs):
        if place >= -2 and tensor.key != "_add_to_output":
            continue
        if tensor.dim is not None and tensor.block != block:
            raise op.refuse("combines tensors that carry the batch in different lengths")
        if tensor.dim is not None:
            continue
        size = tensor.shape[place] if tensor.rank >= -place else 1
        if size not in (1, block):
            raise op.refuse(f"stretches the batch dimension to {size}")
        stretched = op.kind == "broadcast_matmul" and tensor.key != "_add_to_output"
        if size == block and not (stretched and size == 1):
            repeat[i] = place + tensor.rank
    return repeat


def matrix_by_vector(op: Operator) -> Rows:
    """One sum for each row of the matrix ``a``."""
    if only(op, "a").dim != 0:
        raise op.refuse("sums over the batch dimension")
    return op.all_at(0)


def vector_by_matrix(op: Operator) -> Rows:
    """One sum for each column of the matrix ``b``."""
    if only(op, "b").dim != 1:
        raise op.refuse("sums over the batch dimension")
    return op.all_at(0)


def linear(op: Operator) -> Rows:
    """The last dimension of ``x`` by a weight, plus a bias and what ``_add_to_output`` adds."""
    place, repeat = line_up(op, ("weight", "bias"))
    if place == -1:
        raise op.refuse("sums over the batch dimension")
    return op.all_at(place + op.outputs[0].rank, repeat)


def class_of_row(op: Operator) -> Rows:
    """A loss of the last dimension of ``prediction`` and of the class that ``label`` names."""
    dims = {(tensor.dim, tensor.block) for tensor in op.carrying}
    scores = op.input("prediction" if op.kind != "nll" else "input")
    if len(dims) != 1 or len(op.carrying) < 2 or scores.dim != 0 or scores.rank != 2:
        raise op.refuse("is supported only where scores and classes both have the batch first")
    if any(tensor.key == "weight" for tensor in op.carrying):
        raise op.refuse("has one weight for all rows, but it depends on the batch")
    return op.all_at(0)
