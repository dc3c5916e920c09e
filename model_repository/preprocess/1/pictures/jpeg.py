"""Reads the structure of a JPEG as libjpeg does, so that both find the same picture.

Sources: ITU-T T.81, annex B, and ``jdmarker.c`` of libjpeg-turbo 3.0.3, which OpenCV 4.11 uses.
"""

import re
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

#: A progressive JPEG has some ten scans, and each of them is a way through the whole picture.
MOST_SCANS = 100

#: The next marker: neither a filling, nor an escaped 0xff, nor one of those without a length that
#: decoders pass over: TEM (0x01), and the restarts of a scan (0xd0 to 0xd7).
_MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd7]")
_END, _SCAN, _EXIF = 0xD9, 0xDA, 0xE1
#: Baseline, extended and progressive, each with Huffman codes. No camera writes the others:
#: lossless, hierarchical, arithmetic.
_FRAMES = {0xC0, 0xC1, 0xC2}
_OTHER_FRAMES = {*range(0xC0, 0xD0)} - _FRAMES - {0xC4, 0xC8, 0xCC}
#: What decoding needs: tables, frame, scans, restart interval; JFIF and Adobe say the colours.
_NEEDED = {0xC4, 0xDB, 0xDD, 0xE0, 0xEE, _SCAN} | _FRAMES
#: What we pass over: arithmetic tables, a late height, which libjpeg ignores, notes, comments.
_PASSED_OVER = {0xCC, 0xDC, 0xFE, *range(0xE1, 0xF0)} - _NEEDED


def read(content: bytes) -> PictureFile:
    """Check a JPEG, up to its end marker; what lies behind it is left out.

    Raises:
        PictureError: it was cut off, is damaged, or of a kind that no camera writes.
    """
    frame, scans, orientation, parts = None, 0, None, [b"\xff\xd8"]
    for marker, part in _segments(content):
        if marker in _OTHER_FRAMES:
            raise PictureError(
                "is a lossless, hierarchical or arithmetic JPEG; expected baseline or progressive"
            )
        if marker in _FRAMES:
            if frame:
                raise damaged("JPEG", "it has several frames")
            frame = _read_frame(part)
        if marker == _SCAN:
            scans += 1
            if not frame:
                raise damaged("JPEG", "a scan precedes the frame")
            if scans > MOST_SCANS:
                raise PictureError(
                    f"is a JPEG with more than {MOST_SCANS} scans; expected about ten"
                )
        if marker == _EXIF and orientation is None and part[4:10] == b"Exif\0\0":
            orientation = read_orientation(bytes(part[4:]))
        if marker in _NEEDED:
            parts.append(part)
    if not scans:
        raise damaged("JPEG", "it has no picture data")
    return PictureFile(*frame, orientation or UPRIGHT, b"".join([*parts, b"\xff\xd9"]))


def _segments(content: bytes) -> Iterator[tuple[int, memoryview]]:
    """Yield each marker before the end marker, and its segment; a scan's includes its data."""
    found = _MARKER.search(content, 2)
    for _ in range(MOST_PARTS):
        if not found:
            raise cut_off("JPEG")
        marker = content[found.end() - 1]
        if marker == _END:
            return
        if marker not in _NEEDED | _OTHER_FRAMES | _PASSED_OVER:
            raise damaged("JPEG", f"it has the marker 0x{marker:02x}")
        length = number(content, found.end(), 2)
        end = found.end() + length
        if end > len(content) or found.end() + 2 > len(content):
            raise cut_off("JPEG")
        if length < 2:
            raise damaged("JPEG", f"a segment has the length {length}")
        start, found = found.start(), _MARKER.search(content, end)
        if marker == _SCAN and found:
            end = found.start()
        yield marker, memoryview(content)[start:end]
    raise too_many_parts("JPEG")


def _read_frame(segment: memoryview) -> tuple[int, int]:
    """Return width and height of a frame: marker, length, bits, height, width, components."""
    bits, components = number(segment, 4, 1), number(segment, 9, 1)
    if len(segment) != 10 + 3 * components or components not in (1, 3, 4):
        raise damaged("JPEG", f"its frame has {components} components in {len(segment)} bytes")
    if bits != 8:
        raise PictureError(f"is a JPEG with {bits} bits per colour; expected 8")
    return check_size(number(segment, 7, 2), number(segment, 5, 2))
