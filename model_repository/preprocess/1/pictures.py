"""What the kit does with pictures, from the bytes of a file to the model, and back to a JPEG.

The one home of these rules. ``preprocess`` and ``postprocess`` run them inside Triton,
``serving_kit.client.images`` for the commands and notebooks; links lead here from ``postprocess``
and from ``serving_kit.client``. OpenCV, NumPy and the standard library only: Triton serves this
folder where the kit is not installed.
"""

import re
from collections.abc import Iterator

import cv2
import numpy as np

EXPECTED = "expected a JPEG, PNG or WebP"
#: The most pixels of a picture that strangers may send; a phone's photo has 12 to 50 million.
MOST_PIXELS = 50_000_000
#: The longest side of a result; beyond it a picture that was painted at 256 only gets softer.
LONGEST_SIDE = 4096
#: A progressive JPEG has some ten scans, and each of them is a way through the whole picture.
MOST_SCANS = 100
#: A file of some 50 MB has less than 10,000 parts, if it was not made to keep us busy.
MOST_PARTS = 100_000
#: As many rows are laid on white at a time: the numbers in between take more memory than these.
ROWS_AT_A_TIME = 256

#: The next marker of a JPEG: neither a filling, nor an escaped 0xff, nor a restart in a scan.
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_START_OF_FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_OTHER_FORMATS = (
    (rb"GIF8", "a GIF"),
    (rb"BM", "a BMP"),
    (rb"II\*\0|MM\0\*", "a TIFF"),
    (rb"....ftyp(heic|heix|mif1|msf1)", "a HEIC"),
    (rb"....ftypavi[fs]", "an AVIF"),
    (rb"%PDF", "a PDF"),
    (rb"\s*<(\?xml[^<]*<)?(!--.*-->\s*<)?(!DOCTYPE svg[^<]*<)?svg", "an SVG"),
    (rb"[\t\n\r\x20-\x7e]+$", "text"),
)


class PictureError(ValueError):
    """A picture that is not taken; the message goes on from "the picture"."""


class TooManyPixelsError(PictureError):
    """It would take too much memory to decode."""


def check(content: bytes) -> None:
    """Check a stranger's picture before it is decoded: format, completeness, number of pixels.

    Only the file's structure is read, so that a small file cannot cost much.

    Raises:
        PictureError: what was found, and what was expected; of it TooManyPixelsError.
    """
    if not content:
        raise PictureError(f"is empty; {EXPECTED}")
    kind = _format(content)
    read = {"JPEG": _read_jpeg, "PNG": _read_png, "WebP": _read_webp}.get(kind)
    if not read:
        raise PictureError(f"is {kind}; {EXPECTED}")
    width, height = read(content)
    if not width * height:
        raise PictureError(f"has {width} x {height} pixels; expected 1 or more each way")
    if width * height > MOST_PIXELS:
        raise TooManyPixelsError(
            f"has {width} x {height} pixels, {width * height / 1e6:.0f} million; expected "
            f"{MOST_PIXELS / 1e6:.0f} million at most"
        )


def _format(content: bytes) -> str:
    """Return the format that a file begins like: one that we read, or what else it seems to be."""
    if content.startswith(b"\xff\xd8"):
        return "JPEG"
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "WebP"
    start = content[:1024]
    found = (name for pattern, name in _OTHER_FORMATS if re.match(pattern, start, re.S))
    return next(found, "of an unknown format")


def _read_jpeg(content: bytes) -> tuple[int, int]:
    """Return width and height of a JPEG, after a look at all its markers."""
    size, scans = None, 0
    for marker, place in _jpeg_markers(content):
        if marker == _END_OF_IMAGE and size and scans:
            return size
        if marker in _START_OF_FRAME and not size:
            size = (_number(content, place + 5, 2), _number(content, place + 3, 2))
        scans += marker == _START_OF_SCAN
        if scans > MOST_SCANS:
            raise PictureError(f"is a JPEG with more than {MOST_SCANS} scans; expected some ten")
    raise _cut_off("JPEG")


def _jpeg_markers(content: bytes) -> Iterator[tuple[int, int]]:
    """Give each marker of a JPEG, and the place behind it, where its length stands."""
    place = 2
    for _ in range(MOST_PARTS):
        found = _MARKER.search(content, place)
        if not found:
            return
        yield content[found.end() - 1], found.end()
        place = found.end() + _number(content, found.end(), 2)
    raise PictureError(f"is a JPEG with more than {MOST_PARTS:,} parts; expected some hundreds")


def _read_png(content: bytes) -> tuple[int, int]:
    """Return width and height of a PNG, after a look at all its chunks."""
    place = 8
    for _ in range(MOST_PARTS):
        length, kind = _number(content, place, 4, "big"), content[place + 4 : place + 8]
        place += 12 + length
        if len(kind) < 4 or place > len(content):
            raise _cut_off("PNG")
        if kind == b"acTL":
            raise PictureError("is an animated PNG; expected one that stands still")
        if kind == b"IEND":
            return _number(content, 16, 4), _number(content, 20, 4)
    raise PictureError(f"is a PNG with more than {MOST_PARTS:,} parts; expected some thousands")


