"""The checks of lesson 12's exercises: right answers pass, wrong ones get a sentence that helps."""

import hashlib
import io
import uuid
import zipfile
from pathlib import Path

import pytest

# 12.1


def pack(
    content, order=sorted, time=(1980, 1, 1, 0, 0, 0), compression=zipfile.ZIP_DEFLATED, mode=None
):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        for name in order(content):
            info = zipfile.ZipInfo(name, time)
            info.compress_type = compression
            mode_of = mode or (0o100755 if name.endswith(".sh") else 0o100644)
            info.external_attr = mode_of << 16
            packed.writestr(info, content[name])
    return file.getvalue()


def as_most_do(content, order=sorted):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        for name in order(content):
            packed.writestr(name, content[name])
    return file.getvalue()


def not_closed(content):
    file = io.BytesIO()
    packed = zipfile.ZipFile(file, "w")
    packed.writestr("run.sh", content["run.sh"])
    return file.getvalue()


def with_a_comment(content):
    file = io.BytesIO(pack(content))
    with zipfile.ZipFile(file, "a") as packed:
        packed.comment = uuid.uuid4().bytes
    return file.getvalue()


def test_a_zip_that_is_always_the_same(verdict):
    assert verdict("12.1", pack).startswith("Right! ")


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda content: as_most_do(content, list), "the same dict in another order gave other"),
        (as_most_do, "tomorrow the bytes will be others"),
        (lambda content: pack(content, mode=0o100600), "the mode of README.md is 600; 644 lets"),
        (lambda content: pack(content, mode=0o100644), "the mode of run.sh is 644; 755 lets every"),
        (lambda content: pack(content, compression=0), "they are stored, not compressed"),
        (with_a_comment, "the bytes were others at a second call"),
        (lambda content: pack(dict(list(content.items())[1:])), "README.md is not in the zip"),
        (lambda content: pack(content | {"README.md": b""}), "README.md has other bytes in the"),
        (lambda content: pack(content | {"more": b""}), "entries for"),
        (not_closed, "Were they taken before the ZipFile was closed?"),
        (lambda content: None, "it returned None; the bytes of a zip file are asked for"),
        (lambda content: content["run"], "your function raised KeyError: 'run'"),
    ],
)
def test_hints_on_the_zip(verdict, answer, hint):
    told = verdict("12.1", answer)
    assert told.startswith("Not yet: ") and hint in told


# 12.2


def find_damage(folder, split=lambda line: (line[:64], line[66:])):
    damaged, missing = [], []
    for line in (Path(folder) / "SHA256SUMS").read_text().splitlines():
        expected, name = split(line)
        file = Path(folder) / name
        if not file.exists():
            missing.append(name)
        elif hashlib.sha256(file.read_bytes()).hexdigest() != expected:
            damaged.append(name)
    return damaged, missing


def first_only(folder):
    return tuple(names[:1] for names in find_damage(folder))


def missing_is_damaged(folder):
    damaged, missing = find_damage(folder)
    return damaged + missing, missing


def no_sums(folder):
    return [], [name for name in ("styles.jpg", "model.py") if not (Path(folder) / name).exists()]


def test_what_is_damaged_and_what_is_missing(verdict):
    assert verdict("12.2", find_damage).startswith("Right! ")
    assert verdict("12.2", lambda folder: list(map(set, find_damage(folder)))).startswith("Right! ")


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (
            lambda folder: ([], []),
            "one bit of two of them was flipped: damaged are none; expected 'backends/oneflow/model"
            ".py', 'styles.jpg'",
        ),
        (first_only, "damaged are 'backends/oneflow/model.py'; expected"),
        (missing_is_damaged, "two are gone: damaged are 'backends/oneflow/model.py', 'my photo"),
        (no_sums, "none was touched: missing are 'model.py'; expected none"),
        (
            lambda folder: find_damage(folder, lambda line: line.split()[:2]),
            "none was touched: missing are 'my'; expected none",
        ),
        (lambda folder: find_damage(folder, str.split), "raised ValueError: too many values"),
        (lambda folder: find_damage(folder, lambda line: ("", line[66:])), " more; expected none"),
        (lambda folder: True, "it returned a bool; two lists are asked for"),
        (lambda folder: ("styles.jpg", []), "damaged shall be a list of names"),
        (lambda folder: ([folder], []), "damaged shall be a list of names"),
    ],
)
def test_hints_on_damage(verdict, answer, hint):
    told = verdict("12.2", answer)
    assert told.startswith("Not yet: ") and hint in told
