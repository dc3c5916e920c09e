"""Layers for OneFlow 0.9.0 on a CPU: convolution and instance norm as gathers and matmuls.

An activation is kept as rows, float32 (B, rows, values): a row holds the channels of one pixel, or
of a small block of pixels one after the other. Where a pixel lies is decided here, in NumPy, when
a module is built, so reflection padding, upsampling and every change of order cost nothing at run
time. ``make bench`` compares the whole network with the textbook's.
"""

from dataclasses import dataclass

import numpy as np
import oneflow as flow
from oneflow import nn

EPSILON = 1e-5


@dataclass(frozen=True)
class Step:
    """One convolution and the instance norm after it.

    ``block`` is how many pixels (high, wide) one row of the answer holds; the source is enlarged
    by ``upsample`` (nearest neighbour) before the convolution, as if it had been written out.
    """

    kernel: int
    stride: int = 1
    upsample: int = 1
    block: tuple[int, int] = (1, 1)

    @property
    def pixels(self) -> int:
        """Pixels of a block."""
        return self.block[0] * self.block[1]


def reflect(positions: np.ndarray, size: int) -> np.ndarray:
    """Return where reflection padding takes its values from: -1 is 1, ``size`` is ``size - 2``."""
    positions = np.abs(positions)
    return np.where(positions >= size, 2 * (size - 1) - positions, positions)


