"""The demo as a user runs it: right pictures, plain sentences, and nothing left behind."""

import os
import re
import signal
import subprocess
import sys

import cv2
import numpy as np
import oneflow as flow
import pytest

from serving_kit.client.images import read_image, recover_image, to_model
from serving_kit.paths import CAT, ROOT
from serving_kit.stylenet.network import load_stylenet

SECONDS = 120


def demo(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "serving_kit", "demo", *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def made(folder):
    return sorted(path.name for path in folder.iterdir())


def paint(photo, style):
    """The eager model's answer for a whole picture, uint8 BGR in and out."""
    with flow.no_grad():
        output = load_stylenet(style)(flow.tensor(to_model(photo, 256, 256))).numpy()
    return recover_image(output, *photo.shape[:2])


def test_the_cat(tmp_path):
    done = demo(tmp_path, "-v")
    assert (done.returncode, done.stderr) == (0, "")
    server, inference, check, files = done.stdout.splitlines()
    assert re.match(
        r"server    embedded Triton 2\.51\.0 on 127\.0\.0\.1:\d+, ready in [\d.]+ s", server
    )
    assert re.match(
        r"inference fast_neural_style, style starry_night: 1 picture of 451 x 300 in \d+ ms$",
        inference,
    )
    difference = re.match(r"check     served and in-process .* by at most ([\d.]+) of 255$", check)
    assert float(difference[1]) <= 0.001
    assert files == "files     result.jpg (451 x 300), before_after.png"
    assert made(tmp_path) == ["before_after.png", "result.jpg"]

    photo, result = read_image(CAT), read_image(tmp_path / "result.jpg")
    assert result.shape == photo.shape
    # The eager model's picture; all that is between them is JPEG.
    expected = paint(photo, "starry_night")
    jpeg = cv2.imdecode(cv2.imencode(".jpg", expected)[1], cv2.IMREAD_COLOR)
    assert cv2.absdiff(result, jpeg).mean() < 0.1
    # Neither the photo nor noise: far from the photo, and neighbours alike.
    assert cv2.absdiff(result, photo).mean() > 20
    assert cv2.absdiff(result[:, 1:], result[:, :-1]).mean() < result.std()


def test_another_picture_style_and_format(tmp_path):
    photo = cv2.cvtColor(read_image(CAT), cv2.COLOR_BGR2GRAY)[:, :200]
    cv2.imwrite(str(tmp_path / "my photo.png"), photo)
    done = demo(tmp_path, "--image", "my photo.png", "--style", "red_ember", "--output", "out.png")
    assert (done.returncode, done.stderr) == (0, "")
    assert "style red_ember: 1 picture of 200 x 300" in done.stdout
    result = read_image(tmp_path / "out.png")
    expected = paint(read_image(tmp_path / "my photo.png"), "red_ember")
    assert result.shape == (300, 200, 3)
    assert cv2.absdiff(result, expected).max() <= 1


@pytest.mark.parametrize(("width", "height"), [(1, 1), (12_000, 9_000)])
def test_a_very_small_and_a_very_large_picture(tmp_path, width, height):
    stripes = np.zeros((height, width, 3), np.uint8)
    stripes[:, : (width + 1) // 2] = (30, 160, 240)
    cv2.imwrite(str(tmp_path / "photo.png"), stripes)
    done = demo(tmp_path, "--image", "photo.png")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"result.jpg ({width} x {height})" in done.stdout
    assert read_image(tmp_path / "result.jpg").shape == (height, width, 3)


MISTAKES = {
    "missing picture": (["--image", "none.jpg"], "error: there is no file none.jpg; give the path"),
    "text file": (["--image", "notes.txt"], "error: notes.txt is not a picture that OpenCV can"),
    "folder": (["--image", "."], "error: . is a folder or a device; give the path of a picture"),
    "unknown style": (["--style", "red_amber"], "error: style 'red_amber' does not exist; did you"),
    "not a format": (["--output", "result"], "error: result does not end in a picture format"),
    "no such folder": (
        ["--output", "no/result.jpg"],
        "error: no/result.jpg cannot be written: there",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_gets_one_sentence_and_no_server(tmp_path, case):
    (tmp_path / "notes.txt").write_text("not a picture")
    arguments, sentence = MISTAKES[case]
    done = demo(tmp_path, *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith(sentence) and done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert made(tmp_path) == ["notes.txt"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_at_work(tmp_path, number, code):
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "serving_kit", "demo"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline().startswith("server")  # it is ready, and asked next
    process.send_signal(number)
    _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == code
    assert "Traceback" not in errors
    if number == signal.SIGINT:
        assert errors == "\ninterrupted; everything that was started is stopped\n"
    # That the server is gone is seen when the tests end: nothing of the session may be left.


def test_make_passes_its_variables_on(tmp_path):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    commands = subprocess.run(
        ["make", "-n", "demo", "IMAGE=my photo.png", "STYLE=red_ember", "V=1"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert '${IMAGE:+--image "$IMAGE"} ${STYLE:+--style "$STYLE"} ${V:+-v}' in commands
