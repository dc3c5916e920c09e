"""What shapes and data types the operators of a job have, by OneFlow's own inference."""

import re
from functools import lru_cache

from oneflow._oneflow_internal.nn.graph import ConvertJobToIR
from oneflow.core.job.job_pb2 import Job
from oneflow.core.operator.op_conf_pb2 import OperatorConf

from oneflow_backend.job import inputs_of, outputs_of, place
from oneflow_backend.mlir import operators

_TENSOR = re.compile(r"tensor<((?:\d+x)*)(\w+)>")
#: MLIR's names of the data types, with OneFlow's numbers (data_type.proto).
_NUMBERS = {"f32": 2, "f64": 3, "si8": 4, "si32": 5, "si64": 6, "ui8": 7, "f16": 9, "i1": 12}

Type = tuple[tuple[int, ...], str]  # a shape and MLIR's name of a data type


def types_of(job: Job) -> dict[str, Type]:
    """Return the type of every tensor of a job."""
    found = _read_types(ConvertJobToIR(job.SerializeToString()))
    types = {}
    for op in job.net.op:
        types.update(zip(outputs_of(op), found.get(op.name, []), strict=False))
    return types


def infer_types(op: OperatorConf, inputs: list[Type]) -> list[Type]:
    """Return the types of an operator's results for inputs of these types.

    Raises:
        ValueError: OneFlow finds that the operator cannot have these inputs.
    """
    try:
        return _infer(_without_names(op), tuple(inputs))
    except Exception as error:  # OneFlow raises many kinds
        reason = re.sub(r"\x1b\[[\d;]*m", "", str(error)).strip()
        raise ValueError(reason.partition("\n")[0]) from None


def _read_types(text: str) -> dict[str, list[Type]]:
    """Return the types of what every operator answers, from MLIR: one operator a line."""
    types = {}
    for op in operators(text):
        found = _TENSOR.findall(op.line.rpartition(" -> ")[2])
        types[op.name] = [(tuple(map(int, dims.split("x")[:-1])), kind) for dims, kind in found]
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
    place(job, [each.name for each in job.net.op], where)
    return _read_types(ConvertJobToIR(job.SerializeToString()))["op"]


def _set_blob(blob, shape: tuple[int, ...], kind: str) -> None:
    blob.shape.dim.extend(shape)
    blob.data_type = _NUMBERS[kind]
    blob.is_dynamic = False
    blob.nd_sbp.sbp_parallel.add().broadcast_parallel.SetInParent()
