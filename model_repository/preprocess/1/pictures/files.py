"""Checks a picture file before it is decoded: format, completeness, number of pixels."""

import re

from . import jpeg, png, webp
from .found import HeicError, PictureError, PictureFile, number

EXPECTED = "expected a JPEG, PNG or WebP"
_READERS = {"JPEG": jpeg.read, "PNG": png.read, "WebP": webp.read}
_OTHER_FORMATS = (
    (rb"GIF8", "a GIF"),
    (rb"BM", "a BMP"),
    (rb"II\*\0|MM\0\*", "a TIFF"),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", "a JPEG XL"),
    (rb"%PDF", "a PDF"),
    (rb"\s*<(\?xml[^<]*<)?(!--.*-->\s*<)?(!DOCTYPE svg[^<]*<)?svg", "an SVG"),
    (rb"[\t\n\r\x20-\x7e]+$", "text"),
)
_AVIF = {b"avif", b"avis"}
_HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}


def check(content: bytes) -> PictureFile:
    """Check a stranger's picture before it is decoded: format, completeness, number of pixels.

    Only the file's structure is read, so that a small file cannot cost much.

    Raises:
        PictureError: what was found, and what was expected; of it TooManyPixelsError, HeicError.
    """
    if not content:
        raise PictureError(f"is empty; {EXPECTED}")
    kind = _format(content)
    if kind == "a HEIC":
        raise HeicError(f"is a HEIC; {EXPECTED}: export it as JPEG on the phone")
    if kind not in _READERS:
        raise PictureError(f"is {kind}; {EXPECTED}")
    return _READERS[kind](content)


def _format(content: bytes) -> str:
    """Return the format that a file begins like: one that we read, or what else it seems to be."""
    if content.startswith(b"\xff\xd8"):
        return "JPEG"
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "WebP"
    if content[4:8] == b"ftyp":
        return _format_by_brand(content[: min(number(content, 0, 4), 1024)])
    start = content[:1024]
    found = (name for pattern, name in _OTHER_FORMATS if re.match(pattern, start, re.S))
    return next(found, "of an unknown format")


def _format_by_brand(box: bytes) -> str:
    """Return the format of a file that begins with this ``ftyp`` box: major and other brands."""
    brands = {box[8:12], *(box[place : place + 4] for place in range(16, len(box), 4))}
    if brands & _AVIF:
        return "an AVIF"
    return "a HEIC" if brands & _HEIC else "a film"
