"""Graphs for one row that mix rows when several run together.

``MIXING`` has, by name, the operator in the way, a module or function, and its inputs.
"""

import numpy as np
import oneflow as flow
from batch_cases import (
    PICTURE,
    ROW,
    SEQUENCE,
    Function,
    attention,
    ids,
    positive,
    tokens,
    training,
)
from oneflow import nn
from oneflow.nn import functional


class NoRunningStatistics(nn.BatchNorm1d):
    """Takes those of the batch, even after eval()."""

    def __init__(self, channels):
        super().__init__(channels, track_running_stats=False)


MIXING = {
    # Along the batch itself.
    "softmax": ("softmax", lambda x: flow.softmax(x, dim=0) * x, ROW),
    "log_softmax": ("log_softmax", lambda x: flow.log_softmax(x, dim=0) + x, ROW),
    "softmax_of_log": (
        "softmax",
        lambda x: functional.softmax(flow.log(x).sum(dim=1, keepdim=True), dim=0) * x,
        positive(1, 6),
    ),
    "cumsum": ("cumsum", lambda x: flow.cumsum(x, 0), ROW),
    "cumprod": ("cumprod", lambda x: flow.cumprod(x, 0), ROW),
    "sort": ("arg_sort", lambda x: flow.sort(x, 0)[0], ROW),
    "argsort": ("arg_sort", lambda x: flow.argsort(x, 0) + x, ROW),
    "topk": ("top_k", lambda x: flow.topk(x, 1, 0)[1] + x, ROW),
    "argmax": ("argmax", lambda x: x.argmax(dim=0, keepdim=True) + x, ROW),
    "flip": ("flip", lambda x: flow.flip(x, [0]), ROW),
    "roll": ("roll", lambda x: flow.roll(x, 1, 0), ROW),
    "roll_takes_-1_for_all": ("roll", lambda x: flow.roll(x, 1, -1), ROW),
    "mean": ("reduce_sum", lambda x: x - x.mean(dim=0, keepdim=True), ROW),
    "max": ("reduce_max", lambda x: x - x.amax(dim=0, keepdim=True), ROW),
    "min": ("reduce_min", lambda x: x - x.amin(dim=0, keepdim=True), ROW),
    "prod": ("reduce_prod", lambda x: x + flow.prod(x, 0, keepdim=True), ROW),
    "any": ("reduce_any", lambda x: x * (x > 0).any(0, keepdim=True), ROW),
    "minibatch_deviation": (
        "var",
        lambda x: flow.cat([x, x.var(dim=0, unbiased=False, keepdim=True)], dim=1),
        ROW,
    ),
    "normalize": ("reduce_sum", lambda x: x / (x * x).sum(dim=0, keepdim=True).sqrt(), ROW),
    "mean_of_all": ("reduce_sum", lambda x: x - x.mean(), ROW),
    "threshold_at_the_mean": (
        "reduce_sum",
        lambda x: flow.where(x > x.mean(dim=0, keepdim=True), x, x * 2),
        ROW,
    ),
    # Statistics of the batch.
    "bn_train": ("normalization", training(lambda b, x: b(x), nn.BatchNorm1d(6)), ROW),
    "bn2d_train": (
        "normalization",
        training(lambda c, b, x: flow.relu(b(c(x))), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)),
        PICTURE,
    ),
    "bn_without_statistics": (
        "normalization",
        Function(lambda b, x: b(x), NoRunningStatistics(6)),
        ROW,
    ),
    "class_id_bn_train": (
        "normalization",
        training(
            lambda e, b, o, i: o(flow.relu(b(e(i).reshape(-1, 16)) + 0.1)),
            nn.Embedding(10, 16),
            nn.BatchNorm1d(16),
            nn.Linear(16, 4),
        ),
        ids(1, 1),
    ),
    "log_bn_train": (
        "normalization",
        training(lambda c, b, x: b(c(flow.log(x))), nn.Conv1d(6, 4, 3), nn.BatchNorm1d(4)),
        positive(1, 6, 20),
    ),
    "masked_logits_bn_train": (
        "normalization",
        training(
            lambda b, o, x, ok: o(b(x)).masked_fill(ok == 0, -1e9),
            nn.BatchNorm1d(6),
            nn.Linear(6, 8),
        ),
        ROW,
        np.ones((1, 8), np.int64),
    ),
    "class_and_noise_bn_train": (
        "normalization",
        training(
            lambda e, b, o, i, z: o(z) + b(e(i).reshape(-1, 16)),
            nn.Embedding(10, 16),
            nn.BatchNorm1d(16),
            nn.Linear(6, 16),
        ),
        ids(1, 1),
        ROW,
    ),
    "dropout": ("dropout", training(lambda d, x: d(x), nn.Dropout(0.5)), ROW),
    "noise": ("normal", lambda x: x + flow.randn(1, 6), ROW),
    # In blocks: (1, T, C) has become (T, C).
    "tokens_softmax": ("softmax", lambda x: flow.softmax(tokens(x), 0).reshape(1, 5, 8), SEQUENCE),
    "tokens_cumsum": ("cumsum", lambda x: flow.cumsum(tokens(x), 0).reshape(1, 5, 8), SEQUENCE),
    "tokens_sort": ("arg_sort", lambda x: flow.sort(tokens(x), 0)[0].reshape(1, 5, 8), SEQUENCE),
    "tokens_flip": ("flip", lambda x: flow.flip(tokens(x), [0]).reshape(1, 5, 8), SEQUENCE),
    "tokens_roll": ("roll", lambda x: flow.roll(tokens(x), 1, 0).reshape(1, 5, 8), SEQUENCE),
    "tokens_mean": (
        "reduce_sum",
        lambda x: (tokens(x) - tokens(x).mean(0, keepdim=True)).reshape(1, 5, 8),
        SEQUENCE,
    ),
    "tokens_attention": (
        "matmul",
        lambda x: attention(tokens(x), tokens(x), tokens(x)).reshape(1, 5, 8),
        SEQUENCE,
    ),
    "tokens_tril": ("tril", lambda x: flow.tril(tokens(x)).reshape(1, 5, 8), SEQUENCE),
    "tokens_layer_norm": (
        "var",
        Function(lambda norm, x: norm(tokens(x)[None]), nn.LayerNorm((5, 8))),
        SEQUENCE,
    ),
    "tokens_max_pool": (
        "max_pool_1d",
        lambda x: (
            functional.max_pool1d(tokens(x).transpose(0, 1)[None], 3, 1, 1)
            .squeeze(0)
            .transpose(0, 1)
            .reshape(1, 5, 8)
        ),
        SEQUENCE,
    ),
    "tokens_conv": (
        "conv1d",
        Function(
            lambda c, x: (
                c(tokens(x).transpose(0, 1)[None]).squeeze(0).transpose(0, 1).reshape(1, 5, 8)
            ),
            nn.Conv1d(8, 8, 3, padding=1),
        ),
        SEQUENCE,
    ),
    "tokens_interpolate": (
        "upsample_bilinear_2d",
        lambda x: functional.interpolate(
            tokens(x)[None, None], scale_factor=2.0, mode="bilinear", align_corners=False
        ).reshape(1, 10, 16),
        SEQUENCE,
    ),
    "tokens_gather": (
        "dim_gather",
        lambda x, i: flow.gather(tokens(x), 0, tokens(i)).reshape(1, 5, 8),
        SEQUENCE,
        ids(1, 5, 8, high=5),
    ),
    # The batch was transposed, or meets itself.
    "transposed_softmax": (
        "softmax",
        lambda x: flow.softmax(x.permute(1, 2, 0), dim=-1).permute(2, 0, 1) * x,
        SEQUENCE,
    ),
    "transposed_sum": (
        "reduce_sum",
        lambda x: x * x.transpose(0, 1).sum(dim=1, keepdim=True).transpose(0, 1),
        SEQUENCE,
    ),
    "transposed_instance_norm": (
        "var",
        Function(
            lambda norm, x: x + norm(x.permute(2, 1, 0)).permute(2, 1, 0), nn.InstanceNorm1d(5)
        ),
        SEQUENCE,
    ),
    "gram_matrix": ("matmul", lambda x: flow.matmul(x, flow.matmul(x.t(), x)), ROW),
    "einsum_over_the_batch": (
        "squeeze",
        lambda x: flow.matmul(x, flow.einsum("bi,bj->ij", x, x)),
        ROW,
    ),
    "attention_between_rows": ("matmul", lambda x: attention(x, x, x) + x, ROW),
    "equal_ids": (
        "broadcast_equal",
        lambda i: (i == i.t()).sum(dim=1, keepdim=True) + i,
        ids(1, 1),
    ),
    "first_row_by_number": (
        "gather",
        lambda x: flow.index_select(x, 0, flow.zeros(1, dtype=flow.int64)) + x,
        ROW,
    ),
    "row_as_table": ("gather", lambda i, x: functional.embedding(i, x), ids(1, 1, high=1), ROW),
    "scatter_along_the_batch": (
        "dim_scatter_add",
        lambda x, i: flow.scatter_add(x, 0, i, x),
        ROW,
        ids(1, 6, high=1),
    ),
    "int32_sum": (
        "add_n",
        lambda a, b: a + b,
        ids(1, 33, high=2**31, dtype=np.int32),
        ids(1, 33, high=2**31, dtype=np.int32),
    ),
}
