"""The rules for a stranger's picture: what is taken, and one sentence for all that is not."""

import io
import itertools
import random
import re
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from picture_bytes import chunk, saved
from PIL import Image

from serving_kit.client import pictures
from serving_kit.client.pictures import PictureError, check, decode, found, result_size
from serving_kit.client.pictures.found import MOST_PARTS
from serving_kit.client.pictures.jpeg import MOST_SCANS
from serving_kit.paths import MODEL_REPOSITORY

SVG = b'<?xml version="1.0"?>\n<!-- a dot -->\n<svg xmlns="http://www.w3.org/2000/svg"><g/></svg>'


def animated(kind):
    frames = [Image.new("RGB", (60, 40), colour) for colour in ("red", "blue")]
    file = io.BytesIO()
    frames[0].save(file, kind, save_all=True, append_images=frames[1:])
    return file.getvalue()


def png(width, height, *chunks):
    """A PNG that has, as far as its structure tells, as much data as it says."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    data = chunk(b"IDAT", bytes(width * height // 1000))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + data + chunk(b"IEND")


TAKEN = {
    "JPEG": saved("JPEG"),
    "progressive JPEG": saved("JPEG", progressive=True),
    "JPEG with restarts": saved("JPEG", restart_marker_blocks=1),
    "grey JPEG": saved("JPEG", mode="L"),
    "CMYK JPEG": saved("JPEG", mode="CMYK"),
    "JPEG with a thumbnail": saved("JPEG", exif=b"Exif\0\0" + saved("JPEG", (16, 16))),
    "JPEG and something behind it": saved("JPEG") + b"\0" * 100,
    "PNG": saved("PNG"),
    "palette PNG": saved("PNG", mode="P"),
    "transparent PNG": saved("PNG", mode="RGBA"),
    "lossy WebP": saved("WebP"),
    "lossless WebP": saved("WebP", lossless=True),
    "transparent WebP": saved("WebP", mode="RGBA", exif=b"Exif\0\0"),
}
REFUSED = {
    "is empty; expected a JPEG, PNG or WebP": b"",
    "is text; expected a JPEG, PNG or WebP": b"not a picture",
    "is of an unknown format; expected a JPEG, PNG or WebP": random.Random(0).randbytes(10_000),
    "is a GIF; expected a JPEG, PNG or WebP": saved("GIF"),
    "is a BMP; expected a JPEG, PNG or WebP": saved("BMP"),
    "is a TIFF; expected a JPEG, PNG or WebP": saved("TIFF"),
    "is a PDF; expected a JPEG, PNG or WebP": saved("PDF"),
    "is an AVIF; expected a JPEG, PNG or WebP": b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif",
    "is a film; expected a JPEG, PNG or WebP": b"\0\0\0\x18ftypmp42\0\0\0\0isommp42",
    "is an SVG; expected a JPEG, PNG or WebP": SVG,
    "is an animated PNG; expected a still picture": animated("PNG"),
    "is an animated WebP; expected a still picture": animated("WebP"),
    "has 0 x 5 pixels; expected 1 or more in each direction": png(0, 5),
    "has 30000 x 20000 pixels, 600 million; expected 52 million at most": png(30_000, 20_000),
    "has 65501 x 1 pixels; expected 65500 at most in each direction": png(65_501, 1),
}


@pytest.mark.parametrize("name", TAKEN)
def test_a_good_picture_is_taken(name):
    check(TAKEN[name])
    assert decode(TAKEN[name]).shape == (40, 60, 3)


@pytest.mark.parametrize("sentence", REFUSED)
def test_a_bad_one_is_refused_with_one_sentence(sentence):
    with pytest.raises(PictureError) as refused:
        check(REFUSED[sentence])
    assert str(refused.value) == sentence


@pytest.mark.parametrize("name", TAKEN)
def test_width_and_height_are_read_before_decoding(name, monkeypatch):
    monkeypatch.setattr(found, "MOST_PIXELS", 60 * 40 - 1)
    with pytest.raises(PictureError, match="has 60 x 40 pixels"):
        check(TAKEN[name])


@pytest.mark.parametrize("name", [name for name in TAKEN if "behind" not in name])
def test_a_picture_that_was_cut_off_is_refused_wherever_it_was_cut(name):
    whole = TAKEN[name]
    for length in {*range(1, 40), *range(40, len(whole), 37), len(whole) - 1}:
        with pytest.raises(PictureError):
            check(whole[:length])
    kind = name.split()[-1] if name.split()[-1] in ("JPEG", "PNG", "WebP") else "JPEG"
    with pytest.raises(
        PictureError, match=f"is a {kind} that was cut off; expected a complete file"
    ):
        check(whole[: len(whole) // 2])


def test_whatever_is_damaged_gives_a_picture_or_a_sentence():
    chance = random.Random(1)
    for content, _ in itertools.product(TAKEN.values(), range(40)):
        damaged = bytearray(content)
        for _ in range(chance.randrange(1, 6)):
            damaged[chance.randrange(min(len(damaged), 200))] = chance.randrange(256)
        try:
            check(bytes(damaged))
            decode(bytes(damaged))
        except PictureError as error:
            assert re.match(r"(is|has|cannot be) ", str(error))


def test_a_jpeg_of_very_many_scans_is_refused():
    content = TAKEN["progressive JPEG"]
    start = content.index(b"\xff\xda")
    scan = content[start : content.index(b"\xff", start + 20)]
    check(content[:start] + scan * 50 + content[start:])
    with pytest.raises(PictureError, match=f"more than {MOST_SCANS} scans; expected about ten"):
        check(content[:start] + scan * 101 + content[start:])


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xd8" + b"\xff\xe0\0\2" * (MOST_PARTS + 1),
        png(5, 5, *[chunk(b"tEXt")] * MOST_PARTS),
    ],
)
def test_a_file_of_very_many_parts_is_refused(content):
    with pytest.raises(PictureError, match="with more than 100,000 parts; expected a few"):
        check(content)


def test_every_colour_of_every_transparency_is_laid_on_white():
    """As many rows as two parts have; NumPy's floats are the reference."""
    colour, alpha = np.indices((256, 256), np.uint8)
    pixels = np.dstack([colour, colour, 255 - colour, alpha]).repeat(2, axis=0)
    share = pixels[..., 3:] / 255
    expected = (pixels[..., :3] * share + 255 * (1 - share)).round().astype(np.uint8)
    content = cv2.imencode(".png", pixels)[1].tobytes()
    assert np.array_equal(decode(content), expected)


@pytest.mark.parametrize(
    ("size", "result"),
    [
        ((451, 300), (451, 300)),
        ((4032, 3024), (4032, 3024)),
        ((8000, 6000), (4096, 3072)),
        ((6000, 8000), (3072, 4096)),
        ((20_000, 10), (4096, 2)),
        ((20_000, 1), (4096, 1)),
        ((2**31 - 1, 2**31 - 1), (4096, 4096)),
    ],
)
def test_a_result_has_the_pictures_size_up_to_a_limit(size, result):
    assert result_size(*size) == result


def test_a_result_without_a_size_is_refused():
    with pytest.raises(
        PictureError, match="has 5 x -1 pixels; expected 1 or more in each direction"
    ):
        result_size(5, -1)


def test_the_rules_have_one_home():
    home = MODEL_REPOSITORY / "preprocess" / "1" / "pictures"
    assert not home.is_symlink()  # Triton serves it where the kit is not installed
    for link in (MODEL_REPOSITORY / "postprocess/1/pictures", Path(pictures.__file__).parent):
        assert link.is_symlink() and link.samefile(home)
