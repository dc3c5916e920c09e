"""The program that builds assets/ really makes these files, from the packages they come from."""

import subprocess
import sys

from serving_kit.paths import ROOT


def test_the_assets_can_be_rebuilt():
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "build_assets.py"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("as committed") == 3
