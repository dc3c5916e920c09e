"""What cameras and programs add to a picture's file changes nothing, and costs nothing."""

import zlib

import numpy as np
import pytest
from picture_bytes import (
    DATA,
    END,
    GREY,
    HALVES,
    JPEG,
    ROWS,
    ZEROS,
    before_frame,
    chunk,
    png,
    saved,
    segment,
)

from serving_kit.client.pictures import check, decode

CAMERAS = {
    "a thumbnail in its notes": before_frame(segment(0xE1, b"Exif\0\0" + JPEG)),
    "XMP before EXIF, a profile, a comment": before_frame(
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>") + segment(0xE1, b"Exif\0\0")
        + segment(0xE2, b"ICC_PROFILE\0") + segment(0xFE, b"by me")
    ),
    "a second picture behind it (MPF, Ultra HDR)": JPEG + saved("JPEG", mode="L"),
    "a film behind it (motion photo)": JPEG + b"\0\0\0\x18ftypmp42" + bytes(1000),
    "a maker's notes behind it": JPEG + b"SEFH" + bytes(64) + b"SEFT",
    "fillings before its markers": before_frame(b"\xff" * 5).replace(b"\xff\xda", b"\xff\xff\xda"),
    "something between its segments": before_frame(b"\0\0\0"),
    "a marker without a length": before_frame(b"\xff\x01"),
}  # fmt: skip


@pytest.mark.parametrize("name", CAMERAS)
def test_what_cameras_and_phones_add_changes_nothing(name):
    assert np.array_equal(decode(CAMERAS[name]), decode(JPEG))


@pytest.mark.parametrize("marker", [0xE1, 0xE2, 0xFE])
def test_notes_of_a_jpeg_do_not_reach_the_decoder(marker):
    assert check(before_frame(segment(marker, b"secret"))).content == check(JPEG).content


PNGS = {
    "something behind it": png(DATA, END, b"\x7f\xff\xff\xfftEXt", bytes(1000)),
    "data in halves": png(*HALVES, END),
    "some bytes more": png(chunk(b"IDAT", zlib.compress(zlib.decompress(ROWS) + bytes(999))), END),
    "an empty piece of data": png(chunk(b"IDAT"), DATA, END),
    "texts and profiles that unpack to much": png(
        chunk(b"zTXt", b"a\0\0" + ZEROS), chunk(b"iTXt", b"a\0\1\0\0\0" + ZEROS),
        chunk(b"iCCP", b"a\0\0" + ZEROS), DATA, chunk(b"zTXt", b"b\0\0" + ZEROS), END,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PNGS)
def test_what_a_png_has_beside_its_pixels_changes_nothing(name):
    assert np.array_equal(decode(PNGS[name]), np.dstack([GREY] * 3))
    assert b"zTXt" not in check(PNGS[name]).content


@pytest.mark.parametrize(("width", "height"), [(60, 40), (1, 1), (3, 9), (5, 2)])
def test_interlaced(width, height):
    pixels = GREY[:height, :width]
    rows = b"".join(
        b"\0" + row.tobytes()
        for y, x, down, right in (
            (0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
            (1, 0, 2, 1),
        )
        for row in pixels[y::down, x::right] if row.size
    )  # fmt: skip
    data = chunk(b"IDAT", zlib.compress(rows))
    content = png(data, END, width=width, height=height, interlaced=1)
    assert np.array_equal(decode(content), np.dstack([pixels] * 3))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_grey_that_is_transparent_is_laid_on_white(bits):
    values = (np.arange(48) % (1 << bits)).astype(np.uint8).reshape(3, 16)
    packed = np.packbits(
        np.unpackbits(values[..., None], axis=2)[..., -bits:].reshape(3, -1), axis=1
    )
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in packed))
    parts = (chunk(b"tRNS", b"\0\1"), chunk(b"IDAT", rows), END)
    expected = values * (255 // ((1 << bits) - 1))
    expected[values == 1] = 255
    picture = decode(png(*parts, width=16, height=3, bits=bits))
    assert np.array_equal(picture, np.dstack([expected] * 3))


@pytest.mark.parametrize("lossless", [False, True])
def test_notes_of_a_webp_do_not_reach_the_decoder(lossless):
    plain = saved("WebP", mode="RGBA", lossless=lossless)
    noted = saved("WebP", mode="RGBA", lossless=lossless, icc_profile=bytes(500), xmp=b"<x/>")
    assert check(noted).content == check(plain).content != noted
    assert np.array_equal(decode(noted), decode(plain))
