"""The operators of a saved job: what each reads and writes, and the order to go through them."""

from oneflow._oneflow_internal.nn.graph import LoadSerializedJobFromIR
from oneflow.core.job.job_pb2 import Job
from oneflow.core.operator.op_conf_pb2 import OperatorConf

from oneflow_backend import topological
from oneflow_backend.graph_folder import GraphFolder


def read_job(folder: GraphFolder) -> Job:
    """Return the job of a saved graph."""
    job = Job()
    job.ParseFromString(LoadSerializedJobFromIR(str(folder.mlir)))
    return job


def inputs_of(op: OperatorConf) -> list[tuple[str, int, str]]:
    """Return (argument, index, tensor) for every tensor that an operator reads."""
    if op.HasField("output_conf"):
        return [("in", 0, getattr(op.output_conf, "in"))]
    values = op.user_conf.input
    return [(key, i, lbn) for key in sorted(values) for i, lbn in enumerate(values[key].s)]


def outputs_of(op: OperatorConf) -> list[str]:
    """Return every tensor that an operator gives; none for an output of the job."""
    for kind in ("input_conf", "variable_conf"):
        if op.HasField(kind):
            return [f"{op.name}/{getattr(op, kind).out}"]
    return [lbn for key in op.user_conf.output_order for lbn in op.user_conf.output[key].s]


def in_order(job: Job) -> list[OperatorConf]:
    """Return a job's operators, each after those whose results it reads.

    Of those that may come next, it is the first of the job: where ``flow.save`` has put them in
    the order of a program, few results have to be kept at a time.
    """
    ops = list(job.net.op)
    place = {op.name: i for i, op in enumerate(ops)}
    needs = [{place[lbn.partition("/")[0]] for *_, lbn in inputs_of(op)} for op in ops]
    return [ops[i] for i in topological.in_order(needs, range(len(ops)))]


def place(job: Job, names: list[str], where) -> None:
    """Put operators of a job on the devices of a ``ParallelConf``."""
    group = job.placement.placement_group.add()
    group.op_set.op_name.extend(names)
    group.parallel_conf.CopyFrom(where)
