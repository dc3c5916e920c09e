"""Graphs for one row that look as if they mixed rows, and do not.

``INDEPENDENT`` has, by name, a module or function and its inputs.
"""

import numpy as np
import oneflow as flow
from batch_cases import (
    PICTURE,
    ROW,
    SEQUENCE,
    Function,
    attention,
    constant,
    floats,
    ids,
    indices,
    tokens,
)
from oneflow import nn
from oneflow.nn import functional


def gru(weights, x):
    """A GRU over the time steps of (1, T, C), unrolled."""
    h = flow.zeros(x.shape[0], 8)
    for t in range(x.shape[1]):
        gates = weights(flow.cat([x[:, t], h], dim=1))
        update, reset, new = gates.chunk(3, dim=1)
        update, reset = flow.sigmoid(update), flow.sigmoid(reset)
        h = update * h + (1 - update) * flow.tanh(new * reset)
    return h


def lstm(weights, x):
    """An LSTM over the time steps of (1, T, C), unrolled; gives every step."""
    h = c = flow.zeros(x.shape[0], 8)
    steps = []
    for t in range(x.shape[1]):
        i, f, g, o = weights(flow.cat([x[:, t], h], dim=1)).chunk(4, dim=1)
        c = flow.sigmoid(f) * c + flow.sigmoid(i) * flow.tanh(g)
        h = flow.sigmoid(o) * flow.tanh(c)
        steps.append(h)
    return flow.stack(steps, dim=1)


def class_token(token, place, qkv, x):
    token = token.value.expand(x.shape[0], -1, -1)
    x = flow.cat([token, x], dim=1) + place.value
    q, k, v = (qkv(x).reshape(1, 6, 3, 2, 4).permute(2, 0, 3, 1, 4)[i] for i in range(3))
    return attention(q, k, v).transpose(1, 2).reshape(1, 6, 8)[:, 0]


def windows(x):
    """Swin's shifted windows of (1, 4, 8, 8), attention in each, and back."""
    x = flow.roll(x, shifts=(-2, -2), dims=(2, 3))
    x = x.reshape(1, 4, 2, 4, 2, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, 4)
    x = attention(x, x, x)
    return x.reshape(1, 2, 2, 4, 4, 4).permute(0, 5, 1, 3, 2, 4).reshape(1, 4, 8, 8)


def squeeze_and_excite(down, up, x):
    weights = flow.sigmoid(up(flow.relu(down(x.mean(dim=(2, 3), keepdim=True)))))
    return x * weights


def part_of_channels(x):
    y = x * 2
    y[:, 0:2] += x[:, 1:3]
    return y


