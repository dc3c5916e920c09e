"""What several of the page's tests need."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from serving_kit.server import TritonServer


@pytest.fixture(scope="session")
def image():
    return np.random.default_rng(1).uniform(0, 255, (1, 3, 64, 64)).astype(np.float32)


@pytest.fixture
def saved(tmp_path, small_version):
    """A saved graph of a test's own, to be damaged."""
    return Path(shutil.copytree(small_version / "model", tmp_path / "1" / "model"))


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    """A server with nothing to serve, whose model control is closed."""
    with TritonServer(tmp_path_factory.mktemp("closed")) as server:
        yield server
