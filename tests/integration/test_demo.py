"""The demo beyond the README's commands: odd pictures, and a Ctrl-C in the middle."""

import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest

from serving_kit.client.images import read_image

SECONDS = 120
COMMAND = [sys.executable, "-u", "-m", "serving_kit", "demo"]


@pytest.mark.parametrize(
    ("width", "height"),
    [(1, 1), pytest.param(8_000, 6_400, marks=pytest.mark.long)],
)
def test_a_very_small_and_a_very_large_picture(tmp_path, width, height):
    """Also: a file name with a blank, a picture without colours, and another output format."""
    stripes = np.zeros((height, width), np.uint8)
    stripes[:, : (width + 1) // 2] = 160
    cv2.imwrite(str(tmp_path / "my photo.png"), stripes)
    done = subprocess.run(
        [*COMMAND, "--image", "my photo.png", "--output", "out.png"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"out.png ({width} x {height})" in done.stdout
    assert read_image(tmp_path / "out.png").shape == (height, width, 3)


def test_interrupted_at_work(tmp_path):
    """SIGTERM and SIGHUP go the same way (``run_program``); test_demo_zip.py sends those."""
    process = subprocess.Popen(
        COMMAND, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline().startswith("server")  # it is ready, and asked next
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert errors == "\ninterrupted; everything that was started is stopped\n"
    # That the server is gone is seen when the tests end: nothing of the session may be left.
