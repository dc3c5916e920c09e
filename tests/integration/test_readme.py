"""Every command of the README and of the lessons' last words is one that a test runs."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from urllib.error import URLError
from urllib.request import urlopen

import cv2
import oneflow as flow
import pytest

from serving_kit.client.images import read_image, recover_image, to_model
from serving_kit.paths import CAT, ROOT
from serving_kit.stylenet.network import load_stylenet

SECONDS = 300

#: Where each command of the README is run.
RUN_BY = {
    "make demo": "test_make_demo",
    "make test": "CI, and this very run",
    "make demo IMAGE=assets/cat.jpg STYLE=red_ember V=1": "test_make_demo_in_another_style",
    "make styles": "test_make_styles",
    "make serve": "test_make_serve_status_stop",
    "make status": "test_make_serve_status_stop",
    "make stop": "test_make_serve_status_stop",
    "make check": "test_make_check",
    "make lab": "test_make_lab",
    "make html": "tests/browser/test_site.py, which calls what the verb calls",
    "make demo.zip": "test_demo_zip.py, likewise",
    # There is no conda in CI: test_environment.py has pip read the list as conda has it do.
    "conda env create -f environment.yml": "not run",
}


def commands_of(text):
    blocks = re.findall(r"^```shell\n(.*?)^```", text, re.S | re.M)
    lines = [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


@pytest.fixture
def make_environment(tmp_path):
    """The variables of a fresh shell: no make above this one, no virtual environment."""
    dropped = ("MAKE", "MFLAGS", "VIRTUAL_ENV", "IMAGE", "STYLE")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
    return kept | {"HOME": str(tmp_path), "BROWSER": "true"}


@pytest.fixture
def clone(tmp_path):
    """This very tree, with its own environment behind a link, where commands write their files."""
    clone = tmp_path / "clone"
    clone.mkdir()
    listing = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in {file.partition("/")[0] for file in listing.stdout.splitlines()}:
        (clone / name).symlink_to(ROOT / name)
    (clone / "tools").unlink()
    (clone / "tools").mkdir()
    (clone / "tools" / "set_up.sh").write_text("exit 0\n")
    (clone / "tools" / "jupyterlab").symlink_to(ROOT / "tools" / "jupyterlab")
    (clone / ".venv" / "bin").mkdir(parents=True)
    python = clone / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return clone


def run(command, folder, environment):
    return subprocess.run(
        command.split(),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def test_every_command_of_the_readme_is_known():
    assert set(commands_of((ROOT / "README.md").read_text())) == set(RUN_BY)


def painted_in_process(style):
    """The cat as the textbook network paints it, without Triton; uint8 (H, W, 3) BGR."""
    photo = read_image(CAT)
    with flow.no_grad():
        output = load_stylenet(style)(flow.tensor(to_model(photo, 256, 256))).numpy()
    return recover_image(output, *photo.shape[:2])


def as_jpeg(picture):
    return cv2.imdecode(cv2.imencode(".jpg", picture)[1], cv2.IMREAD_COLOR)


def lines_of(done, *names):
    """Return the lines of a demo that succeeded; they begin with these names."""
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(names)
    return lines


def test_make_demo(clone, make_environment):
    before = set(clone.iterdir())
    done = run("make demo", clone, make_environment)
    server, inference, files = lines_of(done, "server", "inference", "files")
    assert re.match(
        r"server    embedded Triton 2\.51\.0 on 127\.0\.0\.1:\d+, ready in [\d.]+ s", server
    )
    assert re.match(
        r"inference fast_neural_style, style starry_night: 1 picture of 451 x 300 in \d+ ms$",
        inference,
    )
    assert files == "files     result.jpg (451 x 300), before_after.png"
    made = {path.name for path in set(clone.iterdir()) - before}
    assert made == {"before_after.png", "result.jpg"}

    photo, result = read_image(CAT), read_image(clone / "result.jpg")
    assert result.shape == photo.shape
    # All that is between the two is JPEG.
    assert cv2.absdiff(result, as_jpeg(painted_in_process("starry_night"))).mean() < 0.1
    # Neither the photo nor noise: far from the photo, and neighbours alike.
    assert cv2.absdiff(result, photo).mean() > 20
    assert cv2.absdiff(result[:, 1:], result[:, :-1]).mean() < result.std()


@pytest.mark.long
def test_make_demo_in_another_style(clone, make_environment):
    command = "make demo IMAGE=assets/cat.jpg STYLE=red_ember V=1"
    done = run(command, clone, make_environment)
    _, inference, check, _ = lines_of(done, "server", "inference", "check", "files")
    assert "style red_ember: 1 picture of 451 x 300" in inference
    difference = re.match(r"check     served and in-process .* by at most ([\d.]+) of 255$", check)
    assert float(difference[1]) <= 0.001
    result = read_image(clone / "result.jpg")
    assert cv2.absdiff(result, as_jpeg(painted_in_process("red_ember"))).mean() < 0.1


def test_make_serve_status_stop(clone, make_environment, port):
    make_environment |= {"SERVING_KIT_SERVERS": str(clone / "servers"), "SERVER": "local"}
    done = run(f"make serve PORT={port}", clone, make_environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "models    fast_neural_style" in done.stdout
    done = run("make status", clone, make_environment)
    assert done.returncode == 0 and f"on 127.0.0.1:{port}: ready" in done.stdout
    done = run("make stop", clone, make_environment)
    assert done.stdout.startswith("stopped   embedded Triton")
    done = run("make serve DRY_RUN=1", clone, make_environment)
    assert done.returncode == 0 and "bin/tritonserver" in done.stdout


def test_make_check(clone, make_environment):
    done = run("make check", clone, make_environment)
    assert (done.returncode, done.stderr) == (0, "")
    done = run(f"make check REPOSITORY={clone / 'docs'}", clone, make_environment)
    assert done.returncode == 2  # make's own, for a verb that found errors


def test_make_styles(clone, make_environment):
    done = run("make styles", clone, make_environment)
    assert (done.returncode, done.stderr) == (0, "")
    sheet = cv2.imread(str(clone / "styles.png"))
    assert sheet.shape[1] == 6 * 306 and sheet.std() > 30


def test_make_lab(clone, make_environment):
    lab = subprocess.Popen(
        ["make", "lab"],
        cwd=clone,
        env=make_environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    give_up = threading.Timer(SECONDS, os.killpg, (lab.pid, signal.SIGKILL))
    give_up.start()
    try:
        words = (line.split()[-1] for line in lab.stderr if "http://localhost" in line)
        address, _, token = next(words).partition("/lab?")
        while lab.poll() is None:  # the address is told a moment before it is opened
            with (
                contextlib.suppress(ConnectionError, URLError),
                urlopen(f"{address}/api/contents/notebooks/00_quickstart.ipynb?{token}") as answer,
            ):
                assert json.load(answer)["type"] == "notebook"
                break
            time.sleep(0.1)
        assert lab.poll() is None
    finally:
        give_up.cancel()
        os.killpg(lab.pid, signal.SIGTERM)
        lab.communicate(timeout=SECONDS)


def test_make_alone_lists_the_commands(make_environment):
    listed = subprocess.run(
        ["make"], cwd=ROOT, env=make_environment, capture_output=True, text=True, check=True
    ).stdout
    for verb in (
        "demo",
        "test",
        "lab",
        "serve",
        "status",
        "stop",
        "check",
        "image",
        "models",
        "styles",
        "notebooks",
        "html",
        "demo.zip",
        "lock",
        "clean",
    ):
        assert re.search(rf"^  make {verb} +\w", listed, re.M)


def test_lessons_in_another_language_are_told_to_be_missing(make_environment):
    command = ["make", "lab", "LESSONS=fr"]
    done = subprocess.run(command, cwd=ROOT, env=make_environment, capture_output=True, text=True)
    assert done.returncode != 0 and done.stdout == ""
    assert done.stderr.splitlines()[0] == (
        'make lab: there are no lessons in "fr"; write LESSONS=en or LESSONS=zh'
    )


def test_make_passes_words_with_blanks_on(make_environment):
    command = ["make", "-n", "demo", "IMAGE=my photo.png", "STYLE=red_ember", "V=1"]
    commands = subprocess.run(
        command, cwd=ROOT, env=make_environment, capture_output=True, text=True, check=True
    ).stdout
    assert '${IMAGE:+--image "$IMAGE"} ${STYLE:+--style "$STYLE"} ${V:+-v}' in commands
