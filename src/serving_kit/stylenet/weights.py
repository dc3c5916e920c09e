"""The weights of StyleNet: one file for all 26 styles, described in ``assets/README.md``."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from serving_kit.paths import WEIGHTS
from serving_kit.stylenet.styles import style_index


class LayerWeights(NamedTuple):
    """The weights of one convolution, and of the instance norm after it in some styles."""

    #: float32 (out, in, k, k).
    weight: np.ndarray
    #: Scale and shift, float32 (styles, out).
    gamma: np.ndarray
    beta: np.ndarray


def read_layers(style: str | int | None = None, weights: Path = WEIGHTS) -> dict[str, LayerWeights]:
    """Read the layers by their names in the file: contract.0, res.0.0, ..., expand.2.

    Args:
        style: the one whose norms are read, as a single row; all 26 when left out.
        weights: the ``.npz``. It has, for each layer, ``<layer>.w``, ``<layer>.norm.gamma`` and
            ``<layer>.norm.beta``.

    Raises:
        StyleError: there is no such style.
    """
    rows = slice(None) if style is None else [style_index(style)]
    with np.load(weights) as arrays:
        names = [name.removesuffix(".w") for name in arrays.files if name.endswith(".w")]
        return {
            name: LayerWeights(
                arrays[f"{name}.w"],
                arrays[f"{name}.norm.gamma"][rows],
                arrays[f"{name}.norm.beta"][rows],
            )
            for name in names
        }
