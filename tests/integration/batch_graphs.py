"""Graphs for one row: some mix rows when several run together, others only look as if they did.

``MIXING`` and ``INDEPENDENT`` have, by name, a module or function and its inputs, each an array for
one row. ``rows(array, n)`` makes n different ones of it.
"""

import numpy as np
import oneflow as flow
from oneflow import nn
from oneflow.nn import functional

_random = np.random.default_rng(0)


def floats(*shape):
    return _random.normal(size=shape).astype(np.float32)


def positive(*shape):
    return _random.uniform(0.1, 9, shape).astype(np.float32)


def ids(*shape, high=10, dtype=np.int64):
    return _random.integers(0, high, shape).astype(dtype)


def rows(array, n):
    """Return n rows like one: its values in other orders, so that ids stay ids."""
    random = np.random.default_rng(n)
    return np.concatenate([array, *(random.permuted(array, axis=None) for _ in range(n - 1))])


class Function(nn.Module):
    """A function with layers, which it gets before its inputs."""

    def __init__(self, function, *layers):
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(layers)
        self.eval()

    def forward(self, *inputs):
        return self.function(*self.layers, *inputs)


class Several(nn.Module):
    """The results of several modules or functions, which have so many inputs each."""

    def __init__(self, functions, counts):
        super().__init__()
        self.parts = nn.ModuleList(
            [f if isinstance(f, nn.Module) else Function(f) for f in functions]
        )
        self.counts = counts

    def forward(self, *inputs):
        results = []
        for part, count in zip(self.parts, self.counts, strict=True):
            results.append(part(*inputs[:count]))
            inputs = inputs[count:]
        return tuple(results)


def training(function, *layers):
    """Forgets to call eval()."""
    return Function(function, *layers).train()


def constant(*shape):
    """A layer with a parameter of this shape."""
    layer = nn.Module()
    layer.value = nn.Parameter(flow.tensor(floats(*shape)))
    return layer


def indices(*values):
    """A layer with a buffer of these."""
    layer = nn.Module()
    layer.register_buffer("value", flow.tensor(values))
    return layer


class NoRunningStatistics(nn.BatchNorm1d):
    """Takes those of the batch, even after eval()."""

    def __init__(self, channels):
        super().__init__(channels, track_running_stats=False)


def tokens(x):
    """(1, T, C) to (T, C): from here on every row has a block of T."""
    return x.reshape(-1, x.shape[-1])


def attention(q, k, v, mask=None):
    scores = flow.matmul(q, k.transpose(-1, -2)) / q.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(mask, -1e9)
    return flow.matmul(flow.softmax(scores, dim=-1), v)


ROW, SEQUENCE, PICTURE = floats(1, 6), floats(1, 5, 8), floats(1, 4, 8, 8)

#: The operator in the way, a module or function, and its inputs.
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


#: A module or function, and its inputs.
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
