"""The layout for CPUs gives the answers of StyleNet, and batches once it is saved."""

import gc
import itertools

import numpy as np
import oneflow as flow
import pytest

from oneflow_backend.saved_graph import SavedGraph
from serving_kit.errors import ExportError
from serving_kit.export.version import export_version
from serving_kit.stylenet.cpu_network import load_multi_style, load_stylenet_cpu
from serving_kit.stylenet.network import load_stylenet
from serving_kit.stylenet.styles import STYLES

#: On the scale 0 to 255.
TOLERANCE = 0.05
LARGE = ((256, 256), (512, 512), (256, 384))


def pictures(number, height, width):
    return np.random.default_rng(0).uniform(0, 255, (number, 3, height, width)).astype(np.float32)


def answer(model, *inputs):
    with flow.no_grad():
        return model(*map(flow.tensor, inputs)).numpy()


@pytest.mark.parametrize(
    ("style", "size"),
    [
        ("amber_mist", (16, 16)),
        ("red_ember", (20, 36)),
        ("pebble_mosaic", (44, 128)),
        ("starry_night", (256, 256)),
        *(
            pytest.param(style, size, marks=pytest.mark.long)
            for style, size in zip(STYLES, itertools.cycle(LARGE))
        ),
    ],
)
def test_styles_and_sizes_are_the_same(style, size):
    picture = pictures(1, *size)
    expected = answer(load_stylenet(style), picture)
    assert np.abs(answer(load_stylenet_cpu(style, size), picture) - expected).max() < TOLERANCE


def test_a_pale_picture_is_the_same():
    """With so little variance, the norm's epsilon counts."""
    picture = 127 + 4 * pictures(1, 64, 64) / 255
    expected = answer(load_stylenet(), picture)
    assert np.abs(answer(load_stylenet_cpu(size=(64, 64)), picture) - expected).max() < TOLERANCE


@pytest.mark.parametrize("value", [0, 127, 255])
def test_a_plain_picture_stays_plain(value):
    """StyleNet's own answer hangs on its rounding here; the fast one is what exact sums give."""
    picture = np.full((1, 3, 64, 64), value, np.float32)
    found = answer(load_stylenet_cpu(size=(64, 64)), picture)
    assert np.ptp(found, axis=(2, 3)).max() < 1e-3
    assert np.abs(found - answer(load_stylenet(), picture)).max() < 1


def test_each_image_of_a_batch_has_a_style_of_its_own():
    images = pictures(len(STYLES), 20, 36)
    found = answer(load_multi_style((20, 36)), images, np.eye(len(STYLES), dtype=np.float32))
    for row, style in enumerate(STYLES):
        expected = answer(load_stylenet(style), images[row : row + 1])
        assert np.abs(found[row] - expected[0]).max() < TOLERANCE


def test_a_blend_has_the_mean_of_scale_and_shift():
    picture = pictures(1, 64, 64)
    blended, other = load_stylenet(3), load_stylenet(19).state_dict()
    state = {
        name: flow.tensor((tensor.numpy() + other[name].numpy()) / 2)
        for name, tensor in blended.state_dict().items()
    }
    blended.load_state_dict(state)
    weights = np.zeros((1, len(STYLES)), np.float32)
    weights[0, [3, 19]] = 0.5
    found = answer(load_multi_style((64, 64)), picture, weights)
    assert np.abs(found - answer(blended, picture)).max() < TOLERANCE


@pytest.mark.parametrize("size", [(12, 64), (64, 66), (0, 0)])
def test_a_size_that_is_not_possible(size):
    with pytest.raises(ExportError, match=r"multiples of 4, and at least 16"):
        load_stylenet_cpu(size=size)


@pytest.mark.parametrize("several", [True, pytest.param(False, marks=pytest.mark.long)])
def test_saved_it_takes_a_batch(tmp_path, several):
    size = (64, 64)
    inputs = [pictures(3, *size)]
    if several:
        inputs.append(np.eye(len(STYLES), dtype=np.float32)[[3, 19, 24]])
    model = load_multi_style(size) if several else load_stylenet_cpu(size=size)
    export_version(model, [array[:1] for array in inputs], tmp_path / "1")
    with SavedGraph(tmp_path / "1" / "model") as graph:
        alone = [graph(*(array[row : row + 1] for array in inputs))[0] for row in range(3)]
        graph.add_batch(3)
        together = graph(*inputs)[0]
    gc.collect()
    assert np.abs(together - np.concatenate(alone)).max() < TOLERANCE


def test_the_mean_window_is_the_mean_of_all_windows():
    network = load_stylenet_cpu(size=(24, 32))
    pictures = flow.tensor(np.random.default_rng(3).uniform(0, 255, (2, 3, 24, 32)).astype("f"))
    pixels = network.collect(pictures.reshape(2, -1))
    lines = network.join(pixels.reshape(2, -1, 6)).reshape(2, -1, 30)
    windows = network.contract[0].convolution.collect(lines).reshape(2, -1, 300).numpy()
    found = network.mean_window(pixels).numpy()
    assert np.allclose(found, windows.mean(axis=1, keepdims=True), rtol=1e-5)