def _read_webp(content: bytes) -> tuple[int, int]:
    """Return width and height of a WebP, of whichever of its three kinds."""
    if len(content) < max(30, 8 + _number(content, 4, 4, "little")):
        raise _cut_off("WebP")
    kind = content[12:16]
    if kind == b"VP8X":
        if content[20] & 2:
            raise PictureError("is an animated WebP; expected one that stands still")
        return 1 + _number(content, 24, 3, "little"), 1 + _number(content, 27, 3, "little")
    if kind == b"VP8L":
        bits = _number(content, 21, 4, "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return _number(content, 26, 2, "little") & 0x3FFF, _number(content, 28, 2, "little") & 0x3FFF


def _number(content: bytes, place: int, size: int, order: str = "big") -> int:
    return int.from_bytes(content[place : place + size], order)


def _cut_off(kind: str) -> PictureError:
    return PictureError(f"is a {kind} that was cut off; expected a whole file")


def decode(content: bytes) -> np.ndarray:
    """Decode the bytes of a picture file: any that OpenCV reads.

    Grey, 16-bit, palette and CMYK pictures become 8-bit colour; what is transparent is laid on
    white; the rotation that a camera noted in a JPEG is carried out.

    Returns:
        uint8 (H, W, 3), BGR as everywhere in OpenCV, 0 to 255.

    Raises:
        PictureError: it is not a picture, is damaged, or is too large.
    """
    # With IMREAD_COLOR OpenCV turns JPEGs as their EXIF says; only IMREAD_UNCHANGED keeps alpha,
    # which no JPEG has.
    flags = cv2.IMREAD_COLOR if _format(content) == "JPEG" else cv2.IMREAD_UNCHANGED
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags) if content else None
    except cv2.error as error:
        reason = "it has too many pixels" if "CV_IO_MAX_IMAGE" in str(error) else error.err
        raise PictureError(f"cannot be decoded: {reason}") from None
    if pixels is None:
        raise PictureError("is not a picture that OpenCV can read (JPEG, PNG, WebP, ...)")
    return _as_bgr8(pixels)


def _as_bgr8(pixels: np.ndarray) -> np.ndarray:
    """Turn (H, W), (H, W, 3) or (H, W, 4) pixels of 8 or 16 bits into uint8 (H, W, 3)."""
    if pixels.dtype == np.uint16:
        pixels = cv2.convertScaleAbs(pixels, alpha=255 / 65535)
    if pixels.dtype != np.uint8:
        raise PictureError(f"has {pixels.dtype} pixels; give one with 8 or 16 bits a colour")
    if pixels.ndim == 2:
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
    return _on_white(pixels) if pixels.shape[2] == 4 else pixels


def _on_white(pixels: np.ndarray) -> np.ndarray:
    """Lay what is transparent, uint8 (H, W, 4), on white."""
    opaque = np.empty((*pixels.shape[:2], 3), np.uint8)
    for top in range(0, len(pixels), ROWS_AT_A_TIME):
        rows = pixels[top : top + ROWS_AT_A_TIME].astype(np.uint16)
        alpha = rows[..., 3:]
        # 255 times the colour, 65,025 at most; and half of 255, which rounds.
        mixed = rows[..., :3] * alpha + (255 - alpha) * 255
        opaque[top : top + ROWS_AT_A_TIME] = (mixed + 127) // 255
    return opaque


def to_model(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Turn a picture, uint8 (H, W, 3) BGR, into float32 (1, 3, height, width), RGB, 0 to 255."""
    rgb = cv2.cvtColor(resize(picture, height, width), cv2.COLOR_BGR2RGB)
    return np.ascontiguousarray(rgb.transpose(2, 0, 1)[None], np.float32)


def recover_image(output: np.ndarray, height: int, width: int) -> np.ndarray:
    """Turn the model's answer into a picture of the size ``height`` x ``width``.

    Args:
        output: float32 (1, 3, H, W), RGB, 0 to 255.
        height: of the picture, in pixels.
        width: of the picture, in pixels.

    Returns:
        uint8 (height, width, 3), BGR, ready for ``cv2.imwrite``.
    """
    rgb = np.rint(np.clip(output[0], 0, 255)).astype(np.uint8).transpose(1, 2, 0)
    return resize(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), height, width)


def resize(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize a picture: averaging areas where it shrinks, bicubic where it grows."""
    h, w = picture.shape[:2]
    if (h, w) == (height, width):
        return picture
    shrinks = height * width < h * w
    return cv2.resize(
        picture, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    )


def result_size(width: int, height: int) -> tuple[int, int]:
    """Return the width and height of a result: the picture's own, or the largest like it.

    Raises:
        PictureError: this is no size of a picture.
    """
    if width < 1 or height < 1:
        raise PictureError(f"has {width} x {height} pixels; expected 1 or more each way")
    scale = min(1, LONGEST_SIDE / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def encode_jpeg(picture: np.ndarray) -> bytes:
    """Return a picture, uint8 (H, W, 3) BGR, as a JPEG of OpenCV's quality, 95."""
    return cv2.imencode(".jpg", picture)[1].tobytes()
