"""Run a job on a CPU one operator after the other, in OneFlow's Eager engine.

OneFlow 0.9.0 runs whole graphs by an engine that was made for GPUs. On a CPU it copies at every
reshape, keeps memory for every result of every operator, has one thread spin while the graph runs,
and crashes when a job ends at once. The Eager engine has the same kernels, so it gives the same
answers bit by bit, and none of these.

It is used for jobs whose operators are all in ``OPERATORS``: those for which tests say so.
"""

import os
from collections.abc import Callable, Sequence

# The thread that orders the kernels should also run them; otherwise it spins while another does.
# OneFlow reads this when the first operator of a process runs; a choice that was made stays.
os.environ.setdefault("ONEFLOW_VM_COMPUTE_ON_WORKER_THREAD", "0")

import oneflow as flow
from google.protobuf import text_format
from oneflow._oneflow_internal.one import OpBuilder
from oneflow.core.framework.user_op_conf_pb2 import UserOpConf
from oneflow.core.job.job_pb2 import Job
from oneflow.core.operator.op_conf_pb2 import OperatorConf

from oneflow_backend.job import in_order, inputs_of, outputs_of

_NAMES = """
abs adaptive_avg_pool1d adaptive_avg_pool2d add_n arange argmax avg_pool_2d batch_matmul bias_add
broadcast_add broadcast_div broadcast_equal broadcast_greater broadcast_greater_equal broadcast_less
broadcast_less_equal broadcast_logical_and broadcast_logical_or broadcast_matmul broadcast_maximum
broadcast_minimum broadcast_mul broadcast_not_equal broadcast_pow broadcast_sub cast ceil
clip_by_scalar clip_by_scalar_max clip_by_scalar_min concat constant conv1d conv2d cos deconv2d elu
erf exp expand expand_dims flip floor gather gather_nd gelu hardsigmoid hardswish hardtanh
leaky_relu log log_softmax masked_fill matmul max_pool_2d mish narrow negative normalization pad
prelu reciprocal reduce_max reduce_min reduce_sum reflection_pad2d relu replication_pad2d reshape
roll round rsqrt scalar_add scalar_div scalar_logical_equal scalar_logical_greater
scalar_logical_greater_equal scalar_logical_less scalar_logical_less_equal scalar_logical_not_equal
scalar_mul scalar_mul_by_tensor scalar_pow selu sigmoid sign silu sin slice softmax sqrt square
squeeze stack tanh transpose upsample_bilinear_2d upsample_nearest_2d var where
"""
#: Those that tests compare: no random numbers, no state, no choice of a device.
OPERATORS = frozenset(_NAMES.split())


def suits(job: Job) -> bool:
    """Return whether this job may be run one by one."""
    read = {lbn for op in job.net.op for *_, lbn in inputs_of(op)}
    return all(_suits(op, read) for op in job.net.op if op.HasField("user_conf"))


def _suits(op: OperatorConf, read: set[str]) -> bool:
    user = op.user_conf
    # What runs an operator here returns its first result only, and those with state are to train.
    return (
        user.op_type_name in OPERATORS
        and not read & {*outputs_of(op)[1:]}
        and not ("training" in user.attr and user.attr["training"].at_bool)
    )


class OneByOne:
    """A job that ``suits``, ready to be run.

    Args:
        job: it is not changed.
        input_names: its input operators.
        output_names: its output operators.
        variables: a tensor for each variable operator.
        variable_names: these operators.
    """

    def __init__(self, job: Job, *, input_names, output_names, variables, variable_names):
        tensor_of = dict(zip(variable_names, variables, strict=True))
        operators = {op.name: op for op in job.net.op}
        order = [op for op in in_order(job) if not op.HasField("output_conf")]
        places = {outputs_of(op)[0]: place for place, op in enumerate(order)}
        #: The tensors of the variables; None for what is there only while the job runs.
        self._tensors = [tensor_of.get(op.name) for op in order]
        self._inputs = [places[outputs_of(operators[name])[0]] for name in input_names]
        self._outputs = [places[inputs_of(operators[name])[0][-1]] for name in output_names]
        self._steps = []
        last = dict.fromkeys(self._outputs)
        steps = [op for op in order if op.HasField("user_conf")]
        for op in reversed(steps):
            read = [places[lbn] for *_, lbn in inputs_of(op)]
            place = places[outputs_of(op)[0]]
            done = [i for i in dict.fromkeys(read) if last.setdefault(i, place) == place]
            done = [i for i in done if self._tensors[i] is None]
            self._steps.insert(0, (_runner(op.user_conf), read, place, done))

    def run(self, inputs: Sequence[flow.Tensor]) -> list[flow.Tensor]:
        """Run the job once; reading a result waits until it is computed."""
        tensors = self._tensors.copy()
        for place, tensor in zip(self._inputs, inputs, strict=True):
            tensors[place] = tensor
        for run, read, place, done in self._steps:
            tensors[place] = run([tensors[i] for i in read])
            for i in done:
                tensors[i] = None  # its memory is free for the next results
        return [tensors[place] for place in self._outputs]

    def run_into(self, outputs: Sequence[flow.Tensor], inputs: Sequence[flow.Tensor]) -> None:
        """Run the job once, and write its results into these tensors."""
        for output, result in zip(outputs, self.run(inputs), strict=True):
            output.copy_(result)


def _runner(user: UserOpConf) -> Callable[[list[flow.Tensor]], flow.Tensor]:
    """Return a function from an operator's inputs to its first result."""
    kind, attr = user.op_type_name, user.attr
    # These show the same memory in another shape.
    if kind == "reshape":
        shape = tuple(attr["shape"].at_shape.dim)
        return lambda tensors: flow._C.reshape(tensors[0], shape)
    if kind == "expand_dims":
        axis = attr["axis"].at_int32
        return lambda tensors: flow._C.expand_dims(tensors[0], axis)
    if kind == "squeeze":
        axes = tuple(attr["axes"].at_list_int32.val)
        return lambda tensors: flow._C.squeeze(tensors[0], axes)
    builder = OpBuilder(kind, kind)
    for name in sorted(user.input):  # as inputs_of has them
        builder.input(name, len(user.input[name].s))
    for name in user.output_order:
        builder.output(name, len(user.output[name].s))
    for name, value in attr.items():
        builder.attr(name, text_format.MessageToString(value))
    op = builder.build()
    # The one function of Python's that runs whatever operator it is given, with any number of
    # inputs. What it adds are attributes of the operator that it was made for.
    run = flow._C.dispatch_crop_mirror_normalize_from_uint8
    return lambda tensors: run(op, tensors, mean=(), std=())
