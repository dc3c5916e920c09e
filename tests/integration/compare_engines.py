"""Run every operator that may be run one by one in both of OneFlow's engines.

``compare_engines.py FOLDER`` prints a line of JSON: the kinds of the operators in one graph of all
cases below, the names of the cases for which the engines differ in a bit, and whether each of
``OTHERS`` is run one by one.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
import oneflow as flow
from export_graphs import save_graph
from oneflow import nn
from oneflow.nn import functional

from oneflow_backend.graph_folder import read_graph_folder
from oneflow_backend.job import read_job
from oneflow_backend.saved_graph import SavedGraph


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


class All(nn.Module):
    """The results of all cases. Cases share inputs: those of one shape, in their order.

    Args:
        cases: as ``CASES`` and ``OTHERS`` have them.
    """

    def __init__(self, cases):
        super().__init__()
        functions = [function for function, *_ in cases]
        self.cases = nn.ModuleList(
            [f if isinstance(f, nn.Module) else Function(f) for f in functions]
        )
        #: A shape, and a number among the inputs of that shape, for each input of each case.
        wanted = [
            [(shape, shapes[:i].count(shape)) for i, shape in enumerate(shapes)]
            for _, *shapes in cases
        ]
        self.inputs = sorted({each for inputs in wanted for each in inputs})
        self.places = [[self.inputs.index(each) for each in inputs] for inputs in wanted]

    def forward(self, *inputs):
        return tuple(
            case(*(inputs[place] for place in places))
            for case, places in zip(self.cases, self.places, strict=True)
        )


def save(cases, folder):
    """Save a graph of some cases, without a run; return values for its inputs."""
    module = All(cases).eval()
    random = np.random.default_rng(0)
    inputs = [random.standard_normal(shape).astype(np.float32) for shape, _ in module.inputs]
    save_graph(module, inputs, folder)
    return inputs


def run(folder, inputs, cores):
    """Return what a saved graph gives on these cores, and whether it was run one by one."""
    stay_on(cores)
    with SavedGraph(folder) as graph:
        return graph(*inputs), graph.one_by_one


def stay_on(cores):
    """Move all threads of this process to these cores."""
    for thread in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores)


def main(folder):
    cores = os.sched_getaffinity(0)
    one = {min(cores)}  # where the graph's engine is chosen, and does not crash
    stay_on(one)
    inputs = save(CASES.values(), folder / "all")
    as_graph, was_by_one = run(folder / "all", inputs, one)
    by_one, is_by_one = run(folder / "all", inputs, cores)
    assert (was_by_one, is_by_one) == (False, True)
    others = {}
    for name, case in OTHERS.items():
        save([case], folder / name)
        with SavedGraph(folder / name) as graph:
            others[name] = graph.one_by_one
    ops = read_job(read_graph_folder(folder / "all")).net.op
    found = {
        "kinds": sorted({op.user_conf.op_type_name for op in ops}),
        "differ": [
            name
            for name, a, b in zip(CASES, as_graph, by_one, strict=True)
            if not np.array_equal(a, b)
        ],
        "others": others,
    }
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    os._exit(0)