INDEPENDENT = {
    "softmax_of_features": (lambda x: flow.softmax(x, dim=1), ROW),
    "log_softmax_of_channels": (lambda x: flow.log_softmax(x, dim=1), PICTURE),
    "cumsum_along_time": (lambda x: flow.cumsum(x, 1), SEQUENCE),
    "cumsum_of_tokens": (lambda x: flow.cumsum(tokens(x), 1).reshape(1, 5, 8), SEQUENCE),
    "sort_of_features": (lambda x: flow.sort(x, 1)[0], ROW),
    "argsort_of_features": (lambda x: flow.argsort(x, 1), ROW),
    "topk_of_features": (lambda x: flow.topk(x, 2, 1)[1], ROW),
    "argmax_as_id": (
        Function(lambda e, x: e(x.argmax(dim=1, keepdim=True)), nn.Embedding(6, 4)),
        ROW,
    ),
    "flip_of_features": (lambda x: flow.flip(x, [1]), ROW),
    "roll_along_time": (lambda x: flow.roll(x, 2, 1), SEQUENCE),
    "bn": (Function(lambda b, x: b(x), nn.BatchNorm1d(6)), ROW),
    "bn2d": (Function(lambda b, x: b(x), nn.BatchNorm2d(4)), PICTURE),
    "bn_of_tokens": (
        Function(lambda b, x: b(tokens(x)).reshape(1, 5, 8), nn.BatchNorm1d(8)),
        SEQUENCE,
    ),
    "layer_norm": (Function(lambda norm, x: norm(x), nn.LayerNorm(8)), SEQUENCE),
    "layer_norm_of_tokens": (
        Function(lambda norm, x: norm(tokens(x)).reshape(1, 5, 8), nn.LayerNorm(8)),
        SEQUENCE,
    ),
    "group_norm": (Function(lambda norm, x: norm(x), nn.GroupNorm(2, 4)), PICTURE),
    "instance_norm": (Function(lambda norm, x: norm(x), nn.InstanceNorm2d(4)), PICTURE),
    "deviation_of_each_row": (
        lambda x: (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True) + 1).sqrt(),
        ROW,
    ),
    # A tensor of one element is a scalar for OneFlow, as a number a row is in a batch of 1.
    "scaled_by_label": (lambda x, scale: x * scale, ROW, floats(1, 1)),
    "unit_length": (lambda x: x / x.norm(dim=1, keepdim=True), ROW),
    "embedding": (Function(lambda e, i: e(i), nn.Embedding(10, 4)), ids(1, 7)),
    "position_table": (
        Function(
            lambda e, p, i: (tokens(e(i)) + p.value).reshape(1, 7, 4),
            nn.Embedding(10, 4),
            constant(7, 4),
        ),
        ids(1, 7),
    ),
    "class_token": (
        Function(class_token, constant(1, 1, 8), constant(1, 6, 8), nn.Linear(8, 24)),
        SEQUENCE,
    ),
    "causal_attention": (
        lambda x: attention(x, x, x, flow.triu(flow.ones(5, 5), 1).to(flow.bool)[None]),
        SEQUENCE,
    ),
    "masked_attention": (
        lambda x, words: attention(x, x, x, (words == 0).unsqueeze(1).expand(-1, 5, -1)),
        SEQUENCE,
        ids(1, 5),
    ),
    "gru": (Function(gru, nn.Linear(16, 24)), SEQUENCE),
    "lstm": (Function(lstm, nn.Linear(16, 32)), SEQUENCE),
    "einsum": (lambda x: flow.einsum("bij->bji", x), SEQUENCE),
    "einsum_outer_product": (lambda a, b: flow.einsum("bi,bj->bij", a, b), ROW, floats(1, 3)),
    "products_of_two": (flow.matmul, SEQUENCE, floats(1, 8, 3)),
    "products_of_heads": (
        lambda a, b: flow.matmul(a, b.transpose(-1, -2)),
        floats(1, 2, 5, 4),
        floats(1, 2, 5, 4),
    ),
    "table_by_rows": (
        Function(lambda w, x: flow.matmul(w.value, x), constant(1, 3, 5)),
        SEQUENCE,
    ),
    "transposed_and_back": (
        Function(lambda o, x: o(x.transpose(0, 1)).transpose(0, 1), nn.Linear(8, 3)),
        SEQUENCE,
    ),
    "softmax_transposed_and_back": (
        lambda x: flow.softmax(x.permute(1, 0, 2), dim=0).permute(1, 0, 2),
        SEQUENCE,
    ),
    "tokens_and_back": (
        Function(lambda o, x: o(tokens(x)).reshape(1, 5, 3), nn.Linear(8, 3)),
        SEQUENCE,
    ),
    "batch_as_columns": (
        Function(lambda w, x: flow.matmul(w.value, x.t()).t(), constant(3, 6)),
        ROW,
    ),
    "outer_product": (lambda x: x.unsqueeze(2) * x.unsqueeze(1), ROW),
    "cosine_of_two": (
        lambda a, b: (a * b).sum(1, keepdim=True) / (a.norm(dim=1, keepdim=True) + 1),
        ROW,
        floats(1, 6),
    ),
    "pixel_shuffle": (nn.PixelShuffle(2), PICTURE),
    "channel_shuffle": (
        lambda x: x.reshape(1, 2, 2, 8, 8).transpose(1, 2).reshape(1, 4, 8, 8),
        PICTURE,
    ),
    "windows": (windows, PICTURE),
    "interpolate": (nn.Upsample(scale_factor=2.0, mode="bilinear"), PICTURE),
    "interpolate_nearest": (nn.Upsample(scale_factor=2.0, mode="nearest"), PICTURE),
    "max_pool": (nn.MaxPool2d(2), PICTURE),
    "adaptive_avg_pool": (nn.AdaptiveAvgPool2d(2), PICTURE),
    "convolutions": (
        Function(
            lambda a, b, c, x: c(b(a(x))),
            nn.Conv2d(4, 8, 3),
            nn.Conv2d(8, 8, 3, groups=8),
            nn.ConvTranspose2d(8, 2, 2, 2),
        ),
        PICTURE,
    ),
    "conv_along_time": (
        Function(lambda c, x: c(x.transpose(1, 2)), nn.Conv1d(8, 3, 3)),
        SEQUENCE,
    ),
    "unfold": (nn.Unfold(3), PICTURE),
    "reflection_pad": (nn.ReflectionPad2d(2), PICTURE),
    "constant_pad": (nn.ConstantPad2d((1, 2, 3, 4), 1.5), PICTURE),
    "squeeze_and_excite": (
        Function(squeeze_and_excite, nn.Conv2d(4, 2, 1), nn.Conv2d(2, 4, 1)),
        PICTURE,
    ),
    "prelu": (nn.PReLU(4), PICTURE),
    "gather_features": (lambda x, i: flow.gather(x, 1, i), ROW, ids(1, 3, high=6)),
    "chosen_features": (Function(lambda i, x: x[:, i.value], indices(4, 0, 2)), ROW),
    "index_select": (
        Function(lambda i, x: flow.index_select(x, 2, i.value), indices(3, 1)),
        SEQUENCE,
    ),
    "scatter_features": (lambda x, i: flow.scatter_add(x, 1, i, x), ROW, ids(1, 6, high=6)),
    "one_hot": (lambda i: functional.one_hot(i, 10).to(flow.float32) * 2, ids(1, 3)),
    "where": (lambda a, b: flow.where(a > 0, a, b), ROW, floats(1, 6)),
    "part_of_channels": (part_of_channels, PICTURE),
    "stack_and_split": (
        lambda x: flow.cat(flow.stack([x, x * 2], dim=1).chunk(2, dim=2), dim=1),
        ROW,
    ),
    "repeated": (lambda x: x.unsqueeze(1).repeat(1, 3, 1), ROW),
    "logsumexp": (lambda x: flow.log(flow.exp(x).sum(dim=1, keepdim=True)), ROW),
    "integers": (lambda a, b: (a * 3 - b) // 2 + a * b, ids(1, 9, high=2**62), ids(1, 9)),
    "doubles": (lambda x: flow.softmax(x, 1) * x, floats(1, 6).astype(np.float64)),
}
