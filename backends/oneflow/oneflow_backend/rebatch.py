"""Rewrite a job that was traced with batch 1 into the same job for batch n.

``rebatch(job, n)`` follows the batch through the graph, operator by operator. Two sources must
agree on where each result carries it: the rules of ``batch_table``, by which an operator treats
rows independently of each other, and OneFlow's own inference of shapes for n rows. What has no
rule, or mixes rows, raises ``CannotBatch``, which names the operator. Rewritten are

* the batch of inputs and outputs;
* sizes that tracing wrote into attributes: ``reshape``, ``expand``, ``slice``, ``narrow``, ...;
* products with a number a row, which tracing took for a scalar;
* constants and variables that stand beside the batch with the size of one row (the class token of
  a ViT): a ``concat`` repeats them n times.

The values are verified on top of that (``verification``): OneFlow itself may have mistakes.
"""

from typing import Any

from oneflow.core.job.job_pb2 import Job
from oneflow.core.operator.op_conf_pb2 import OperatorConf

from oneflow_backend.batch_axis import CannotBatch, Operator, Rows, Tensor
from oneflow_backend.batch_table import check_same_each_time, rows_of
from oneflow_backend.job import in_order, inputs_of, outputs_of, place
from oneflow_backend.shape_inference import infer_types, types_of

#: A tensor times a scalar, and the product of two tensors.
_SCALED, _PRODUCT = "scalar_mul_by_tensor", "broadcast_mul"


def rebatch(job: Job, n: int) -> Job:
    """Return a copy of ``job``, whose inputs and outputs all begin with 1, for batch n.

    Raises:
        CannotBatch: rows would not be independent of each other, or sizes cannot be known.
    """
    new = Job()
    new.CopyFrom(job)
    if n > 1:
        _Walk(new, n).run()
    return new


