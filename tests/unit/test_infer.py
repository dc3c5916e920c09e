"""infer.py of demo.zip, as far as it goes without a server: its mistakes and its options."""

import argparse
import importlib
import socket
import subprocess
import sys

import pytest

from serving_kit.errors import ImageError, StyleError, TooLargeError
from serving_kit.paths import CAT, ROOT

FILES = ROOT / "demo.zip-builder" / "files"


@pytest.fixture
def infer(monkeypatch):
    monkeypatch.syspath_prepend(FILES)
    return importlib.import_module("infer")


@pytest.fixture
def nobody():
    """An address where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def test_what_is_wrong_with_the_picture_is_told_before_triton_is_asked(infer, tmp_path, nobody):
    (tmp_path / "notes.png").write_text("not a picture")
    with pytest.raises(ImageError, match="is text; expected a JPEG, PNG or WebP"):
        infer.stylize(tmp_path / "notes.png", tmp_path / "result.jpg", url=nobody)
    frame, scan_and_end = (
        b"\xff\xc0\0\x11\x08\xff\xff\xff\xff\3" + bytes(9),
        b"\xff\xda\0\2\xff\xd9",
    )
    (tmp_path / "bomb.jpg").write_bytes(b"\xff\xd8" + frame + scan_and_end)
    with pytest.raises(TooLargeError, match="has 65535 x 65535 pixels"):
        infer.stylize(tmp_path / "bomb.jpg", tmp_path / "result.jpg", url=nobody)
    with pytest.raises(StyleError, match='write "red_ember"'):
        infer.stylize(CAT, tmp_path / "result.jpg", {"red_amber": 1}, url=nobody)


@pytest.mark.parametrize(
    ("text", "style"),
    [
        ("red_ember", "red_ember"),
        ("20", "red_ember"),
        ("starry_night=0.7,red_ember=0.3", {"starry_night": 0.7, "red_ember": 0.3}),
        (" starry_night = 1 , 20=2", {"starry_night": 1.0, "red_ember": 2.0}),
    ],
)
def test_a_style_and_shares_of_several(infer, text, style):
    assert infer.parse_style(text) == style


@pytest.mark.parametrize(
    "text", ["red_amber", "", "26", "red_ember,starry_night", "red_ember=", "red_ember=x",
             "red_ember=-1", "red_ember=0", "red_ember=nan", "red_ember=inf", "red_amber=1", "=1"]
)  # fmt: skip
def test_what_is_no_style(infer, text):
    with pytest.raises(argparse.ArgumentTypeError):
        infer.parse_style(text)


MISTAKES = {
    "no picture given": ([], 2, "the following arguments are required: --image"),
    "no such style": (["--image", CAT, "--style", "red_amber"], 2, 'write "red_ember"'),
    "no such protocol": (["--image", CAT, "--protocol", "ftp"], 2, "invalid choice: 'ftp'"),
    "no such file": (["--image", "none.jpg"], 1, "error: there is no file none.jpg; give the path"),
    "not a format": (
        ["--image", CAT, "--output", "x"],
        1,
        "error: x has no known picture extension",
    ),
    "no address": (["--image", CAT, "--url", "here:there"], 1, "error: 'here:there' is not host:"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_exit_codes_and_sentences(infer, tmp_path, monkeypatch, capsys, case):
    arguments, code, sentence = MISTAKES[case]
    monkeypatch.chdir(tmp_path)
    try:
        found = infer.main([str(argument) for argument in arguments])
    except SystemExit as end:
        found = end.code
    said = capsys.readouterr()
    assert (found, said.out) == (code, "")
    assert sentence in said.err
    assert code == 2 or said.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_program_ends_with_that_code_and_no_traceback(tmp_path, nobody):
    done = subprocess.run(
        [sys.executable, FILES / "infer.py", "--image", CAT, "--url", nobody],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: Triton does not respond") and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
