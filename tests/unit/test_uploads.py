"""What a stranger may hand in; the rules for the picture itself are test_pictures.py's."""

import re
import struct
import zlib

import pytest

from serving_kit.client.uploads import MAX_BYTES, check_upload
from serving_kit.errors import ImageError, TooLargeError
from serving_kit.paths import CAT


def png(width, height):
    def chunk(kind, data=b""):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IEND")


def test_too_many_pixels_are_refused_before_decoding(tmp_path):
    (tmp_path / "bomb").write_bytes(png(1_000_000, 1_000_000))
    with pytest.raises(TooLargeError, match=r"bomb has 1000000 x 1000000 .*; give a smaller pict"):
        check_upload(tmp_path / "bomb")


def test_too_many_bytes_are_refused(tmp_path):
    with (tmp_path / "long.png").open("wb") as file:
        file.write(png(3, 3))
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(TooLargeError, match=r"long\.png is larger than 20 MB; give a smaller"):
        check_upload(tmp_path / "long.png")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty; expected a JPEG, PNG or WebP"),
        (b"GIF89a" + bytes(99), "is a GIF; expected a JPEG, PNG or WebP"),
        (CAT.read_bytes()[:9000], "is a JPEG that was cut off; expected a complete file"),
    ],
)
def test_what_is_no_picture_is_refused(tmp_path, content, said):
    (tmp_path / "file.png").write_bytes(content)
    with pytest.raises(ImageError, match=re.escape(f"file.png {said}")) as caught:
        check_upload(tmp_path / "file.png")
    assert not isinstance(caught.value, TooLargeError)


def test_what_is_not_there_or_no_file(tmp_path):
    with pytest.raises(ImageError, match="there is no file"):
        check_upload(tmp_path / "none.jpg")
    with pytest.raises(ImageError, match="is a folder or a device"):
        check_upload("/dev/zero")


def test_a_good_one_passes():
    check_upload(CAT)
