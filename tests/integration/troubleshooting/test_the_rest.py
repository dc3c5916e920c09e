"""The messages of notebooks, pictures and styles in docs/troubleshooting.md."""

import sys

import cv2
import nbformat
import numpy as np
from provoking import provokes, raised, run

from serving_kit import exercises
from serving_kit.client.images import check_writable, decode_image, read_image, write_image
from serving_kit.errors import (
    ImageError,
    ServingKitError,
    StyleError,
)
from serving_kit.exercises import lessons
from serving_kit.paths import CAT
from serving_kit.stylenet.styles import style_index


@provokes("Not yet")
def test_not_yet(capsys):
    exercises.check("99.1", None)
    return capsys.readouterr().out


@provokes("The language is not one of the kit's")
def test_the_language_is_not_one_of_the_kits(monkeypatch):
    monkeypatch.setenv("SERVING_KIT_LANGUAGE", "fr")
    return raised(ServingKitError, exercises.check, "01.1", None)


@provokes("An earlier lesson is needed")
def test_an_earlier_lesson_is_needed(tmp_path, monkeypatch):
    monkeypatch.setattr(lessons, "NOTEBOOKS", tmp_path)
    said = []
    for name, code in (("77_fail", "1 / 0"), ("78_do_nothing", "pass")):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
        nbformat.write(notebook, tmp_path / f"{name}.ipynb")
        said.append(raised(ServingKitError, lessons.made_by, name, tmp_path / "made"))
    return said


@provokes("A picture cannot be read")
def test_a_picture_cannot_be_read(tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    command = (sys.executable, "-m", "serving_kit", "demo", "--image", tmp_path / "none.jpg")
    return [
        run(*command),
        raised(ImageError, read_image, tmp_path),
        raised(ImageError, read_image, tmp_path / "text.jpg"),
        *(raised(ImageError, decode_image, content) for content in bad_pictures()),
    ]


def bad_pictures():
    """Yield a picture for each sentence of the rules for pictures."""
    pixels = np.full((30, 40, 3), 99, np.uint8)
    jpeg, png = (cv2.imencode(ending, pixels)[1].tobytes() for ending in (".jpg", ".png"))
    tables, frame, scan = (jpeg.index(bytes([0xFF, marker])) for marker in (0xDB, 0xC0, 0xDA))
    yield b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    yield png[:33] + bytes(3) + b"\x08acTL" + bytes(12) + png[33:]
    yield b"RIFF\x0c\0\0\0WEBPANIM" + bytes(4)
    yield jpeg[: len(jpeg) // 2]
    yield png[:33] + png[-12:]
    yield jpeg[: tables + 4] + b"\x0f" + jpeg[tables + 5 :]
    yield jpeg[: frame + 1] + b"\xc3" + jpeg[frame + 2 :]
    yield jpeg[: frame + 4] + b"\x0c" + jpeg[frame + 5 :]
    for width, height in ((60_000, 60_000), (65_501, 1), (0, 5)):
        yield png[:16] + width.to_bytes(4, "big") + height.to_bytes(4, "big") + png[24:]
    yield jpeg[:scan] + (jpeg[scan : scan + 14] + b"\0") * 101 + jpeg[scan:]
    yield png[:33] + (bytes(4) + b"tEXt" + bytes(4)) * 100_001 + png[33:]


@provokes("A picture cannot be written")
def test_a_picture_cannot_be_written(tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    paths = (tmp_path / "x.picture", tmp_path / "folder.jpg", tmp_path / "none" / "x.jpg")
    said = [raised(ImageError, check_writable, path) for path in paths]
    (tmp_path / "full.png").symlink_to("/dev/full")
    return [*said, raised(ImageError, write_image, tmp_path / "full.png", read_image(CAT))]


@provokes("A style does not exist")
def test_a_style_does_not_exist():
    return [raised(StyleError, style_index, style) for style in ("starry_nigt", 26)]
