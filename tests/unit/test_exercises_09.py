"""The checks of lesson 09's exercises: right answers pass, wrong ones get a sentence that helps."""

import cv2
import numpy as np
import pytest

from serving_kit.paths import MODEL_REPOSITORY

WEIGHTS = """
input [
  {
    name: "WEIGHTS"
    data_type: TYPE_FP32
    dims: [ 1, 26 ]
  }
]
"""
CONFIG = (
    (MODEL_REPOSITORY / "stylize_jpeg" / "config.pbtxt")
    .read_text()
    .replace("stylize_jpeg", "blend_jpeg")
    .replace("fast_neural_style", "multi_style")
    .replace(
        'value: "image" }\n      output_map { key: "OUTPUT_0"',
        'value: "image" }\n      input_map { key: "INPUT_1" value: "WEIGHTS" }\n'
        '      output_map { key: "OUTPUT_0"',
    )
) + WEIGHTS


# 09.1


def test_an_ensemble_for_blends(verdict):
    assert verdict("09.1", CONFIG).startswith("Right!")
    assert verdict("09.1", CONFIG.replace("[ 1, 26 ]", "[ 26 ]")).startswith("Right!")
    without_name = CONFIG.replace('name: "blend_jpeg"\n', "")
    assert verdict("09.1", without_name).startswith("Right!")


@pytest.mark.parametrize(
    ("right", "wrong", "hint"),
    [
        ("multi_style", "fast_neural_style", "its steps are preprocess, fast_neural_style, postp"),
        (WEIGHTS, "", "its input is PICTURE; PICTURE and WEIGHTS shall it be"),
        ('name: "JPEG"', 'name: "PAINTED"', "its output is PAINTED; JPEG shall it be"),
        ("[ 1, 26 ]", "[ 1, 25 ]", 'make check would say: the tensor "WEIGHTS" is'),
        ('key: "INPUT_1"', 'key: "INPUT_2"', 'multi_style has no input "INPUT_2"'),
        ('key: "INPUT_1" value: "WEIGHTS"', 'key: "INPUT_1" value: "image"', "make check would"),
        ('{ key: "IMAGE" value: "painted"', '{ key: "IMAGE" value: "pained"', '"pained"'),
        ("ensemble_scheduling {", "ensemble_scheduling", "Triton cannot read it: config.pbtxt:"),
    ],
)  # fmt: skip
def test_hints_on_the_ensemble(verdict, right, wrong, hint):
    assert right in CONFIG
    told = verdict("09.1", CONFIG.replace(right, wrong))
    assert told.startswith("Not yet: ") and hint in told


# 09.2


def png_size(start):
    if not start.startswith(b"\x89PNG\r\n\x1a\n"):
        return None
    return int.from_bytes(start[16:20], "big"), int.from_bytes(start[20:24], "big")


def test_the_size_of_a_png(verdict):
    assert verdict("09.2", png_size).startswith("Right!")


def decoded_size(start):
    height, width, _ = cv2.imdecode(np.frombuffer(start, np.uint8), cv2.IMREAD_COLOR).shape
    return width, height


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (decoded_size, "your function raised AttributeError: 'NoneType' object has no"),
        (lambda start: png_size(start)[::-1], "for a PNG 451 wide: the width comes first"),
        (lambda start: None, "it returned None for a PNG of 451 x 300"),
        (lambda start: int.from_bytes(start[16:24], "big"), "for a PNG of 451 x 300"),
        (
            lambda start: tuple(int.from_bytes(start[n : n + 4], "little") for n in (16, 20)),
            "it returned (3271622656, 738263040) for a PNG of 451 x 300",
        ),
        (
            lambda start: tuple(int.from_bytes(start[n : n + 4], "big") for n in (16, 20)),
            "for a JPEG; None says that it is no PNG",
        ),
    ],
)
def test_hints_on_the_size_of_a_png(verdict, answer, hint):
    assert hint in verdict("09.2", answer)
