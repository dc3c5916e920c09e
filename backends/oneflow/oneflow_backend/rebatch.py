"""Rewrite a job that was traced with batch 1 into the same job for batch n.

``rebatch(job, n)`` follows the batch through the graph. OneFlow itself says what shape every
operator answers (``ConvertJobToIR`` infers a whole job, and reports an impossible one by an
exception), so operators need no rules of their own, but for two things:

* sizes that tracing wrote into attributes: ``reshape``, ``expand``, ``slice`` and ``narrow``;
* constants and variables that stand beside the batch with the size of one row (the class token
  of a ViT): a ``concat`` repeats them n times.

Every tensor that depends on an input must carry the batch in exactly one dimension, n * k long
where it was k, with row i in the i-th block of k. What does not end there raises ``CannotBatch``,
which names the operator. The shapes are right then; the values need a proof: compare a batch with
its single rows, in a process that may die, because OneFlow checks some shapes only by aborting.
"""

import re
from functools import lru_cache
from math import prod

from oneflow._oneflow_internal.nn.graph import ConvertJobToIR
from oneflow.core.job.job_pb2 import Job
from oneflow.core.operator.op_conf_pb2 import OperatorConf

from oneflow_backend.job import in_order, inputs_of, outputs_of
from oneflow_backend.mlir import operators

_TENSOR = re.compile(r"tensor<((?:\d+x)*)(\w+)>")
#: MLIR's names of the data types, with OneFlow's numbers (data_type.proto).
_NUMBERS = {"f32": 2, "f64": 3, "si8": 4, "si32": 5, "si64": 6, "ui8": 7, "f16": 9, "i1": 12}

Type = tuple[tuple[int, ...], str]  # a shape and MLIR's name of a data type


class CannotBatch(ValueError):
    """The job cannot be rewritten for a batch; the message names the operator in the way."""


def rebatch(job: Job, n: int) -> Job:
    """Return a copy of ``job``, whose inputs and outputs all begin with 1, for batch n.

    Raises:
        CannotBatch: an operator's sizes cannot be known for batch n.
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
        self.types = _types_of(job)  # of every tensor, for one row
        self.carry: dict[str, int] = {}  # the dimension of a tensor that carries the batch
        self.read = {lbn for op in job.net.op for *_, lbn in inputs_of(op)}

    def run(self) -> None:
        for op in in_order(self.job):
            if op.HasField("input_conf"):
                self.carry[outputs_of(op)[0]] = 0
                self._set_batch(op.name, op.input_conf)
            elif op.HasField("output_conf"):
                if self.carry.get(inputs_of(op)[0][-1]) != 0:
                    raise CannotBatch(f"output {op.name}: its first dimension is not the batch")
                self._set_batch(op.name, op.output_conf)
            elif any(lbn in self.carry for *_, lbn in inputs_of(op)):
                self._rewrite(op)

    def _set_batch(self, name: str, conf) -> None:
        dims = conf.blob_conf.shape.dim
        if not dims or dims[0] != 1:
            raise CannotBatch(f"{name}: shape {list(dims)} does not begin with 1")
        dims[0] = self.n

    def _rewrite(self, op: OperatorConf) -> None:
        """Rewrite one operator that sees the batch, and note where its outputs carry it."""
        kind, outputs = op.user_conf.op_type_name, outputs_of(op)
        lbn, dim = next((lbn, self.carry[lbn]) for *_, lbn in inputs_of(op) if lbn in self.carry)
        shape = self.types[lbn][0]
        if kind in _SIZES:
            _SIZES[kind](op, shape, self.types[outputs[0]][0], dim, self.n)
        elif kind == "concat" and op.user_conf.attr["axis"].at_int64 == dim:
            raise CannotBatch(f"concat {op.name}: joins along the dimension that is the batch")
        try:
            found = self._carrying_dims(op)
        except CannotBatch:
            if not self._repeat_constants(op, shape, dim):
                raise
            found = self._carrying_dims(op)
        self.carry.update(found)

    def _carrying_dims(self, op: OperatorConf) -> dict[str, int]:
        """Return, for each output that is read, the one dimension that grows from k to n * k."""
        inputs = []
        for *_, lbn in inputs_of(op):
            (shape, data_type), dim = self.types[lbn], self.carry.get(lbn)
            grown = tuple(size * self.n if i == dim else size for i, size in enumerate(shape))
            inputs.append((grown, data_type))
        what = f"{op.user_conf.op_type_name} {op.name}"
        try:
            found = _infer(_without_names(op), tuple(inputs))
        except Exception as error:  # OneFlow raises many kinds
            reason = re.sub(r"\x1b\[[\d;]*m", "", str(error)).strip()
            raise CannotBatch(f"{what}: {reason}") from None
        dims = {}
        for (shape, _), lbn in zip(found, outputs_of(op), strict=True):
            old = self.types[lbn][0]
            grown = [i for i, (a, b) in enumerate(zip(old, shape, strict=False)) if a != b]
            if (
                len(old) == len(shape)
                and len(grown) == 1
                and (shape[grown[0]] == self.n * old[grown[0]])
            ):
                dims[lbn] = grown[0]
            elif lbn in self.read:
                raise CannotBatch(f"{what}: {list(old)} for 1 row, {list(shape)} for {self.n}")
        return dims

    def _repeat_constants(self, op: OperatorConf, shape: tuple[int, ...], dim: int) -> bool:
        """Repeat the inputs that do not depend on the batch, but are as long as one row.

        ``shape`` is that of the input that carries the batch in ``dim``. Returns whether there
        was such a constant.
        """
        done = False
        for key, i, lbn in inputs_of(op):
            const = self.types[lbn][0]
            if lbn in self.carry or len(const) != len(shape) or const[dim] != shape[dim]:
                continue
            new = self.job.net.op.add(name=f"{op.name}-{key}-{i}-repeated")
            new.device_tag, new.scope_symbol_id = op.device_tag, op.scope_symbol_id
            user, out = new.user_conf, f"{new.name}/out_0"
            user.op_type_name = "concat"
            user.input["in"].s.extend([lbn] * self.n)
            user.output["out"].s.append(out)
            user.input_order.append("in")
            user.output_order.append("out")
            user.attr["axis"].at_int64 = dim
            user.attr["max_dim_size"].at_int64 = self.n * const[dim]
            _place(self.job, [new.name], self.job.placement.placement_group[0].parallel_conf)
            op.user_conf.input[key].s[i] = out
            self.types[out], self.carry[out] = self.types[lbn], dim
            done = True
        return done


def _reshape(op: OperatorConf, was: tuple, out: tuple, dim: int, n: int) -> None:
    """Rows keep their place: as many elements go before the batch's dimension as did."""
    places = [i for i in range(len(out)) if prod(out[:i]) == prod(was[:dim])]
    if not places:
        raise CannotBatch(f"reshape {op.name}: {list(was)} to {list(out)} takes the rows apart")
    # Dimensions of 1 leave a choice: the first, as programs write the batch before the rest.
    out = [size * n if i == places[0] else size for i, size in enumerate(out)]
    op.user_conf.attr["shape"].at_shape.dim[:] = out


