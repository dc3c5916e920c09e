"""What the commands compute without Triton, with OneFlow in their own process."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from serving_kit.stylenet.styles import STYLES, style_weights


def run_graph(graph: Path, image: np.ndarray) -> np.ndarray:
    """Run the saved graph of fast_neural_style.

    Args:
        graph: the folder that ``flow.save`` wrote.
        image: float32 (1, 3, H, W), RGB, 0 to 255.

    Returns:
        float32 (1, 3, H, W), RGB, 0 to 255.
    """
    with _without_stderr():
        from oneflow_backend.saved_graph import SavedGraph

        with SavedGraph(graph) as run:
            (output,) = run(image)
    return output


def paint_in_every_style(image: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the name of each style, and a picture painted in it with OneFlow's eager mode.

    Args:
        image: float32 (1, 3, H, W), RGB, 0 to 255.

    Yields:
        The paintings as float32 (1, 3, H, W), RGB, 0 to 255.
    """
    with _without_stderr():
        import oneflow as flow

        from serving_kit.stylenet.cpu_network import load_multi_style
    # One network for all styles: textbook layers, loaded for each, take five times as long.
    network = load_multi_style(image.shape[2:])
    for name in STYLES:
        with flow.no_grad():
            painted = network(flow.tensor(image), flow.tensor(style_weights(name)))
        yield name, painted.numpy()


@contextlib.contextmanager
def _without_stderr() -> Iterator[None]:
    """Drop what C++ writes to standard error: OneFlow says there that InfiniBand is missing."""
    sys.stderr.flush()
    kept = os.dup(2)
    with Path(os.devnull).open("wb") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
