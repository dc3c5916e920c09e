"""StyleNet in PyTorch: ``pytorch_contestant.py WEIGHTS ROW IMAGE ANSWER``, a contestant.

PyTorch is no part of the kit's environment, so this file runs in one that has nothing but
PyTorch and NumPy. Same weights, the layers that a textbook would take, PyTorch's own threads.
"""

import sys

import numpy as np
import torch
from torch.nn import functional as F

from turns import answer_turns


def load(weights: str, row: int) -> dict[str, torch.Tensor]:
    """Read the arrays of all layers, and of the norms one style's row."""
    with np.load(weights) as arrays:
        return {
            name: torch.from_numpy(arrays[name][row] if ".norm." in name else arrays[name])
            for name in arrays
        }


def paint(state: dict[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """Paint images, float32 (N, 3, H, W), 0 to 255."""

    def layer(name: str, x: torch.Tensor, stride: int = 1) -> torch.Tensor:
        kernel = state[f"{name}.w"]
        x = F.pad(x, (kernel.shape[-1] // 2,) * 4, mode="reflect")
        x = F.conv2d(x, kernel, stride=stride)
        return F.instance_norm(
            x, weight=state[f"{name}.norm.gamma"], bias=state[f"{name}.norm.beta"]
        )

    x = images / 255
    for i in range(3):
        x = F.relu(layer(f"contract.{i}", x, stride=2 if i else 1))
    for i in range(6):
        x = x + layer(f"res.{i}.1", F.relu(layer(f"res.{i}.0", x)))
    for i in range(2):
        x = F.relu(layer(f"expand.{i}", F.interpolate(x, scale_factor=2)))
    return torch.sigmoid(layer("expand.2", x)) * 255


def main() -> None:
    """Load, save the answer to the image, and have turns."""
    weights, row, image_file, answer_file = sys.argv[1:]
    state, image = load(weights, int(row)), np.load(image_file)

    def run() -> np.ndarray:
        with torch.inference_mode():
            return paint(state, torch.from_numpy(image)).numpy()

    np.save(answer_file, run())
    answer_turns(run)


if __name__ == "__main__":
    main()
