"""StyleNet, the model of the course: a photo in, the same photo as a painting out.

The network is the one of Dumoulin, Shlens and Kudlur, "A Learned Representation for Artistic
Style" (2017): every convolution is shared by all styles, and a style is nothing but one row of
scale and shift for each instance norm (conditional instance normalization). Its 26 styles and
their weights are described in ``assets/README.md``.
"""

import re
from pathlib import Path

import numpy as np
import oneflow as flow
from oneflow import nn
from oneflow.nn import functional as F

from serving_kit.paths import WEIGHTS
from serving_kit.stylenet.styles import DEFAULT_STYLE
from serving_kit.stylenet.weights import read_layers

#: A layer of the weights' file that has another name here, besides the residuals.
OTHER_NAMES = {"expand.2": "paint"}


class InstanceNorm(nn.Module):
    """Instance norm with a learned scale (gamma) and shift (beta) for each channel.

    Everything stays 4-D: OneFlow 0.9.0's own ``nn.InstanceNorm2d`` flattens each channel to a row,
    and to subtract a mean that repeats along its row takes a hundred times longer on a CPU.
    """

    def __init__(self, channels: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.gamma = nn.Parameter(flow.ones(1, channels, 1, 1))
        self.beta = nn.Parameter(flow.zeros(1, channels, 1, 1))

    def forward(self, x: flow.Tensor) -> flow.Tensor:
        """Normalize each channel of each image of ``x``, float32 (N, C, H, W), over its pixels."""
        centered = x - x.mean(dim=(2, 3), keepdim=True)
        variance = (centered * centered).mean(dim=(2, 3), keepdim=True)
        return centered * flow.rsqrt(variance + self.eps) * self.gamma + self.beta


class ConvNorm(nn.Module):
    """Reflection padding, a convolution without bias, an instance norm."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1):
        super().__init__()
        self.pad = nn.ReflectionPad2d(kernel_size // 2)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, bias=False)
        self.norm = InstanceNorm(out_channels)

    def forward(self, x: flow.Tensor) -> flow.Tensor:
        """Map float32 (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride)."""
        return self.norm(self.conv(self.pad(x)))


class Residual(nn.Module):
    """Two 3x3 ConvNorms whose result is added to what came in; no relu after the second."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = ConvNorm(channels, channels, 3)
        self.second = ConvNorm(channels, channels, 3)

    def forward(self, x: flow.Tensor) -> flow.Tensor:
        """Map float32 (N, C, H, W) to the same shape."""
        return x + self.second(F.relu(self.first(x)))


class Upsample(nn.Module):
    """Double height and width by repeating every pixel.

    The operator behind ``nn.UpsamplingNearest2d``, called by name: the class of OneFlow 0.9.0
    warns whenever an ``nn.Graph`` traces it.
    """

    def forward(self, x: flow.Tensor) -> flow.Tensor:
        """Map float32 (N, C, H, W) to (N, C, 2 H, 2 W)."""
        return flow._C.upsample_nearest_2d(
            x, height_scale=2.0, width_scale=2.0, data_format="channels_first"
        )


class StyleNet(nn.Module):
    """The style network with one style folded in: 3 ConvNorms, 6 residuals, 3 ConvNorms."""

    def __init__(self):
        super().__init__()
        self.contract = nn.ModuleList(
            [ConvNorm(3, 32, 9), ConvNorm(32, 32, 3, stride=2), ConvNorm(32, 32, 3, stride=2)]
        )
        self.residuals = nn.ModuleList([Residual(32) for _ in range(6)])
        self.expand = nn.ModuleList([ConvNorm(32, 8, 3), ConvNorm(8, 4, 3)])
        self.paint = ConvNorm(4, 3, 9)
        self.upsample = Upsample()

    def forward(self, images: flow.Tensor) -> flow.Tensor:
        """Paint images.

        Args:
            images: float32 (N, 3, H, W), RGB, 0 to 255; H and W multiples of 4, at least 16.

        Returns:
            float32 (N, 3, H, W), RGB, 0 to 255.
        """
        x = images * (1 / 255)
        for layer in self.contract:
            x = F.relu(layer(x))
        for layer in self.residuals:
            x = layer(x)
        for layer in self.expand:
            x = F.relu(layer(self.upsample(x)))
        return flow.sigmoid(self.paint(x)) * 255


def style_state(weights: Path, style: str | int) -> dict[str, np.ndarray]:
    """Read the state dict of a StyleNet for one style from the ``.npz`` of all 26.

    Raises:
        StyleError: there is no such style.
    """
    state = {}
    for name, layer in read_layers(style, weights).items():
        ours = OTHER_NAMES.get(name) or re.sub(r"^res\.(\d)\.(\d)$", _residual, name)
        state[f"{ours}.conv.weight"] = layer.weight
        for part in ("gamma", "beta"):
            state[f"{ours}.norm.{part}"] = getattr(layer, part).reshape(1, -1, 1, 1)
    return state


def _residual(name: re.Match) -> str:
    return f"residuals.{name[1]}.{('first', 'second')[int(name[2])]}"


def load_stylenet(style: str | int = DEFAULT_STYLE) -> StyleNet:
    """Build a StyleNet that paints in one style, ready for inference.

    Args:
        style: a name from ``serving_kit.stylenet.STYLES``, or its index, 0 to 25.

    Raises:
        StyleError: there is no such style.
    """
    model = StyleNet()
    state = {name: flow.tensor(array) for name, array in style_state(WEIGHTS, style).items()}
    model.load_state_dict(state)
    return model.eval()


def load_textbook_stylenet(style: str | int = DEFAULT_STYLE) -> StyleNet:
    """Build a StyleNet with OneFlow's own ``nn.InstanceNorm2d``, as in the original OneFlow guide.

    The same answers; on a CPU it takes four times as long. Lesson 11 and the benchmarks say why.

    Raises:
        StyleError: there is no such style.
    """
    model = load_stylenet(style)
    for layer in [layer for layer in model.modules() if isinstance(layer, ConvNorm)]:
        ours = layer.norm
        layer.norm = nn.InstanceNorm2d(ours.gamma.shape[1], eps=ours.eps, affine=True)
        layer.norm.weight.data.copy_(ours.gamma.reshape(-1))
        layer.norm.bias.data.copy_(ours.beta.reshape(-1))
    return model.eval()
