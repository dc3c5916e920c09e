"""What the graphs of ``batch_mixing``, ``batch_independent`` and ``batch_operators`` share.

Each has a module or function and its inputs, by name: arrays for one row.
"""

import numpy as np
import oneflow as flow
from oneflow import nn

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


def tokens(x):
    """(1, T, C) to (T, C): from here on every row has a block of T."""
    return x.reshape(-1, x.shape[-1])


def attention(q, k, v, mask=None):
    scores = flow.matmul(q, k.transpose(-1, -2)) / q.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(mask, -1e9)
    return flow.matmul(flow.softmax(scores, dim=-1), v)


ROW, SEQUENCE, PICTURE = floats(1, 6), floats(1, 5, 8), floats(1, 4, 8, 8)
