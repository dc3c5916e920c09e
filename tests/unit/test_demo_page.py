"""The parts of the demo's page that need neither Triton nor a browser."""

import importlib
import os
import re
import socket
import string
import sys
import time

import pytest

from serving_kit.paths import ROOT
from serving_kit.stylenet.styles import STYLES

FILES = ROOT / "demo.zip-builder" / "files"
NAMES = ("painter", "scratch", "server", "words")


@pytest.fixture
def part(monkeypatch):
    """Imports a module of the page, which lives in no package."""
    monkeypatch.syspath_prepend(FILES)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield importlib.import_module
    for name in (*NAMES, "infer"):
        sys.modules.pop(name, None)


@pytest.fixture
def scratch(part, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    scratch = part("scratch").Scratch(keep_seconds=100)
    yield scratch
    if scratch.folder.exists():
        scratch.close()


def write(file, age=0, size=1):
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(bytes(size))
    then = time.time() - age
    os.utime(file, (then, then))
    os.utime(file.parent, (then, then))
    return file


def test_old_files_go_with_their_folders_and_young_ones_stay(scratch):
    old = write(scratch.folder / "old" / "a.jpg", age=1000)
    young = write(scratch.folder / "young" / "a.jpg", age=50)
    scratch.tidy()
    assert not old.exists()
    os.utime(old.parent, (0, 0))  # the folder has changed just now, and waits its time
    scratch.tidy()
    assert (old.parent.exists(), young.exists()) == (False, True)


def test_what_is_there_at_the_start_stays(scratch):
    example = write(scratch.folder / "example" / "cat.jpg", age=1000)
    scratch.start()
    scratch.tidy()
    assert example.exists()


def test_the_oldest_go_when_there_is_too_much(scratch, part, monkeypatch):
    monkeypatch.setattr(part("scratch"), "MAX_BYTES", 10_000)
    files = [write(scratch.folder / f"{age}.jpg", age, size=4000) for age in (10, 20, 30)]
    os.utime(scratch.folder)
    scratch.tidy()
    assert [file.exists() for file in files] == [True, True, False]


def test_folders_of_the_dead_are_swept_and_of_the_living_are_not(scratch, part, tmp_path):
    dead = tmp_path / "oneflow-demo-dead"
    dead.mkdir()
    (dead / ".lock").touch()
    write(dead / "photo" / "a.jpg")
    other = tmp_path / "somebody-else"
    other.mkdir()
    part("scratch").sweep()
    assert (dead.exists(), scratch.folder.exists(), other.exists()) == (False, True, True)


def test_at_the_end_nothing_is_left_and_nobody_writes_into_it(scratch, tmp_path):
    folder = scratch.new_folder()
    scratch.close()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError):
        write(folder / "late.jpg")


@pytest.mark.parametrize(
    ("accept", "language"),
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("zh-TW", "zh"),
        ("en-US,en;q=0.9,zh;q=0.8", "en"),
        ("fr-FR,fr;q=0.9,zh;q=0.5,en;q=0.4", "zh"),
        ("de", "en"),
        ("", "en"),
        ("*;q=x, ,;q=", "en"),
        ("en;q=0.1,ZH", "zh"),
    ],
)
def test_the_language_is_the_browsers(part, accept, language):
    assert part("words").language_of(accept) == language


def test_every_style_and_word_is_there_in_both_languages(part):
    words = part("words")
    assert tuple(words.STYLE_WORDS) == STYLES
    for key, (english, chinese) in (words.WORDS | words.STYLE_WORDS).items():
        assert english.isascii() or "…" in english, key
        assert not chinese.isascii(), key
        fields = [
            {field for _, field, _, _ in string.Formatter().parse(text) if field}
            for text in (english, chinese)
        ]
        assert fields[0] == fields[1], key


def test_every_word_is_said_somewhere(part):
    """Neither a key that is missing nor one that nobody needs."""
    code = "".join((FILES / f"{name}.py").read_text() for name in ("page", "painter"))
    for key in part("words").WORDS:
        assert re.search(rf"""["']{key}["']""", code), key


@pytest.mark.parametrize(
    ("wanted", "shares"),
    [
        (("red_ember", "golden_ink", 0), {"red_ember": 1}),
        (("red_ember", "golden_ink", 25), {"red_ember": 0.75, "golden_ink": 0.25}),
        (("red_ember", "golden_ink", 100), {"golden_ink": 1}),
        (("red_ember", "golden_ink", 1e9), {"golden_ink": 1}),
        (("red_ember", "golden_ink", -5), {"red_ember": 1}),
        (("red_ember", "red_ember", 30), {"red_ember": 1}),
    ],
)
def test_shares_of_two_styles(part, wanted, shares):
    assert part("painter").shares_of(*wanted) == shares


@pytest.mark.parametrize(
    "wanted",
    [
        ("red", "golden_ink", 0), (None, "golden_ink", 0), ("red_ember", ["golden_ink"], 0),
        ({}, "golden_ink", 0), ("red_ember", "golden_ink", "50"), ("red_ember", "golden_ink", None),
        ("red_ember", "golden_ink", float("nan")),
    ],
)  # fmt: skip
def test_nonsense_is_no_style(part, wanted):
    with pytest.raises(part("painter").PageError, match="no such style"):
        part("painter").shares_of(*wanted)


def test_look_and_script_name_no_other_host():
    for name in ("page.css", "page.js"):
        assert not re.search(r"https?:|//[a-z]+\.", (FILES / name).read_text()), name


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_page_without_a_port_takes_a_free_one_where_the_usual_one_is_taken(
    part, monkeypatch, host
):
    server = part("server")
    family = socket.AF_INET6 if host == "::1" else socket.AF_INET
    with socket.create_server((host, 0), family=family) as other:
        taken = other.getsockname()[1]
        monkeypatch.setattr(server, "PORT", taken)
        with server.listen(host, None) as listening:
            assert listening.getsockname()[1] not in (0, taken)
        with pytest.raises(OSError, match="in use"):
            server.listen(host, taken)
