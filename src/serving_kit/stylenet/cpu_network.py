"""StyleNet laid out for speed with OneFlow 0.9.0 on a CPU: the same weights, the same results.

``network.py`` is the network to read; this one computes the same with the layers of
``cpu_layers.py``, for pictures of one size.
"""

from dataclasses import replace
from math import gcd

import numpy as np
import oneflow as flow
from numpy.lib.stride_tricks import sliding_window_view
from oneflow import nn

from serving_kit.errors import ExportError
from serving_kit.stylenet.cpu_layers import (
    Gather,
    Layer,
    LinearLayer,
    PaintLayer,
    ReluLayer,
    Step,
    block_matrix,
    block_places,
    buffer,
    reflect,
    window_places,
)
from serving_kit.stylenet.styles import DEFAULT_STYLE, SIZE
from serving_kit.stylenet.weights import LayerWeights, read_layers

#: The network halves the picture twice.
MULTIPLE = 4
#: A 9x9 convolution pads four pixels by reflection, and its blocks are four pixels wide.
SMALLEST = 16
RESIDUALS = 6

#: Blocks are as large as paid off: the windows of larger ones are smaller in all, but their
#: matrices have more zeros. A picture that they do not divide gets smaller ones.
FIRST = Step(9, block=(2, 2))
CONTRACT = (Step(3, stride=2), Step(3, stride=2, block=(1, 2)))
RESIDUAL = Step(3, block=(1, 2))
EXPAND = (Step(3, upsample=2, block=(2, 4)), Step(3, upsample=2, block=(4, 4)))
PAINT = Step(9, block=(4, 8))
#: Pixels of a line of the first convolution's windows.
FIRST_WINDOW = FIRST.kernel - 1 + FIRST.block[1]


