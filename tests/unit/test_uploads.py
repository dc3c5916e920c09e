"""The size in a picture's header, as OpenCV's decoders see it; and what is turned away by it."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from serving_kit.errors import ImageError, TooLargeError
from serving_kit.images import decode_image
from serving_kit.paths import CAT
from serving_kit.uploads import MAX_BYTES, check_upload, picture_size

PICTURE = np.random.default_rng(0).integers(0, 256, (30, 47, 3), np.uint8)


def pillow(form, mode="RGB", **options):
    buffer = io.BytesIO()
    Image.fromarray(PICTURE).convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


def opencv(ending, *options):
    return cv2.imencode(ending, PICTURE, options)[1].tobytes()


THUMBNAIL = opencv(".jpg")
KINDS = {
    "jpeg": opencv(".jpg"),
    "progressive jpeg": opencv(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "jpeg with restarts": opencv(".jpg", cv2.IMWRITE_JPEG_RST_INTERVAL, 1),
    "grey jpeg": pillow("JPEG", "L"),
    "cmyk jpeg": pillow("JPEG", "CMYK"),
    "jpeg with a picture in its head": pillow("JPEG", exif=b"Exif\0\0" + THUMBNAIL[:5000]),
    "jpeg with filling": THUMBNAIL[:2] + b"\xff\xff" + THUMBNAIL[2:],
    "png": opencv(".png"),
    "palette png": pillow("PNG", "P"),
    "interlaced png": pillow("PNG", "RGBA"),
    "animated png": pillow("PNG", save_all=True, append_images=[Image.fromarray(PICTURE[:9])]),
    "lossy webp": opencv(".webp", cv2.IMWRITE_WEBP_QUALITY, 50),
    "lossless webp": opencv(".webp", cv2.IMWRITE_WEBP_QUALITY, 101),
    "webp with alpha": pillow("WEBP", "RGBA"),
    "animated webp": pillow("WEBP", save_all=True, append_images=[Image.fromarray(255 - PICTURE)]),
    "webp with exif": pillow("WEBP", exif=b"Exif\0\0" + b"x" * 9),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_header_says_what_the_decoder_makes(kind):
    height, width = decode_image(KINDS[kind]).shape[:2]
    assert (width, height) == (47, 30)
    assert picture_size(KINDS[kind]) == (width, height)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_header_has_no_size_or_the_right_one(kind):
    for length in range(0, 200):
        assert picture_size(KINDS[kind][:length]) in (None, (47, 30))


def png_head(width, height):
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))


JPEG_HEAD = b"\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff\x03\1\x11\0\2\x11\0\3\x11\0"
BOMBS = {
    "png": (png_head(1_000_000, 1_000_000), "1000000 x 1000000"),
    "jpeg": (JPEG_HEAD, "65535 x 65535"),
    "webp": (
        b"RIFF\0\1\0\0WEBPVP8X\n\0\0\0\0\0\0\0" + b"\xff" * 6 + b"\0" * 99,
        "16777216 x 16777",
    ),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_too_many_pixels_are_refused_before_decoding(tmp_path, kind):
    content, size = BOMBS[kind]
    (tmp_path / "bomb").write_bytes(content)
    with pytest.raises(TooLargeError, match=f"bomb has {size}.* pixels, more than the 50 million"):
        check_upload(tmp_path / "bomb")


def test_too_many_bytes_are_refused(tmp_path):
    with (tmp_path / "long.png").open("wb") as file:
        file.write(KINDS["png"])
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(TooLargeError, match=r"long\.png is larger than 20 MB; give a smaller"):
        check_upload(tmp_path / "long.png")


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"GIF89a" + bytes(99), b"BM" + bytes(99), b"<svg/>", b"\xff\xd8", b"II*\0",
     b"\x89PNG\r\n\x1a\n" + bytes(99), b"RIFF\0\0\0\0WEBPABCD" + bytes(99)],
)  # fmt: skip
def test_what_is_no_picture_is_refused(tmp_path, content):
    (tmp_path / "file.png").write_bytes(content)
    with pytest.raises(ImageError, match=r"file\.png is not a JPEG, PNG or WebP picture; save it"):
        check_upload(tmp_path / "file.png")


def test_what_is_not_there_or_no_file(tmp_path):
    with pytest.raises(ImageError, match="there is no file"):
        check_upload(tmp_path / "none.jpg")
    with pytest.raises(ImageError, match="is a folder or a device"):
        check_upload("/dev/zero")


def test_a_good_one_passes():
    check_upload(CAT)
