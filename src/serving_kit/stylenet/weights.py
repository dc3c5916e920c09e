"""The weights of StyleNet: one file for all 26 styles, described in ``assets/README.md``."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from serving_kit.paths import WEIGHTS


class LayerWeights(NamedTuple):
    """The weights of one convolution, and of the instance norm after it in each style."""

    #: float32 (out, in, k, k).
    weight: np.ndarray
    #: Scale and shift, float32 (styles, out).
    gamma: np.ndarray
    beta: np.ndarray


def read_layers(weights: Path = WEIGHTS) -> dict[str, LayerWeights]:
    """Read the layers by their names in the file: contract.0, res.0.0, ..., expand.2.

    The ``.npz`` has, for each layer, ``<layer>.w``, ``<layer>.norm.gamma`` and
    ``<layer>.norm.beta``.
    """
    with np.load(weights) as arrays:
        names = [name.removesuffix(".w") for name in arrays.files if name.endswith(".w")]
        return {
            name: LayerWeights(
                *(arrays[f"{name}.{part}"] for part in ("w", "norm.gamma", "norm.beta"))
            )
            for name in names
        }
