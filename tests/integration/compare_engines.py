"""Run every operator that may be run one by one in both of OneFlow's engines.

``compare_engines.py FOLDER`` prints a line of JSON: the operators that may be, the names of the
cases that need another, and for each case below the kinds of the operators in its graph, whether it
was run one by one, and whether both engines gave the same bits.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
import oneflow as flow
from oneflow import nn
from oneflow.nn import functional

from oneflow_backend.saved_graph import OPERATORS, SavedGraph
from serving_kit.export.version import export_version


def indices(tensor, *shape):
    """Return 0, 1, 2, ... by a tensor's values, which are seldom above 3."""
    found = (tensor.abs() * 1.5).clamp(max=5.0).to(flow.int64)
    return found.reshape(*(shape or (10,)))


PICTURE, ROWS, ROW = (1, 8, 12, 12), (1, 6, 10), (1, 1, 10)
#: A module or function, and the shapes of its inputs.
CASES = {
    "abs": (flow.abs, PICTURE),
    "adaptive_avg_pool1d": (nn.AdaptiveAvgPool1d(3), ROWS),
    "adaptive_avg_pool2d": (nn.AdaptiveAvgPool2d(5), PICTURE),
    "add_n": (lambda a, b: a + b, ROWS, ROWS),
    "avg_pool_2d": (nn.AvgPool2d(3, 2, 1), PICTURE),
    "arange": (lambda a: a * flow.arange(10, dtype=flow.float32), ROWS),
    "argmax": (lambda a: a.argmax(dim=1), ROWS),
    "batch_matmul": (flow.bmm, (1, 4, 6), (1, 6, 5)),
    "bias_add": (nn.Conv2d(8, 4, 3), PICTURE),
    "broadcast_add": (lambda a, b: a + b, ROWS, ROW),
    "broadcast_div": (lambda a, b: a / b, ROWS, ROW),
    "broadcast_equal": (lambda a, b: a.round() == b.round(), ROWS, ROW),
    "broadcast_greater": (lambda a, b: a > b, ROWS, ROW),
    "broadcast_greater_equal": (lambda a, b: a >= b, ROWS, ROW),
    "broadcast_less": (lambda a, b: a < b, ROWS, ROW),
    "broadcast_less_equal": (lambda a, b: a <= b, ROWS, ROW),
    "broadcast_logical_and": (lambda a, b: flow.logical_and(a > 0, b > 0), ROWS, ROW),
    "broadcast_logical_or": (lambda a, b: flow.logical_or(a > 0, b > 0), ROWS, ROW),
    "broadcast_matmul": (nn.Linear(10, 7), (1, 6, 10)),
    "broadcast_maximum": (flow.maximum, ROWS, ROW),
    "broadcast_minimum": (flow.minimum, ROWS, ROW),
    "broadcast_mul": (lambda a, b: a * b, ROWS, ROW),
    "broadcast_not_equal": (lambda a, b: a.round() != b.round(), ROWS, ROW),
    "broadcast_pow": (lambda a, b: a.abs() ** b, ROWS, ROW),
    "broadcast_sub": (lambda a, b: a - b, ROWS, ROW),
    "cast": (lambda a: a.to(flow.int32), ROWS),
    "ceil": (flow.ceil, ROWS),
    "clip": (lambda a: a.clamp(-0.5, 0.5), ROWS),
    "clip_min": (lambda a: a.clamp(min=-0.5), ROWS),
    "clip_max": (lambda a: a.clamp(max=0.5), ROWS),
    "concat": (lambda a, b: flow.cat([a, b, a], dim=1), ROWS, ROW),
    "constant": (lambda a: a + flow.ones(6, 10), ROWS),
    "conv1d": (nn.Conv1d(6, 4, 3), ROWS),
    "conv2d": (nn.Conv2d(8, 4, 3, padding=1, groups=2, bias=False), PICTURE),
    "cos": (flow.cos, ROWS),
    "deconv2d": (nn.ConvTranspose2d(8, 4, 3, stride=2), PICTURE),
    "elu": (nn.ELU(), ROWS),
    "erf": (flow.erf, ROWS),
    "exp": (flow.exp, ROWS),
    "expand": (lambda a: a.expand(1, 6, 10), ROW),
    "expand_dims": (lambda a: a.unsqueeze(2), ROWS),
    "flatten": (lambda a: a.flatten(1), ROWS),
    "flip": (lambda a: flow.flip(a, [1]), ROWS),
    "floor": (flow.floor, ROWS),
    "gather": (lambda a, b: flow._C.gather(a, indices(b), axis=1), ROWS, ROW),
    "gather_nd": (lambda a, b: flow.gather_nd(a.reshape(6, 10), indices(b, 10, 1)), ROWS, ROW),
    "gelu": (nn.GELU(), ROWS),
    "group_norm": (nn.GroupNorm(2, 8), PICTURE),
    "hardsigmoid": (nn.Hardsigmoid(), ROWS),
    "hardswish": (nn.Hardswish(), ROWS),
    "hardtanh": (nn.Hardtanh(), ROWS),
    "instance_norm": (nn.InstanceNorm2d(8, affine=True), PICTURE),
    "layer_norm": (nn.LayerNorm(10), ROWS),
    "leaky_relu": (nn.LeakyReLU(0.1), ROWS),
    "log": (lambda a: flow.log(a.abs() + 1), ROWS),
    "log_softmax": (nn.LogSoftmax(dim=-1), ROWS),
    "masked_fill": (lambda a: a.masked_fill(a > 0, 2.0), ROWS),
    "matmul": (lambda a, b: flow.matmul(a, b), (1, 6), (6, 4)),
    "max_pool_2d": (nn.MaxPool2d(3, 2, 1), PICTURE),
    "mean": (lambda a: a.mean(dim=1), ROWS),
    "mish": (nn.Mish(), ROWS),
    "narrow": (lambda a: flow.narrow(a, 1, 2, 3), ROWS),
    "negative": (lambda a: -a, ROWS),
    "normalization": (nn.BatchNorm2d(8), PICTURE),
    "pad": (nn.ConstantPad2d((1, 2, 3, 4), 1.5), PICTURE),
    "pixel_shuffle": (nn.PixelShuffle(2), PICTURE),
    "prelu": (nn.PReLU(8), PICTURE),
    "reciprocal": (lambda a: flow.reciprocal(a.abs() + 1), ROWS),
    "reduce_max": (lambda a: a.amax(dim=1), ROWS),
    "reduce_min": (lambda a: a.amin(dim=1), ROWS),
    "reduce_sum": (lambda a: a.sum(dim=1), ROWS),
    "reflection_pad2d": (nn.ReflectionPad2d(2), PICTURE),
    "relu": (nn.ReLU(), ROWS),
    "relu6": (nn.ReLU6(), ROWS),
    "replication_pad2d": (nn.ReplicationPad2d(2), PICTURE),
    "reshape": (lambda a: a.reshape(1, 10, 6) * 2, ROWS),
    "roll": (lambda a: flow.roll(a, 2, 1), ROWS),
    "round": (flow.round, ROWS),
    "rsqrt": (lambda a: flow.rsqrt(a.abs() + 1), ROWS),
    "scalar_add": (lambda a: a + 1.5, ROWS),
    "scalar_div": (lambda a: 2 / (a.abs() + 1), ROWS),
    "scalar_logical_equal": (lambda a: a.round() == 1, ROWS),
    "scalar_logical_greater": (lambda a: a > 0.5, ROWS),
    "scalar_logical_greater_equal": (lambda a: a >= 0.5, ROWS),
    "scalar_logical_less": (lambda a: a < 0.5, ROWS),
    "scalar_logical_less_equal": (lambda a: a <= 0.5, ROWS),
    "scalar_logical_not_equal": (lambda a: a.round() != 1, ROWS),
    "scalar_mul": (lambda a: a * 1.5, ROWS),
    "scalar_mul_by_tensor": (lambda a, b: a * b, ROWS, (1,)),
    "scalar_pow": (lambda a: a**2.0, ROWS),
    "selu": (nn.SELU(), ROWS),
    "sigmoid": (nn.Sigmoid(), ROWS),
    "sign": (flow.sign, ROWS),
    "silu": (nn.SiLU(), ROWS),
    "sin": (flow.sin, ROWS),
    "slice": (lambda a: a[:, 1:5:2], ROWS),
    "softmax": (nn.Softmax(dim=-1), ROWS),
    "sqrt": (lambda a: flow.sqrt(a.abs()), ROWS),
    "square": (flow.square, ROWS),
    "squeeze": (lambda a: a.squeeze(1), ROW),
    "stack": (lambda a: flow.stack([a, a], dim=1), ROWS),
    "std": (lambda a: a.std(dim=1), ROWS),
    "tanh": (nn.Tanh(), ROWS),
    "transpose": (lambda a: a.transpose(1, 2), ROWS),
    "upsample_bilinear_2d": (nn.Upsample(scale_factor=2, mode="bilinear"), PICTURE),
    "upsample_nearest_2d": (nn.Upsample(scale_factor=2, mode="nearest"), PICTURE),
    "var": (lambda a: a.var(dim=1), ROWS),
    "where": (lambda a, b: flow.where(a > 0, a, b.expand(1, 6, 10)), ROWS, ROW),
}
#: What is run as a graph: an operator that is not among them, one whose second result is read, and
#: one that is in training.
OTHERS = {
    "cumsum": (lambda a: flow.cumsum(a, 1), ROWS),
    "indices": (nn.MaxPool2d(2, return_indices=True), PICTURE),
    "training": (lambda a: functional.batch_norm(a, None, None, training=True), PICTURE),
}


