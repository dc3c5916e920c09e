"""Operators with a rule for a batch that the other graphs have not, each in a small case.

``OPERATORS`` has, by name, a module or function and its inputs, each an array for one row; none
mixes rows.
"""

import numpy as np
import oneflow as flow
from batch_cases import PICTURE, ROW, SEQUENCE, Function, constant, floats, ids, indices, positive
from oneflow import _C, nn
from oneflow.nn import functional

OTHER, LINE, CUBE = floats(1, 6), floats(1, 4, 12), floats(1, 2, 6, 6, 6)
SMALL = np.random.default_rng(1).uniform(-0.9, 0.9, (1, 6)).astype(np.float32)
INTEGERS = ids(1, 6, high=2**40)

_SMALL = """
acos asin asinh atan atanh ceil cos cosh erf erfc erfinv exp expm1 floor gelu log1p mish negative
reciprocal relu round selu sigmoid sign silu sin sinh square tan tanh
"""
_LAYERS = """
CELU ELU Hardshrink Hardsigmoid Hardswish Hardtanh LeakyReLU LogSigmoid QuickGELU Softshrink
Softsign
"""


def interpolated(*modes):
    """Changes of size by all these modes, one after the other in one result."""

    def function(x):
        sizes = [functional.interpolate(x, scale_factor=2.0, mode=mode) for mode in modes]
        return flow.cat(sizes, dim=1)

    return function