def window(step: Step, block: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what a block of so many pixels reads, along one axis.

    Returns:
        For every position of the enlarged source that the block covers, its place among the
        distinct source pixels; and one position of the enlarged source for each of these.
    """
    positions = np.arange((block - 1) * step.stride + step.kernel) - step.kernel // 2
    distinct, first = np.unique(positions // step.upsample, return_index=True)
    return positions // step.upsample - distinct[0], positions[first]


def sources(step: Step, size: int, block: int) -> np.ndarray:
    """Return the source pixels that each block reads, along one axis.

    Args:
        step: the convolution.
        size: pixels of the source along this axis.
        block: pixels of a block along this axis.

    Returns:
        int (blocks, window).
    """
    enlarged = size * step.upsample
    corners = np.arange(0, enlarged // step.stride, block)[:, None] * step.stride
    return reflect(corners + window(step, block)[1], enlarged) // step.upsample


def window_places(step: Step, places: np.ndarray) -> np.ndarray:
    """Return the rows that each block reads.

    Args:
        step: the convolution.
        places: int (height, width), which row holds each pixel of the source.

    Returns:
        int (blocks, window height * window width).
    """
    rows, columns = (
        sources(step, size, block) for size, block in zip(places.shape, step.block, strict=True)
    )
    found = places[rows[:, None, :, None], columns[None, :, None, :]]
    return found.reshape(len(rows) * len(columns), -1)


def block_matrix(weight: np.ndarray, step: Step) -> np.ndarray:
    """Return the matrix that turns the window of a block into the block.

    Pixels beside each other share most of their windows, so a block's window is much smaller than
    the sum of theirs; where a pixel does not look, the matrix holds zeros. With upsampling, the
    weights that fall on the same source pixel are added up.

    Args:
        weight: float32 (out, in, kernel, kernel).
        step: the convolution.

    Returns:
        float32 (window height * window width * in, pixels * out).
    """
    out, channels, kernel, _ = weight.shape
    (rows, row_window), (columns, column_window) = (window(step, side) for side in step.block)
    matrix = np.zeros((len(row_window), len(column_window), channels, *step.block, out), np.float32)
    for y, x, i, j in np.ndindex(*step.block, kernel, kernel):
        row, column = rows[y * step.stride + i], columns[x * step.stride + j]
        matrix[row, column, :, y, x] += weight[:, :, i, j].T
    return matrix.reshape(-1, step.pixels * out)


def block_places(step: Step, size: tuple[int, int]) -> np.ndarray:
    """Return which row, counted in pixels, holds each pixel of an answer of this size.

    Returns:
        int (height, width).
    """
    high, wide = step.block
    y, x = np.mgrid[0 : size[0], 0 : size[1]]
    block = (y // high) * (size[1] // wide) + x // wide
    return block * step.pixels + (y % high) * wide + x % wide


def buffer(array: np.ndarray, dtype: type = np.float32) -> flow.Tensor:
    """Return a tensor to register as a buffer: tensors made in ``build()`` are not saved."""
    return flow.tensor(np.ascontiguousarray(array, dtype))


class Gather(nn.Module):
    """Copies rows to where an index wants them.

    A permutation, a padding or a crop of OneFlow 0.9.0 takes about ten times as long.
    """

    def __init__(self, index: np.ndarray):
        super().__init__()
        self.register_buffer("index", buffer(index, np.int32))

    def forward(self, rows: flow.Tensor) -> flow.Tensor:
        """Map (B, rows, ...) to (B, *index.shape, ...)."""
        return flow._C.gather(rows, self.index, axis=1)


class Convolution(nn.Module):
    """A convolution as one gather, which collects the windows, and one large matmul.

    ``nn.Conv2d`` spends 2 to 5 ns on every element of the windows; a gather copies a pixel's
    channels, 128 bytes, in 7 ns.
    """

    def __init__(self, index: np.ndarray, matrix: np.ndarray):
        """Take the rows that each block reads, int (blocks, window), and its ``block_matrix``."""
        super().__init__()
        self.collect = Gather(index.reshape(-1))
        self.shape = len(index), len(matrix)
        self.register_buffer("matrix", buffer(matrix))

    def forward(self, rows: flow.Tensor) -> flow.Tensor:
        """Map (B, rows, channels) to (B, blocks, pixels * out)."""
        windows = self.collect(rows)
        return flow.matmul(windows.reshape(rows.shape[0], *self.shape), self.matrix)


class Layer(nn.Module):
    """A convolution and an instance norm; subclasses say what comes after the norm.

    In the textbook's shape a norm of 32 channels of 256 x 256 pixels takes some 500 ms with
    ``nn.InstanceNorm2d``, because OneFlow 0.9.0 is slow at its broadcasts. On rows the mean is a
    matmul with a row of ones, and the same arithmetic takes a few ms.

    Args:
        index: int (blocks, window), the rows that each block reads.
        matrix: see ``block_matrix``.
        block: pixels of a block, (high, wide).
        gamma: float32 (styles, channels), the scale of the norm.
        beta: float32 (styles, channels), its shift. A relu of the norm stops at 0, which is the
            negative of the shift as long as the shift is not added: the ``floor``.
    """

    def __init__(self, index, matrix, block: tuple[int, int], gamma: np.ndarray, beta: np.ndarray):
        super().__init__()
        order = self.order(block, gamma.shape[1])
        self.convolution = Convolution(index, matrix[:, order])
        self.block, self.pixels = block, block[0] * block[1]
        channel = order % gamma.shape[1]
        shares = np.full((1, len(index)), 1 / len(index) / self.pixels)
        self.register_buffer("shares", buffer(shares))
        # Adds up the pixels of a block, and gives every one of them the sum.
        self.register_buffer("spread", buffer(channel[:, None] == channel))
        self.register_buffer("gamma", buffer(gamma[:, channel]))
        self.register_buffer("floor", buffer(-beta[:, channel]))

    def order(self, block: tuple[int, int], channels: int) -> np.ndarray:
        """Return how the values of a block follow each other: pixel by pixel, as in the matrix."""
        return np.arange(block[0] * block[1] * channels)

    def forward(
        self, rows: flow.Tensor, style: flow.Tensor | None, window: flow.Tensor | None = None
    ) -> flow.Tensor:
        """Compute the layer.

        Args:
            rows: (B, rows, channels).
            style: (B, 1, styles), the weight of each style; None where there is one.
            window: (B, 1, values of a window), the mean of all windows, where it is known.

        Returns:
            (B, blocks * pixels, channels), a row for each pixel; but see ``PaintLayer``.
        """
        rows = self.convolution(rows)
        mean = self._mean(rows) if window is None else self._mean_of(window)
        # Two passes: a plain picture has no variance that would survive one.
        rows = rows - mean
        scale = flow.rsqrt(self._mean(rows * rows) + EPSILON) * self._of(self.gamma, style)
        rows = self.finish(rows * scale, self._of(self.floor, style))
        # Even where nothing changes, a reshape copies in a graph: OneFlow 0.9.0 has no views.
        if self.pixels == 1:
            return rows
        batch, blocks, values = rows.shape
        return rows.reshape(batch, blocks * self.pixels, values // self.pixels)

    def _mean(self, rows: flow.Tensor) -> flow.Tensor:
        return flow.matmul(flow.matmul(self.shares, rows), self.spread)

    def _mean_of(self, window: flow.Tensor) -> flow.Tensor:
        """Return what the convolution makes of the mean window: the mean of what it makes of all.

        For the first layer, whose answer is ten times as large as the picture, that made the whole
        network 3 % faster on an Ice Lake.
        """
        means = flow.matmul(window, self.convolution.matrix)
        return flow.matmul(means, self.spread) / self.pixels

    def _of(self, table: flow.Tensor, style: flow.Tensor | None) -> flow.Tensor:
        """Return the table's one row, or for each image of the batch the blend that it asks for."""
        return table if style is None else flow.matmul(style, table)


class ReluLayer(Layer):
    """A layer that ends with the relu of its norm, less what that makes of a plain picture.

    A constant that is missing in a whole channel goes unnoticed: a convolution with reflection
    padding makes another constant of it, and the next instance norm subtracts that. So a plain
    picture is exactly 0 everywhere. As any other constant it would not stay plain: sums of the
    same numbers in another order differ in the last digit, and norms enlarge that 300 times each.
    """

    def finish(self, rows, floor):
        """Map (B, blocks, values) to the same."""
        return flow.maximum(rows, floor) - flow.relu(floor)


class LinearLayer(Layer):
    """A layer without relu, the second of a residual, less its shift as in ``ReluLayer``."""

    def finish(self, rows, floor):
        """Map (B, blocks, values) to the same."""
        return rows


class PaintLayer(Layer):
    """The last layer: its norm, and colours from 0 to 255.

    Each line of a block is given channel by channel, as planes hold it.
    """

    def order(self, block, channels):
        """Return how the values of a block follow each other: line, channel, column."""
        values = super().order(block, channels).reshape(*block, channels)
        return values.swapaxes(1, 2).reshape(-1)

    def finish(self, rows, floor):
        """Map (B, blocks, values) to the same."""
        return flow.sigmoid(rows - floor) * 255
