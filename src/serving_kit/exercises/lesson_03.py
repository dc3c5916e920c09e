"""Lesson 03, turn Eager into a graph: a choice that survives tracing, and many pictures."""

from collections.abc import Callable

import numpy as np
import oneflow as flow
from oneflow import nn

from serving_kit.exercises._answers import NotYet, call, describe
from serving_kit.stylenet.network import load_stylenet

SHAPE = (1, 3, 64, 64)


class _Traced(nn.Graph):
    """A function and StyleNet behind it: OneFlow 0.9.0 crashes on graphs that end too soon."""

    def __init__(self, function: Callable):
        super().__init__()
        self.function = function
        self.model = load_stylenet()

    def build(self, x: flow.Tensor) -> tuple[flow.Tensor, flow.Tensor]:
        changed = self.function(x)
        return changed, self.model(changed)


def _picture(low: float, high: float) -> flow.Tensor:
    pixels = np.random.default_rng(int(low)).uniform(low, high, SHAPE)
    return flow.tensor(pixels.astype(np.float32))


def exercise_1(brighten: Callable) -> str:
    """Check a function that doubles dark pictures only: eagerly, then in a graph."""
    _check_brightened(lambda x: call(brighten, x), "in Eager mode")
    graph = _Traced(lambda x: call(brighten, x))
    _check_brightened(lambda x: graph(x)[0], "in the graph")
    return "The graph holds both ways and chooses by the picture."


def _check_brightened(brighten: Callable, where: str) -> None:
    pictures = {"dark": (_picture(0, 100), 2), "light": (_picture(120, 240), 1)}
    for name, (picture, factor) in pictures.items():
        found = brighten(picture)
        if not isinstance(found, flow.Tensor):
            raise NotYet(f"{where} it returned {describe(found)}; let it return a tensor.")
        if tuple(found.shape) != SHAPE:
            raise NotYet(f"{where} the picture's shape became {tuple(found.shape)}, from {SHAPE}.")
        if not np.allclose(found.numpy(), picture.numpy() * factor, rtol=1e-4):
            times = float((found.numpy() / picture.numpy()).mean())
            raise NotYet(
                f"{where} the {name} picture became {times:.1f} times as bright, expected "
                f"{factor}.0 times."
            )


def exercise_2(paint_all: Callable) -> str:
    """Check a function that sends several pictures through a graph of batch 1."""
    pictures = flow.cat([_picture(0, 100), _picture(50, 200), _picture(120, 240)])
    with flow.no_grad():
        expected = load_stylenet()(pictures).numpy()
    graph = _Traced(lambda x: x)
    graph(pictures[:1])  # compiled for one picture
    found = call(paint_all, lambda x: graph(x)[1], pictures)
    if not isinstance(found, flow.Tensor):
        raise NotYet(f"paint_all returned {describe(found)}; make one tensor of the answers.")
    if found.shape != expected.shape:
        raise NotYet(
            f"the answer has the shape {tuple(found.shape)}, expected {tuple(expected.shape)}."
        )
    for row in range(len(expected)):
        if not np.allclose(found[row].numpy(), expected[row], atol=0.01):
            raise NotYet(f"row {row} is not the painting of picture {row}.")
    return "One fixed shape, any number of pictures."
