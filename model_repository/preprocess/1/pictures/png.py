"""Reads the structure of a PNG. Source: PNG Specification, third edition (W3C, 2025)."""

import struct
import zlib
from collections.abc import Iterable, Iterator

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
_GREY, _PALETTE = 0, 3
#: Of each pass of an interlaced picture: first column and row, and the steps to the next ones.
_PASSES = (
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
    (0, 1, 1, 2),
)  # fmt: skip
#: So many packed bytes are unpacked at a time, to a thousand times as many at most.
_PIECE = 16_384
#: Some programs write some bytes more than the pixels need.
_SPARE = 65_536
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = bytes(4) + b"IEND\xae\x42\x60\x82"
#: Before the picture data, once each.
_BEFORE = {b"IHDR", b"PLTE", b"tRNS"}


def read(content: bytes) -> PictureFile:
    """Check a PNG, up to its end chunk; what lies behind it is left out.

    Of the other chunks only palette and transparency are kept: texts, profiles and whatever else
    may be compressed is never unpacked.

    Raises:
        PictureError: it was cut off, is damaged or animated.
    """
    before, data, seen, last, orientation = {}, [], set(), b"", UPRIGHT
    for kind, place, end in _chunks(content):
        _check_order(kind, seen, last)
        if kind in _BEFORE:
            before[kind] = content[place:end]
        if kind == b"IDAT":
            data.append(memoryview(content)[place:end])
        if kind == b"eXIf":
            orientation = read_orientation(content[place + 8 : end - 4])
        seen.add(kind)
        last = kind
    width, height, unpacked = _read_header(before)
    _check_data([part[8:-4] for part in data], unpacked)
    parts = [_SIGNATURE, *_with_palette(before), *data, _END]
    return PictureFile(width, height, orientation, b"".join(parts))


def _check_order(kind: bytes, seen: set[bytes], last: bytes) -> None:
    """Check that a chunk may stand behind all that were seen, the last of them just before it."""
    if kind == b"acTL":
        raise PictureError("is an animated PNG; expected a still picture")
    if kind not in _BEFORE | {b"IDAT"} and kind[:1].isupper():
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


def _read_header(before: dict[bytes, bytes]) -> tuple[int, int, int]:
    """Return width, height and the bytes of the unpacked picture data."""
    header = before.get(b"IHDR", b"")
    if len(header) != 25:
        raise damaged("PNG", "it has no header")
    width, height, bits, colour, *methods = struct.unpack(">IIBBBBB", header[8:21])
    values, known_bits = _COLOURS.get(colour, (0, ()))
    if bits not in known_bits or methods not in ([0, 0, 0], [0, 0, 1]):
        raise damaged("PNG", "its header has unknown numbers")
    if colour == _PALETTE and b"PLTE" not in before:
        raise damaged("PNG", "it has no palette")
    check_size(width, height)
    sizes = [(width, height)]
    if methods[2]:  # interlaced
        sizes = [(-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in _PASSES]
    # Each row begins with a byte that names its filter.
    return width, height, sum(h * (1 + (w * values * bits + 7) // 8) for w, h in sizes if w > 0 < h)


def _check_data(parts: list[memoryview], expected: int) -> None:
    """Check that picture data unpack to so many bytes, and to few more, which decoders unpack too.

    Raises:
        PictureError: they do not; no more than these are unpacked to find out.
    """
    if not any(parts):
        raise damaged("PNG", "it has no picture data")
    unpacker, size, most = zlib.decompressobj(), 0, expected + _SPARE
    pieces = (part[at : at + _PIECE] for part in parts for at in range(0, len(part), _PIECE))
    try:
        while size <= most and not unpacker.eof and (piece := next(pieces, None)):
            size += len(unpacker.decompress(piece, most + 1 - size))
    except zlib.error:
        raise damaged("PNG", "its picture data cannot be unpacked") from None
    if not expected <= size <= most:
        raise damaged("PNG", f"it has {'less' if size < expected else 'more'} data than pixels")


def _with_palette(before: dict[bytes, bytes]) -> Iterable[bytes]:
    """Return the chunks before the data; a grey that is transparent becomes one of a palette.

    OpenCV would not see that it is transparent. (Of 16-bit greys it does not.)
    """
    header, transparent = before[b"IHDR"], before.get(b"tRNS")
    bits, colour = header[16], header[17]
    if transparent is None or colour != _GREY or bits > 8:
        return before.values()
    key, most = number(transparent, 8, 2), (1 << bits) - 1
    greys = range(most + 1)
    return (
        _chunk(b"IHDR", header[8:17] + bytes([_PALETTE]) + header[18:21]),
        _chunk(b"PLTE", bytes(255 * grey // most for grey in greys for _ in range(3))),
        _chunk(b"tRNS", bytes(255 * (grey != key) for grey in greys)),
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    sums = zlib.crc32(kind + data).to_bytes(4, "big")
    return len(data).to_bytes(4, "big") + kind + data + sums
