"""Which integers a saved graph's inputs may hold: those that exist in the tables they look up.

OneFlow aborts its process over most indices that do not exist, and gives zeros for others, so an
example input has to stay in the range to say anything. The range is read from the structure: an
input that reaches the indices of an operator in ``_TABLES``, through operators that keep values
or add a number, may hold what that operator takes.
"""

import re

import numpy as np
from oneflow.core.job.job_pb2 import Job
from oneflow.core.operator.op_conf_pb2 import OperatorConf

from oneflow_backend.example_inputs import Range
from oneflow_backend.graph_folder import GraphFolder
from oneflow_backend.job import in_order, inputs_of, outputs_of
from oneflow_backend.mlir import operators

_FIRST_INPUT = re.compile(r"tensor<((?:\d+x)*)\w+>")
#: Operators whose results hold the values of their inputs, whatever their places.
_KEEP = frozenset(
    {
        "broadcast_like",
        "cast",
        "concat",
        "copy",
        "expand",
        "expand_dims",
        "flatten",
        "flip",
        "identity",
        "narrow",
        "repeat",
        "reshape",
        "roll",
        "slice",
        "squeeze",
        "stack",
        "tile",
        "transpose",
    }
)


def id_ranges(job: Job, folder: GraphFolder) -> list[Range | None]:
    """Return, for every input of the graph, the integers that it may hold; None where unknown."""
    shapes = _first_shapes(folder.mlir.read_text(encoding="utf-8"))
    places = {spec.name: i for i, spec in enumerate(folder.inputs)}
    found: dict[int, Range] = {}
    #: For a tensor, the inputs whose values it holds, with the number that was added to them.
    holds: dict[str, set[tuple[int, int]]] = {}
    for op in in_order(job):
        if op.name in places:
            holds[outputs_of(op)[0]] = {(places[op.name], 0)}
        if not op.HasField("user_conf"):
            continue
        for argument, _, lbn in inputs_of(op):
            size = _table_size(op, argument, shapes.get(op.name, ()))
            for place, added in holds.get(lbn, ()) if size else ():
                low, high = found.get(place, (-(2**62), 2**62))
                found[place] = max(low, -added), min(high, size - added)
        added = _added(op)
        if added is not None:
            held = set().union(*(holds.get(lbn, ()) for *_, lbn in inputs_of(op)))
            holds |= {lbn: {(i, n + added) for i, n in held} for lbn in outputs_of(op)}
    return [_usable(found.get(i), spec.dtype) for i, spec in enumerate(folder.inputs)]


def _usable(found: Range | None, dtype: np.dtype) -> Range | None:
    """Return the part of a range that the data type has; None when nothing of it is left."""
    if found is None or dtype.kind not in "iu":
        return None
    low, high = max(found[0], np.iinfo(dtype).min), min(found[1], np.iinfo(dtype).max + 1)
    return (low, high) if low < high else None


def _added(op: OperatorConf) -> int | None:
    """Return what an operator adds to the values that it is given; None if it does more."""
    kind, attr = op.user_conf.op_type_name, op.user_conf.attr
    if kind == "scalar_add" and attr["has_int_operand"].at_bool:
        return attr["int_operand"].at_int64
    return 0 if kind in _KEEP else None


def _table_size(op: OperatorConf, argument: str, shape: tuple[int, ...]) -> int | None:
    """Return how many indices exist for an argument of an operator; None if it is no index.

    ``shape`` is that of the operator's first input, which is the table.
    """
    kind, attr = op.user_conf.op_type_name, op.user_conf.attr
    if kind == "gather" and argument == "indices" and shape:
        return shape[attr["axis"].at_int64]
    if kind == "embedding" and argument == "indices" and shape:
        return shape[0]
    if kind.startswith(("dim_gather", "dim_scatter")) and argument == "index" and shape:
        return shape[attr["dim"].at_int32]
    if kind == "gather_nd" and argument == "indices" and shape:
        return min(shape)
    if kind == "one_hot" and argument == "indices":
        return attr["depth"].at_int64
    return None


def _first_shapes(text: str) -> dict[str, tuple[int, ...]]:
    """Return the shape of every operator's first input, from the graph's text."""
    shapes = {}
    for op in operators(text):
        if shape := _FIRST_INPUT.match(op.line.rpartition(" : (")[2]):
            shapes[op.name] = tuple(map(int, shape[1].split("x")[:-1]))
    return shapes
