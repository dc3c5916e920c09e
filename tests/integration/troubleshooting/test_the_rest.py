"""The messages of notebooks, pictures and styles in docs/troubleshooting.md."""

import sys
import zlib

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
    import cv2

    _, floats = cv2.imencode(".tiff", np.ones((4, 4, 3), np.float32))
    _, png = cv2.imencode(".png", np.ones((4, 4, 3), np.uint8))
    header = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + png.tobytes()[24:29]
    huge = png.tobytes()[:12] + header + zlib.crc32(header).to_bytes(4, "big") + png.tobytes()[33:]
    (tmp_path / "text.jpg").write_text("no picture")
    command = (sys.executable, "-m", "serving_kit", "demo", "--image", tmp_path / "none.jpg")
    return [
        run(*command),
        raised(ImageError, read_image, tmp_path),
        raised(ImageError, read_image, tmp_path / "text.jpg"),
        raised(ImageError, decode_image, huge),
        raised(ImageError, decode_image, floats.tobytes()),
    ]


@provokes("A picture cannot be written")
def test_a_picture_cannot_be_written(tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    paths = (tmp_path / "x.picture", tmp_path / "folder.jpg", tmp_path / "none" / "x.jpg")
    said = [raised(ImageError, check_writable, path) for path in paths]
    (tmp_path / "full.png").symlink_to("/dev/full")
    return [*said, raised(ImageError, write_image, tmp_path / "full.png", read_image(CAT))]


@provokes("A style that does not exist")
def test_a_style_that_does_not_exist():
    return [raised(StyleError, style_index, style) for style in ("starry_nigt", 26)]
