"""Pictures are turned as their camera noted, once, whatever the format."""

import io
import itertools
import struct

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from serving_kit.client.pictures import check, decode

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 3, 4), np.uint8)
#: 2 x 3 squares of 16 x 16 pixels, so that a lossy format keeps their colours.
RGBA = Image.fromarray(PIXELS.repeat(16, axis=0).repeat(16, axis=1))
RGB = RGBA.convert("RGB")
#: How a file is saved, and by how much pixels may differ.
FORMATS = {
    "JPEG": (RGB, "JPEG", {"quality": 100, "subsampling": 0}, 3),
    "grey JPEG": (RGB.convert("L"), "JPEG", {"quality": 100}, 3),
    "CMYK JPEG": (RGB.convert("CMYK"), "JPEG", {"quality": 100}, 3),
    "PNG": (RGB, "PNG", {}, 0),
    "transparent PNG": (RGBA, "PNG", {}, 0),
    "palette PNG": (RGB.quantize(6), "PNG", {}, 0),
    "16-bit PNG": (Image.fromarray(np.asarray(RGB)[..., 0].astype(np.uint16) * 257), "PNG", {}, 0),
    "lossless WebP": (RGB, "WebP", {"lossless": True}, 0),
    "lossy WebP": (RGB, "WebP", {"quality": 100}, 30),
    "transparent WebP": (RGBA, "WebP", {"lossless": True, "exact": True}, 0),
}
UPRIGHT = 1


def exif(orientation, order="<", kind=3):
    """EXIF as cameras write it: maker, orientation, resolution, in the camera's order of bytes."""
    value = struct.pack(order + ("HH" if kind == 3 else "I"), *([orientation, 0][: 5 - kind]))
    entries = [
        struct.pack(f"{order}HHI", 0x010F, 2, 4) + b"cat\0",
        struct.pack(f"{order}HHI", 0x0112, kind, 1) + value,
        struct.pack(f"{order}HHIHH", 0x0128, 3, 1, 2, 0),
    ]
    start = b"II*\0" if order == "<" else b"MM\0*"
    head = start + struct.pack(f"{order}IH", 8, len(entries))
    return b"Exif\0\0" + head + b"".join(entries) + bytes(4)


def saved(name, notes=b""):
    picture, kind, options, _ = FORMATS[name]
    file = io.BytesIO()
    picture.save(file, kind, exif=notes, **options)
    return file.getvalue()


@pytest.mark.parametrize("name", FORMATS)
def test_it_is_turned_as_noted(name):
    """Pillow turns the pixels that were decoded without a note, by its own rules."""
    upright = decode(saved(name))
    most = FORMATS[name][3]
    for orientation, order in itertools.product(range(1, 9), "<>"):
        content = saved(name, exif(orientation, order))
        assert check(content).orientation == orientation
        stored = Image.fromarray(upright)
        stored.getexif()[0x0112] = orientation
        expected = np.asarray(ImageOps.exif_transpose(stored))
        picture = decode(content)
        assert picture.shape == expected.shape
        assert cv2.absdiff(picture, np.ascontiguousarray(expected)).max() <= most


def test_a_jpegs_note_counts_wherever_it_is_and_only_the_first_one():
    plain = saved("JPEG")
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x/>"
    notes = [
        b"\xff\xe1" + struct.pack(">H", len(data) + 2) + data for data in (xmp, exif(6), exif(3))
    ]
    assert check(plain[:2] + b"".join(notes) + plain[2:]).orientation == 6


def test_a_pngs_note_may_follow_the_picture():
    content = saved("PNG", exif(8))
    place = content.index(b"eXIf") - 4
    end = place + 12 + int.from_bytes(content[place : place + 4], "big")
    moved = content[:place] + content[end:-12] + content[place:end] + content[-12:]
    assert check(moved).orientation == 8


def test_a_number_of_four_bytes_is_read():
    for order in "<>":
        assert check(saved("PNG", exif(6, order, kind=4))).orientation == 6


WHOLE = exif(6)
BROKEN = {
    "cut off in the header": WHOLE[:9],
    "cut off in the tags": WHOLE[:24],
    "another order of bytes": b"Exif\0\0XX*\0" + WHOLE[10:],
    "no TIFF": b"Exif\0\0II\0\0" + WHOLE[10:],
    "tags beyond the end": WHOLE[:10] + b"\xff\xff\xff\xff" + WHOLE[14:],
    "tags in the header": WHOLE[:10] + bytes(4) + WHOLE[14:],
    "no tags": WHOLE[:14] + bytes(2) + WHOLE[16:],
    "orientation 0": exif(0),
    "orientation 9": exif(9),
    "a number of another kind": WHOLE.replace(b"\x12\x01\x03", b"\x12\x01\x07"),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "lossy WebP"])
def test_a_broken_note_turns_nothing(kind, name):
    content = saved(kind, BROKEN[name])
    assert check(content).orientation == UPRIGHT
    assert decode(content).shape == decode(saved(kind)).shape == (32, 48, 3)
