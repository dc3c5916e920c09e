"""Pictures of strangers: how large one is, told from its first bytes, before it is decoded.

A file of a few kB can name billions of pixels. So what comes from a web page is looked at here
first; and only the three formats that cameras and browsers write are taken, whose headers are
read below as OpenCV's decoders read them.
"""

from pathlib import Path

from serving_kit.errors import ImageError, TooLargeError

#: 50 million pixels is the largest picture of most phones; decoded it takes 150 MB.
MAX_PIXELS = 50_000_000
MAX_BYTES = 20_000_000

PNG_START = b"\x89PNG\r\n\x1a\n"
#: Start-of-frame markers of JPEG: C0 to CF, without those of tables (C4, CC) and JPG (C8).
JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
#: JPEG markers that stand alone: TEM, RST0 to RST7, SOI.
JPEG_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})


def check_upload(path: str | Path) -> None:
    """Check that a file may be decoded: a JPEG, PNG or WebP picture within the limits.

    Raises:
        ImageError: it cannot be read, or is none of these; TooLargeError: it is larger than
            ``MAX_BYTES`` or ``MAX_PIXELS``.
    """
    path = Path(path)
    if not path.exists():
        raise ImageError(f"there is no file {path}; give the path of a picture")
    if not path.is_file():
        raise ImageError(f"{path} is a folder or a device; give the path of a picture")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise TooLargeError(
            f"{path} is larger than {MAX_BYTES // 1_000_000} MB; give a smaller picture"
        )
    size = picture_size(content)
    if size is None:
        raise ImageError(f"{path} is not a JPEG, PNG or WebP picture; save it as one of these")
    width, height = size
    if width * height > MAX_PIXELS:
        raise TooLargeError(
            f"{path} has {width} x {height} pixels, more than the {MAX_PIXELS // 1_000_000} "
            "million that are taken; give a smaller picture"
        )


def picture_size(content: bytes) -> tuple[int, int] | None:
    """Return width and height as the header of a JPEG, PNG or WebP file gives them.

    Returns:
        None where it is no such file, or ends before it says its size.
    """
    if content.startswith(b"\xff\xd8"):
        return _jpeg_size(content)
    if content.startswith(PNG_START) and content[12:16] == b"IHDR" and len(content) >= 24:
        return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP" and len(content) >= 30:
        return _webp_size(content)
    return None


def _jpeg_size(content: bytes) -> tuple[int, int] | None:
    """Walk over the segments of a JPEG to its frame; thumbnails lie inside of segments."""
    at = 2
    while (at := content.find(b"\xff", at)) >= 0:
        # Any number of FF may stand before the marker's own byte.
        while content[at : at + 1] == b"\xff":
            at += 1
        segment = content[at : at + 8]
        if len(segment) < 8:
            return None
        if segment[0] in JPEG_FRAMES:
            return int.from_bytes(segment[6:8], "big"), int.from_bytes(segment[4:6], "big")
        at += 1
        # FF 00 is no marker: the decoder, too, passes over what does not belong there.
        if segment[0] and segment[0] not in JPEG_ALONE:
            at += int.from_bytes(segment[1:3], "big")
    return None


def _webp_size(content: bytes) -> tuple[int, int] | None:
    """Read the first chunk of a WebP: extended, lossless, or lossy (RFC 9649)."""
    chunk, data = content[12:16], content[20:]
    if chunk == b"VP8X":
        return 1 + int.from_bytes(data[4:7], "little"), 1 + int.from_bytes(data[7:10], "little")
    if chunk == b"VP8L":
        bits = int.from_bytes(data[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 " and data[3:6] == b"\x9d\x01\x2a":
        # The two upper bits are a hint how to scale what is shown.
        width, height = (int.from_bytes(data[i : i + 2], "little") for i in (6, 8))
        return width & 0x3FFF, height & 0x3FFF
    return None
