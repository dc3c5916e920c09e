"""Reads the structure of a PNG. Source: PNG Specification, third edition (W3C, 2025)."""

import struct
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

#: By colour type: values a pixel, and the bits that each may have.
_COLOURS = {
    0: (1, (1, 2, 4, 8, 16)),
    2: (3, (8, 16)),
    3: (1, (1, 2, 4, 8)),
    4: (2, (8, 16)),
    6: (4, (8, 16)),
}
_PALETTE = 3
#: Deflate makes no more than 258 bytes of 2 bits (RFC 1951, 3.2.5).
_MOST_INFLATED = 1032
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = bytes(4) + b"IEND\xae\x42\x60\x82"
#: Before the picture data, once each.
_BEFORE = {b"IHDR", b"PLTE", b"tRNS"}
#: What decoding needs.
_NEEDED = _BEFORE | {b"IDAT"}


def read(content: bytes) -> PictureFile:
    """Check a PNG, up to its end chunk; what lies behind it is left out.

    Of the other chunks only palette and transparency are kept: texts, profiles and whatever else
    may be compressed is never unpacked.

    Raises:
        PictureError: it was cut off, is damaged or animated.
    """
    parts, seen, last, data, orientation = [_SIGNATURE], set(), b"", 0, UPRIGHT
    for kind, place, end in _chunks(content):
        _check_order(kind, seen, last)
        if kind in _NEEDED:
            parts.append(content[place:end])
        if kind == b"IDAT":
            data += end - place - 12
        if kind == b"eXIf":
            orientation = read_orientation(content[place + 8 : end - 4])
        seen.add(kind)
        last = kind
    if not seen or len(parts[1]) != 25:
        raise damaged("PNG", "it has no header")
    width, height = _read_header(parts[1], b"PLTE" in seen, data)
    return PictureFile(width, height, orientation, b"".join([*parts, _END]))


def _check_order(kind: bytes, seen: set[bytes], last: bytes) -> None:
    """Check that a chunk may stand behind all that were seen, the last of them just before it."""
    if kind == b"acTL":
        raise PictureError("is an animated PNG; expected one that stands still")
    if kind not in _NEEDED and kind[:1].isupper():
        raise damaged("PNG", f"{_name(kind)} is unknown")
    is_late = kind in _BEFORE and seen & {kind, b"IDAT"}
    is_scattered = kind == b"IDAT" and kind in seen and kind != last
    if bool(seen) == (kind == b"IHDR") or is_late or is_scattered:
        raise damaged("PNG", f"{_name(kind)} is out of place")


def _chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind of each chunk before the end chunk, where it begins and where it ends."""
    place = len(_SIGNATURE)
    for _ in range(MOST_PARTS):
        kind, end = content[place + 4 : place + 8], place + 12 + number(content, place, 4)
        if len(kind) < 4 or end > len(content):
            raise cut_off("PNG")
        if kind == b"IEND":
            return
        yield kind, place, end
        place = end
    raise too_many_parts("PNG")


def _name(kind: bytes) -> str:
    return f"its part {kind.decode('ascii', 'backslashreplace')}"


def _read_header(chunk: bytes, has_palette: bool, data: int) -> tuple[int, int]:
    """Return width and height, if the other numbers of the header go with the rest of the file."""
    width, height, bits, colour, *methods = struct.unpack(">IIBBBBB", chunk[8:21])
    values, known_bits = _COLOURS.get(colour, (0, ()))
    if bits not in known_bits or methods not in ([0, 0, 0], [0, 0, 1]):
        raise damaged("PNG", "its header has unknown numbers")
    if colour == _PALETTE and not has_palette:
        raise damaged("PNG", "it has no palette")
    check_size(width, height)
    if not data:
        raise damaged("PNG", "it has no picture data")
    if data * _MOST_INFLATED < width * height * values * bits // 8:
        raise damaged("PNG", f"it has {data} bytes of picture data for {width} x {height} pixels")
    return width, height
