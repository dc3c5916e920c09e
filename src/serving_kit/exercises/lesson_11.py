"""Lesson 11, make it fast on a CPU: the index of a convolution, and what a cure is worth."""

from collections.abc import Callable
from math import isclose

import numpy as np

from serving_kit.exercises._answers import NotYet, call, describe


def exercise_1(window_index: Callable) -> str:
    """Check which rows each pixel sees, for several sizes and kernels."""
    for height, width, kernel in ((5, 5, 3), (6, 9, 3), (16, 12, 9)):
        found = call(window_index, height, width, kernel)
        where = f"for {height} x {width} pixels and a {kernel} x {kernel} kernel"
        if not isinstance(found, np.ndarray):
            raise NotYet(f"{where} it returned {describe(found)}; let it return an array.")
        wanted = (height * width, kernel * kernel)
        if found.shape != wanted:
            raise NotYet(
                f"{where} the shape is {found.shape}, expected {wanted}: every pixel has a row, "
                "those at the border, too."
            )
        expected = _windows(height, width, kernel)
        if not np.array_equal(found, expected):
            pixel = int(np.argmax((found != expected).any(axis=1)))
            raise NotYet(
                f"{where} pixel {pixel} sees the rows {found[pixel].tolist()}, expected "
                f"{expected[pixel].tolist()}: outside of the picture it is mirrored at the border."
            )
        if found.dtype != np.int32:
            raise NotYet(f"the numbers are right, but {found.dtype}; gather here takes int32.")
    return "A gather with this index is padding and im2col in one."


def _windows(height: int, width: int, kernel: int) -> np.ndarray:
    """Return the answer, worked out pixel by pixel."""
    half = kernel // 2

    def mirrored(position: int, size: int) -> int:
        position = abs(position)
        return 2 * (size - 1) - position if position >= size else position

    return np.array(
        [
            [
                mirrored(y + i, height) * width + mirrored(x + j, width)
                for i in range(-half, half + 1)
                for j in range(-half, half + 1)
            ]
            for y in range(height)
            for x in range(width)
        ]
    )


def exercise_2(whole_speedup: Callable) -> str:
    """Check what each cure alone does for the whole network."""
    spent, possible = (
        {"Norm": 600.0, "Conv": 300.0, "Pad": 100.0},
        {"Norm": 4, "Conv": 3, "Pad": 50},
    )
    found = call(whole_speedup, dict(spent), dict(possible))
    if not isinstance(found, dict):
        raise NotYet(f"it returned {describe(found)}; let it return a dict.")
    if set(found) != set(spent):
        raise NotYet(f"it has the kinds {sorted(found)}, expected {sorted(spent)}.")
    for kind, took in spent.items():
        rest = sum(spent.values()) - took
        expected = (rest + took) / (rest + took / possible[kind])
        if not isinstance(found[kind], float | int) or not isclose(found[kind], expected):
            raise NotYet(
                f"{kind} takes {took:.0f} of 1000 ms and becomes {possible[kind]} times as fast: "
                f"you say {found[kind]} for the whole; how many ms does the whole take then?"
            )
    return "Norm first: 1.8 times; making Pad 50 times as fast gives only 1.1."
