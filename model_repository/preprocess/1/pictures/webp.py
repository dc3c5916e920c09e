"""Reads the structure of a WebP. Sources: RFC 9649 and, for lossy frames, RFC 6386, 9.1."""

from collections.abc import Iterator

from .exif import UPRIGHT, read_orientation
from .found import (
    MOST_PARTS,
    PictureError,
    PictureFile,
    check_size,
    cut_off,
    damaged,
    number,
    too_many_parts,
)

_FRAMES = (b"VP8 ", b"VP8L")
_ANIMATED = (b"ANIM", b"ANMF")
_HAS_ALPHA = 0x10
#: OpenCV looks at so many bytes for the kind of a file, and takes no shorter one.
_LEAST_BYTES = 32


def read(content: bytes) -> PictureFile:
    """Check a WebP; what is neither picture nor transparency is left out.

    Raises:
        PictureError: it was cut off, is damaged or animated.
    """
    chunks: dict[bytes, memoryview] = {}
    for kind, data in _chunks(content):
        if kind in _ANIMATED:
            raise PictureError("is an animated WebP; expected a still picture")
        if kind in chunks and kind in (*_FRAMES, b"VP8X", b"ALPH"):
            raise damaged("WebP", "it has several pictures")
        chunks.setdefault(kind, data)
    frames = [kind for kind in _FRAMES if kind in chunks]
    if len(frames) != 1:
        raise damaged("WebP", f"it has {'several pictures' if frames else 'no picture data'}")
    (kind,) = frames
    width, height = _size_of_lossless(chunks[kind]) if kind == b"VP8L" else _size_of(chunks[kind])
    if b"VP8X" in chunks and _canvas(chunks[b"VP8X"]) != (width, height):
        raise damaged("WebP", f"its frame of {width} x {height} pixels does not fill the picture")
    check_size(width, height)
    orientation = read_orientation(bytes(chunks[b"EXIF"])) if b"EXIF" in chunks else UPRIGHT
    return PictureFile(width, height, orientation, _without_notes(chunks, kind, width, height))


def _chunks(content: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Yield the kind and the data of each chunk."""
    place, end = 12, 8 + number(content, 4, 4, "little")
    if len(content) < end:
        raise cut_off("WebP")
    for _ in range(MOST_PARTS):
        if place >= end:
            return
        kind, size = content[place : place + 4], number(content, place + 4, 4, "little")
        if place + 8 + size > end:
            raise cut_off("WebP")
        yield kind, memoryview(content)[place + 8 : place + 8 + size]
        place += 8 + size + size % 2
    raise too_many_parts("WebP")


def _size_of(frame: memoryview) -> tuple[int, int]:
    """Return width and height of a lossy frame, which must be one that stands alone."""
    if len(frame) < 10 or frame[0] & 1 or frame[3:6] != b"\x9d\x01\x2a":
        raise damaged("WebP", "its frame has no header")
    return number(frame, 6, 2, "little") & 0x3FFF, number(frame, 8, 2, "little") & 0x3FFF


def _size_of_lossless(frame: memoryview) -> tuple[int, int]:
    """Return width and height of a lossless frame."""
    if len(frame) < 5 or frame[0] != 0x2F:
        raise damaged("WebP", "its frame has no header")
    bits = number(frame, 1, 4, "little")
    return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)


def _canvas(header: memoryview) -> tuple[int, int]:
    """Return width and height of the whole picture."""
    return 1 + number(header, 4, 3, "little"), 1 + number(header, 7, 3, "little")


def _without_notes(chunks: dict[bytes, memoryview], kind: bytes, width: int, height: int) -> bytes:
    """Return a WebP of the frame alone, with its transparency."""
    parts = [(kind, chunks[kind])]
    if kind == b"VP8 " and b"ALPH" in chunks:
        sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        header = bytes([_HAS_ALPHA, 0, 0, 0]) + sizes
        parts = [(b"VP8X", header), (b"ALPH", chunks[b"ALPH"]), *parts]
    written = [b"WEBP"]
    for name, data in parts:
        written += [name, len(data).to_bytes(4, "little"), data, bytes(len(data) % 2)]
    size = sum(map(len, written))
    return b"".join([b"RIFF", size.to_bytes(4, "little"), *written]).ljust(_LEAST_BYTES, b"\0")