class Function(nn.Module):
    """A module that calls a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *tensors):
        return self.function(*tensors)


def compare(function, shapes, folder):
    """Return the kinds of operators of a graph, and whether both engines agree on it."""
    random = np.random.default_rng(0)
    inputs = [random.standard_normal(shape).astype(np.float32) for shape in shapes]
    module = function if isinstance(function, nn.Module) else Function(function)
    export_version(module.eval(), inputs, folder)
    cores = os.sched_getaffinity(0)
    stay_on({min(cores)})  # where the graph's engine is chosen, and does not crash
    answers = []
    for where in ({min(cores)}, cores):
        stay_on(where)
        with SavedGraph(folder / "model") as graph:
            answers.append(graph(*inputs))
            kinds = {op.user_conf.op_type_name for op in graph._job.net.op} - {""}
            by_one = graph.one_by_one
    equal = all(np.array_equal(a, b) for a, b in zip(*answers, strict=True))
    return {"kinds": sorted(kinds), "one by one": by_one, "equal": equal}


def stay_on(cores):
    """Move all threads of this process to these cores."""
    for thread in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores)


if __name__ == "__main__":
    found = {}
    for name, (function, *shapes) in (CASES | OTHERS).items():
        found[name] = compare(function, shapes, Path(sys.argv[1]) / name / "1")
    answer = {"operators": sorted(OPERATORS), "others": [*OTHERS], "cases": found}
    print(json.dumps(answer), flush=True)
    os._exit(0)
