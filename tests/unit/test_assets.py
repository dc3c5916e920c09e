"""What lies in assets/ is what its README says."""

import hashlib
import re

import numpy as np

from serving_kit.paths import ASSETS, WEIGHTS
from serving_kit.stylenet.styles import STYLES


def test_every_file_has_the_sum_that_the_readme_gives():
    readme = (ASSETS / "README.md").read_text()
    told = dict(re.findall(r"^## (\S+)\n.*?SHA-256 `(\w{64})`", readme, re.S | re.M))
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in ASSETS.iterdir()
        if path.name != "README.md"
    }
    assert found == told


def test_the_weights_are_those_of_26_styles():
    with np.load(WEIGHTS) as arrays:
        assert len(arrays.files) == 54
        assert sum(arrays[name].size for name in arrays.files) == 166_104
        assert {arrays[name].dtype for name in arrays.files} == {np.dtype("float32")}
        rows = {arrays[name].shape[0] for name in arrays.files if ".norm." in name}
    assert rows == {len(STYLES)}
