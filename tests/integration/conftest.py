"""A model repository with a small StyleNet in it, and one server that the tests share."""

import shutil

import numpy as np
import pytest

from serving_kit.models import repository_for
from serving_kit.paths import MODEL_REPOSITORY
from serving_kit.server import TritonServer

SIZE = 64


@pytest.fixture(scope="session")
def small_version(tmp_path_factory):
    """A version folder of StyleNet for 64 x 64 pixels: small, but no graph so short that
    OneFlow 0.9.0 may crash on it."""
    from serving_kit.export import export_version
    from serving_kit.stylenet import load_stylenet

    version = tmp_path_factory.mktemp("small") / "1"
    example = np.random.default_rng(0).uniform(0, 255, (1, 3, SIZE, SIZE)).astype(np.float32)
    export_version(load_stylenet(), [example], version, source="a test")
    return version


@pytest.fixture
def small_repository(tmp_path, small_version):
    """A repository of a test's own, to be broken: one model, small."""
    model = tmp_path / "models" / "small"
    shutil.copytree(small_version, model / "1")
    text = (MODEL_REPOSITORY / "fast_neural_style" / "configs" / "cpu.pbtxt").read_text()
    text = text.replace("fast_neural_style", "small").replace("256, 256", f"{SIZE}, {SIZE}")
    (model / "config.pbtxt").write_text(text)
    return model.parent


@pytest.fixture(scope="session")
def server():
    """The server that tests share which only ask it: it serves ``model_repository/``."""
    with TritonServer(repository_for()) as server:
        yield server