class StyleNetCpu(nn.Module):
    """StyleNet for pictures of one size, with the styles that its weights have.

    Args:
        layers: the weights, as ``read_layers`` returns them.
        height: of the pictures; a multiple of 4, at least 16.
        width: likewise.

    Raises:
        ExportError: this size is not possible.
    """

    def __init__(self, layers: dict[str, LayerWeights], height: int, width: int):
        super().__init__()
        if min(height, width) < SMALLEST or height % MULTIPLE or width % MULTIPLE:
            raise ExportError(
                f"StyleNet cannot take pictures of {width} x {height}: width and height must be "
                f"multiples of {MULTIPLE}, and at least {SMALLEST}"
            )
        self.size = (height, width)
        self.collect = Gather(_padded(height, width))
        self.mean_window = MeanWindow(height, width)
        lines, index = _first_windows(height, width)
        self.join = Gather(lines)
        weight, *norms = layers["contract.0"]
        # Pictures come as 0 to 255; the network was trained on 0 to 1.
        first = ReluLayer(index, block_matrix(weight / 255, FIRST), FIRST.block, *norms)
        self._places = block_places(FIRST, self.size)

        def layer(kind: type[Layer], step: Step, name: str) -> Layer:
            weight, *norms = layers[name]
            size = tuple(n * step.upsample // step.stride for n in self._places.shape)
            step = replace(step, block=tuple(map(gcd, step.block, size)))
            index, matrix = window_places(step, self._places), block_matrix(weight, step)
            self._places = block_places(step, size)
            return kind(index, matrix, step.block, *norms)

        contract = [layer(ReluLayer, step, f"contract.{i}") for i, step in enumerate(CONTRACT, 1)]
        self.contract = nn.ModuleList([first, *contract])
        self.residuals = nn.ModuleList(
            layer(kind, RESIDUAL, f"res.{i}.{part}")
            for i in range(RESIDUALS)
            for part, kind in enumerate((ReluLayer, LinearLayer))
        )
        self.expand = nn.ModuleList(
            layer(ReluLayer, step, f"expand.{i}") for i, step in enumerate(EXPAND)
        )
        self.paint = layer(PaintLayer, PAINT, "expand.2")
        self.spread_out = Gather(_planes(self.paint.block, height, width))

    def forward(self, images: flow.Tensor, weights: flow.Tensor | None = None) -> flow.Tensor:
        """Paint images.

        Args:
            images: float32 (N, 3, height, width), RGB, 0 to 255.
            weights: float32 (N, styles), how much of each style; left out where there is one.

        Returns:
            float32 (N, 3, height, width), RGB, 0 to 255.
        """
        batch, style = images.shape[0], None
        if weights is not None:
            style = weights.reshape(batch, 1, weights.shape[1])
        # A plain picture is to be 0; see ReluLayer.
        x = images - images[:, :, :1, :1]
        x = self.collect(x.reshape(batch, 3 * self.size[0] * self.size[1]))
        window = self.mean_window(x)
        x = self.join(x.reshape(batch, -1, FIRST.block[1] * 3))
        x = self.contract[0](x.reshape(batch, -1, FIRST_WINDOW * 3), style, window)
        for layer in self.contract[1:]:
            x = layer(x, style)
        for first, second in zip(self.residuals[::2], self.residuals[1::2], strict=True):
            x = x + second(first(x, style), style)
        for layer in self.expand:
            x = layer(x, style)
        x = self.paint(x, style)
        x = self.spread_out(x.reshape(batch, -1, self.paint.block[1]))
        return x.reshape(batch, 3, *self.size)


class MeanWindow(nn.Module):
    """The mean of all windows of the first convolution, from the padded picture."""

    def __init__(self, height: int, width: int):
        super().__init__()
        high, wide = FIRST.block
        self.register_buffer("down", buffer(_shares(height, high)))
        # The three colours of a pixel lie beside each other.
        self.register_buffer("across", buffer(np.kron(_shares(width, wide).T, np.eye(3))))

    def forward(self, pixels: flow.Tensor) -> flow.Tensor:
        """Map (B, values of the padded picture) to (B, 1, values of a window)."""
        batch = pixels.shape[0]
        lines = pixels.reshape(batch, self.down.shape[1], self.across.shape[0])
        window = flow.matmul(flow.matmul(self.down, lines), self.across)
        return window.reshape(batch, 1, self.down.shape[0] * self.across.shape[1])


def _shares(size: int, block: int) -> np.ndarray:
    """Return in what share of the windows each place falls on each padded pixel, along one axis.

    Returns:
        float (window, padded size).
    """
    padded = np.arange(size + FIRST.kernel - 1)
    windows = sliding_window_view(padded, FIRST.kernel - 1 + block)[::block]
    return (windows[:, :, None] == padded).mean(axis=0)


def _padded(height: int, width: int) -> np.ndarray:
    """Return where the values of the padded picture come from, pixel by pixel."""
    pad = FIRST.kernel // 2
    y, x = (reflect(np.arange(-pad, size + pad), size) for size in (height, width))
    pixels = y[:, None, None] * width + x[None, :, None]
    return (np.arange(3) * height * width + pixels).reshape(-1)


def _first_windows(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what the blocks of the first convolution read of the padded picture.

    The lines of the windows are put together first, which windows above each other share: with
    fewer and longer copies it took 0.8 of the time on an Ice Lake.

    Returns:
        The pairs of pixels that each line consists of; and the lines of each window,
        int (blocks, lines).
    """
    high, wide = FIRST.block
    pad = FIRST.kernel - 1
    pairs = np.arange((height + pad) * (width + pad) // wide).reshape(height + pad, -1)
    lines = np.arange((height + pad) * width // wide).reshape(height + pad, -1)
    windows = sliding_window_view(lines, FIRST.kernel - 1 + high, axis=0)[::high]
    return (
        sliding_window_view(pairs, FIRST_WINDOW // wide, axis=1).reshape(-1),
        windows.reshape(-1, windows.shape[-1]),
    )


def _planes(block: tuple[int, int], height: int, width: int) -> np.ndarray:
    """Return where each line of a block's pixels lies, as the last layer gives them, in planes."""
    high, wide = block
    channel, y, x = np.ogrid[:3, :height, : width // wide]
    return (((y // high * (width // wide) + x) * high + y % high) * 3 + channel).reshape(-1)


def load_stylenet_cpu(
    style: str | int = DEFAULT_STYLE, size: tuple[int, int] = (SIZE, SIZE)
) -> StyleNetCpu:
    """Build a StyleNetCpu that paints in one style, for pictures of one height and width.

    Raises:
        StyleError: there is no such style.
        ExportError: this size is not possible.
    """
    return StyleNetCpu(read_layers(style), *size).eval()


def load_multi_style(size: tuple[int, int] = (SIZE, SIZE)) -> StyleNetCpu:
    """Build a StyleNetCpu that takes the weight of each of the 26 styles beside the images.

    Raises:
        ExportError: this size is not possible.
    """
    return StyleNetCpu(read_layers(), *size).eval()