def _expand(op: OperatorConf, was: tuple, out: tuple, dim: int, n: int) -> None:
    dims = op.user_conf.attr["expand_shape"].at_shape.dim
    place = dim + len(out) - len(was)
    if dims[place] == was[dim]:
        dims[place] *= n


def _slice(op: OperatorConf, was: tuple, out: tuple, dim: int, n: int) -> None:
    if out[dim] == was[dim]:  # all rows
        op.user_conf.attr["stop"].at_list_int64.val[dim] = n * was[dim]


def _narrow(op: OperatorConf, was: tuple, out: tuple, dim: int, n: int) -> None:
    attr = op.user_conf.attr
    if attr["dim"].at_int64 == dim and out[dim] == was[dim]:
        attr["length"].at_int64 = n * was[dim]


_SIZES = {"reshape": _reshape, "expand": _expand, "slice": _slice, "narrow": _narrow}


def _place(job: Job, names: list[str], where) -> None:
    group = job.placement.placement_group.add()
    group.op_set.op_name.extend(names)
    group.parallel_conf.CopyFrom(where)


def _read_types(text: str) -> dict[str, list[Type]]:
    """Return the types of what every operator answers, from MLIR: one operator a line."""
    types = {}
    for op in operators(text):
        found = _TENSOR.findall(op.line.rpartition(" -> ")[2])
        types[op.name] = [(tuple(map(int, dims.split("x")[:-1])), kind) for dims, kind in found]
    return types


def _types_of(job: Job) -> dict[str, Type]:
    """Return the type of every tensor of a job."""
    found = _read_types(ConvertJobToIR(job.SerializeToString()))
    types = {}
    for op in job.net.op:
        types.update(zip(outputs_of(op), found.get(op.name, []), strict=False))
    return types


def _without_names(op: OperatorConf) -> bytes:
    """Return an operator with its tensors called 0/out, 1/out, ...: equal ones are equal bytes."""
    bare = OperatorConf(name="op", device_tag="cpu", user_conf=op.user_conf)
    for k, (key, i, _) in enumerate(inputs_of(op)):
        bare.user_conf.input[key].s[i] = f"{k}/out"
    for key, value in bare.user_conf.output.items():
        value.s[:] = [f"op/{key}_{i}" for i in range(len(value.s))]
    return bare.SerializeToString(deterministic=True)


@lru_cache(maxsize=4096)
def _infer(bare: bytes, inputs: tuple[Type, ...]) -> list[Type]:
    """Let OneFlow infer what one operator answers to inputs of these types: a job of its own."""
    job = Job()
    job.job_conf.job_name = "infer"
    job.job_conf.predict_conf.SetInParent()
    op = job.net.op.add()
    op.ParseFromString(bare)
    for k, (shape, kind) in enumerate(inputs):
        conf = job.net.op.add(name=str(k), device_tag="cpu").input_conf
        conf.out = "out"
        _set_blob(conf.blob_conf, shape, kind)
    for k, lbn in enumerate(outputs_of(op)):  # what nobody reads is not in the text
        conf = job.net.op.add(name=f"out{k}", device_tag="cpu").output_conf
        conf.out = "out"
        setattr(conf, "in", lbn)
        _set_blob(conf.blob_conf, (1,), "f32")
    where = Job().placement.placement_group.add().parallel_conf
    where.device_tag = "cpu"
    where.device_name.append("@0:0")
    _place(job, [each.name for each in job.net.op], where)
    return _read_types(ConvertJobToIR(job.SerializeToString()))["op"]


def _set_blob(blob, shape: tuple[int, ...], kind: str) -> None:
    blob.shape.dim.extend(shape)
    blob.data_type = _NUMBERS[kind]
    blob.is_dynamic = False
    blob.nd_sbp.sbp_parallel.add().broadcast_parallel.SetInParent()