class _Walk:
    """One walk through a job, from its inputs to its outputs, rewriting it in place."""

    def __init__(self, job: Job, n: int):
        self.job, self.n = job, n
        self.types = types_of(job)  # of every tensor, for one row
        self.carry: dict[str, int] = {}  # the dimension of a tensor that carries the batch
        self.read = {lbn for op in job.net.op for *_, lbn in inputs_of(op)}

    def run(self) -> None:
        for op in in_order(self.job):
            if op.HasField("input_conf"):
                self.carry[outputs_of(op)[0]] = 0
                self._set_batch(op.name, op.input_conf)
            elif op.HasField("output_conf"):
                if self.carry.get(inputs_of(op)[0][-1]) != 0:
                    raise CannotBatch(f"output {op.name!r}: its first dimension is not the batch")
                self._set_batch(op.name, op.output_conf)
            elif op.HasField("user_conf"):
                self._follow(op)
            elif not op.HasField("variable_conf"):
                kind = op.WhichOneof("op_type").removesuffix("_conf")
                raise CannotBatch(f"{kind} {op.name!r} is not known to treat rows independently")

    def _set_batch(self, name: str, conf) -> None:
        dims = conf.blob_conf.shape.dim
        if not dims or dims[0] != 1:
            raise CannotBatch(f"{name!r}: shape {list(dims)} does not begin with 1")
        dims[0] = self.n

    def _follow(self, op: OperatorConf) -> None:
        """Rewrite one operator, and note where its outputs carry the batch."""
        kind = op.user_conf.op_type_name
        if kind == _SCALED and op.user_conf.input["scalar"].s[0] in self.carry:
            self._make_product(op)
        seen = self._seen(op)
        check_same_each_time(seen)
        if not seen.carrying:
            return
        rows = rows_of(seen)
        for i, dim in rows.repeat.items():
            self._repeat(op, *inputs_of(op)[i], dim)
        _rewrite_sizes(op, seen, rows, self.n)
        self._check_shapes(op, seen, rows)
        found = zip(outputs_of(op), rows.dims, strict=True)
        self.carry.update({lbn: dim for lbn, dim in found if dim is not None})

    def _make_product(self, op: OperatorConf) -> None:
        """Turn a tensor times a scalar into the product of two tensors.

        Tracing takes a tensor of one element, as a number a row is in a batch of 1, for a scalar.
        """
        user, old, new = op.user_conf, outputs_of(op)[0], f"{op.name}/z_0"
        scalar = user.input["scalar"].s[0]
        user.op_type_name = _PRODUCT
        user.input["y"].s.append(scalar)
        user.output["z"].s.append(new)
        del user.input["scalar"], user.output["y"]
        user.input_order[:], user.output_order[:] = ["x", "y"], ["z"]
        self.types[new] = self.types.pop(old)
        for other in self.job.net.op:
            for key, i, lbn in inputs_of(other):
                if lbn == old and other.HasField("output_conf"):
                    setattr(other.output_conf, "in", new)
                elif lbn == old:
                    other.user_conf.input[key].s[i] = new
        self.read = {new if lbn == old else lbn for lbn in self.read}

    def _seen(self, op: OperatorConf) -> Operator:
        return Operator(
            kind=op.user_conf.op_type_name,
            name=op.name,
            attributes={key: _value(attr) for key, attr in op.user_conf.attr.items()},
            inputs=tuple(
                Tensor(key, *self.types[lbn], self.carry.get(lbn)) for key, _, lbn in inputs_of(op)
            ),
            outputs=tuple(Tensor("", *self.types.get(lbn, ((), ""))) for lbn in outputs_of(op)),
        )

    def _check_shapes(self, op: OperatorConf, seen: Operator, rows: Rows) -> None:
        """Compare with OneFlow's shapes for n rows, of the results that are read.

        Raises:
            CannotBatch: they are not what the rule says.
        """
        inputs = [self._type_for_batch(lbn, self.carry.get(lbn)) for *_, lbn in inputs_of(op)]
        try:
            found = infer_types(op, inputs)
        except ValueError as error:
            raise seen.refuse(f"has no shape for {self.n} rows: {error}") from None
        for lbn, dim, (shape, _) in zip(outputs_of(op), rows.dims, found, strict=True):
            if lbn not in self.read:
                continue
            expected, _ = self._type_for_batch(lbn, dim)
            if shape != expected:
                raise seen.refuse(
                    f"gives {list(shape)} for {self.n} rows, where {list(expected)} was expected"
                )

    def _type_for_batch(self, lbn: str, dim: int | None) -> tuple[tuple[int, ...], str]:
        shape, data_type = self.types[lbn]
        grown = tuple(size * self.n if i == dim else size for i, size in enumerate(shape))
        return grown, data_type

    def _repeat(self, op: OperatorConf, key: str, i: int, lbn: str, dim: int) -> None:
        """Put a ``concat`` before an input that repeats it for each row, along ``dim``."""
        new = self.job.net.op.add(name=f"{op.name}-{key}-{i}-repeated")
        new.device_tag, new.scope_symbol_id = op.device_tag, op.scope_symbol_id
        user, out = new.user_conf, f"{new.name}/out_0"
        user.op_type_name = "concat"
        user.input["in"].s.extend([lbn] * self.n)
        user.output["out"].s.append(out)
        user.input_order.append("in")
        user.output_order.append("out")
        user.attr["axis"].at_int64 = dim
        user.attr["max_dim_size"].at_int64 = self.n * self.types[lbn][0][dim]
        place(self.job, [new.name], self.job.placement.placement_group[0].parallel_conf)
        op.user_conf.input[key].s[i] = out
        self.types[out], self.carry[out] = self.types[lbn], dim


def _rewrite_sizes(op: OperatorConf, seen: Operator, rows: Rows, n: int) -> None:
    """Rewrite the sizes that tracing wrote into an operator for one row."""
    attr, dim, out = op.user_conf.attr, rows.dims[0], seen.outputs[0].shape
    if seen.kind == "reshape":  # which may have -1 for one of them
        attr["shape"].at_shape.dim[:] = [
            size * n if i == dim else size for i, size in enumerate(out)
        ]
    elif seen.kind == "expand" and attr["expand_shape"].at_shape.dim[dim] != -1:
        attr["expand_shape"].at_shape.dim[dim] *= n
    elif seen.kind in ("slice", "slice_update"):
        attr["stop"].at_list_int64.val[seen.carrying[0].dim] *= n
    elif seen.kind == "narrow" and seen.attributes["dim"] == seen.carrying[0].dim:
        attr["length"].at_int64 *= n
    elif seen.kind == "affine_grid":
        attr["size"].at_shape.dim[0] *= n


def _value(attr) -> Any:
    """Return an attribute as a Python value: a number, a string, or a tuple of them."""
    kind = attr.WhichOneof("value")
    value = getattr(attr, kind)
    if kind == "at_shape":
        return tuple(value.dim)
    return tuple(value.val) if kind.startswith("at_list") else value