OPERATORS = {
    # One input.
    **{name: (getattr(flow, name), SMALL) for name in _SMALL.split()},
    **{name: (getattr(flow, name), positive(1, 6)) for name in ("log2", "rsqrt", "sqrt")},
    **{name: (getattr(nn, name)(), ROW) for name in _LAYERS.split()},
    "acosh": (lambda x: flow.acosh(x + 1), positive(1, 6)),
    "threshold": (nn.Threshold(0.1, 2.0), ROW),
    "clip": (lambda x: x.clamp(-0.5, 0.5) + x.clamp(min=0) + x.clamp(max=1), ROW),
    "likes": (lambda x: flow.ones_like(x) + flow.zeros_like(x) - x, ROW),
    "isnan": (flow.isnan, ROW),
    "isinf": (flow.isinf, ROW),
    "isfinite": (flow.isfinite, ROW),
    "not": (lambda x: flow.logical_not(x > 0), ROW),
    "identity": (_C.identity, ROW),
    "amp_identity": (lambda x: _C.amp_white_identity(_C.amp_black_identity(x)), ROW),
    "scalars": (lambda x: flow.fmod(x, 2.5) + x**3 + (1 - x), ROW),
    "scalar_logic": (lambda x: flow.cat([x > 0, x >= 0, x < 0, x <= 0, x == 0, x != 0], 1), ROW),
    "where_scalars": (
        lambda x: flow.where(x > 0, x, 1.0) + flow.where(x > 0, 2.0, x),
        ROW,
    ),
    # Two inputs.
    "pairs": (
        lambda a, b: flow.atan2(a, b) + flow.maximum(a, b) * flow.minimum(a, b) - a / b
        + flow.fmod(a, b) + flow.pow(b.abs(), a),
        ROW, OTHER,
    ),
    "pairs_of_integers": (lambda a, b: (a % (b + 1)) * (a // (b + 1)) - b, INTEGERS, INTEGERS),
    "compared": (
        lambda a, b: flow.cat([a > b, a >= b, a < b, a <= b, a == b, a != b], 1),
        ROW, OTHER,
    ),
    "logic": (
        lambda a, b: flow.cat([f(a > 0, b > 0) for f in (
            flow.logical_and, flow.logical_or, flow.logical_xor
        )], 1),
        ROW, OTHER,
    ),
    "stretched": (
        Function(
            lambda c, a, b: flow.maximum(a, c.value) * b[:, :1] + flow.minimum(a, c.value)
            + flow.pow(a.abs(), b[:, :1].abs()) + flow.fmod(a, c.value) - a / c.value,
            constant(2, 1, 6),
        ),
        floats(1, 2, 1, 6), floats(1, 2, 1, 6),
    ),
    "bce": (
        lambda a, b: nn.BCELoss(reduction="none")(flow.sigmoid(a), flow.sigmoid(b)), ROW, OTHER
    ),
    "bce_logits": (
        lambda a, b: nn.BCEWithLogitsLoss(reduction="none")(a, flow.sigmoid(b)), ROW, OTHER
    ),
    "kl": (nn.KLDivLoss(reduction="none"), ROW, OTHER),
    "smooth_l1": (nn.SmoothL1Loss(reduction="none"), ROW, OTHER),
    "nll": (
        lambda x, i: nn.NLLLoss(reduction="none")(x, i.reshape(-1)).reshape(-1, 1),
        ROW, ids(1, 1, high=6),
    ),
    "cross_entropy": (
        lambda x, i: nn.CrossEntropyLoss(reduction="none")(x, i.reshape(-1)).reshape(-1, 1),
        ROW, ids(1, 1, high=6),
    ),
    # Along some dimensions.
    "amax": (lambda x: x.amax(1), SEQUENCE),
    "amin": (lambda x: x.amin(1), SEQUENCE),
    "prod": (lambda x: flow.prod(x, 1), SEQUENCE),
    "any": (lambda x: (x > 0).any(1), SEQUENCE),
    "all": (lambda x: (x > 0).all(1), SEQUENCE),
    "cumprod": (lambda x: flow.cumprod(x, 1), ROW),
    "median": (lambda x: flow.median(x, dim=1)[0], SEQUENCE),
    "triangles": (lambda x: flow.tril(x) + flow.triu(x), SEQUENCE),
    "diagonal": (lambda x: flow.diagonal(x, 0, 1, 2), SEQUENCE),
    "cross": (lambda x, y: flow.linalg.cross(x, y, dim=1), floats(1, 3, 2), floats(1, 3, 2)),
    "normalized": (lambda x: functional.normalize(x, dim=1), ROW),
    "searchsorted": (
        lambda x, y: flow.searchsorted(flow.cumsum(x.abs(), 1), y.abs()), ROW, floats(1, 3)
    ),
    "searchsorted_of_one": (
        Function(lambda c, y: flow.searchsorted(c.value, y.abs()), indices(1.0, 2.0, 3.0)), ROW
    ),
    # Pictures.
    **{
        f"{name}{d}": (getattr(nn, f"{name}{d}d")(2), x)
        for name in ("AdaptiveAvgPool", "AdaptiveMaxPool", "AvgPool", "MaxPool")
        for d, x in ((1, LINE), (2, PICTURE), (3, CUBE))
    },
    "conv3d": (nn.Conv3d(2, 3, 3), CUBE),
    "deconv1d": (nn.ConvTranspose1d(4, 3, 2), LINE),
    "deconv3d": (nn.ConvTranspose3d(2, 3, 2), CUBE),
    "replication_pad": (nn.ReplicationPad2d(1), PICTURE),
    "replication_pad1d": (nn.ReplicationPad1d(1), LINE),
    "reflection_pad1d": (nn.ReflectionPad1d(1), LINE),
    "fold": (lambda x: nn.Fold((8, 8), 2, stride=2)(nn.Unfold(2, stride=2)(x)), PICTURE),
    "sizes": (interpolated("nearest", "bilinear", "bicubic"), PICTURE),
    "sizes_of_lines": (interpolated("nearest", "linear"), LINE),
    "sizes_of_cubes": (interpolated("nearest", "trilinear"), CUBE),
    "grid": (
        lambda x, theta: functional.grid_sample(
            x, functional.affine_grid(theta, (1, 4, 8, 8), align_corners=False),
            align_corners=False,
        ),
        PICTURE, floats(1, 2, 3),
    ),
    # Indices and shapes.
    "scatter": (lambda x, i: flow.scatter(x, 1, i, x), ROW, ids(1, 6, high=6)),
    "scatter_scalar": (lambda x, i: flow.scatter(x, 1, i, 2.0), ROW, ids(1, 6, high=6)),
    "batch_gather": (_C.batch_gather, SEQUENCE, ids(1, 2, high=5)),
    "embedding": (
        Function(
            lambda e, i: functional.embedding(i, e.weight, padding_idx=0), nn.Embedding(10, 4)
        ),
        ids(1, 3),
    ),
    "unfold_tensor": (lambda x: x.unfold(1, 2, 1), SEQUENCE),
    "squeezed": (lambda x: x.unsqueeze(1).squeeze(1), ROW),
    "vector": (
        Function(lambda v, x: flow.matmul(x, v.value).unsqueeze(1), constant(6)), ROW
    ),
    "fused_linear": (
        Function(lambda o, x: _C.fused_matmul_bias(x, o.weight, o.bias), nn.Linear(8, 3)),
        SEQUENCE,
    ),
}  # fmt: skip
