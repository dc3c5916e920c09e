"""What the readers of the formats have in common: the checked file, its limits, the errors."""

from dataclasses import dataclass

#: The most pixels of a picture: cameras with "50 megapixels" have up to 51.3 million.
MOST_PIXELS = 52_000_000
#: The most pixels of a side, which is libjpeg's own limit.
MOST_PIXELS_A_SIDE = 65_500
#: A file of some 50 MB has less than 10,000 parts, if it was not made to keep us busy.
MOST_PARTS = 100_000


class PictureError(ValueError):
    """A picture that is not accepted; the message continues after "the picture"."""


class TooManyPixelsError(PictureError):
    """It would take too much memory to decode."""


class HeicError(PictureError):
    """It is a HEIC, which many phones write and OpenCV cannot read."""


@dataclass(frozen=True)
class PictureFile:
    """A file whose structure was checked.

    Attributes:
        width: of the picture as it is stored, in pixels.
        height: of the picture as it is stored, in pixels.
        orientation: how it is to be turned, 1 to 8, as in EXIF.
        content: the file anew, with nothing but the parts that decoding needs.
    """

    width: int
    height: int
    orientation: int
    content: bytes


def check_size(width: int, height: int) -> tuple[int, int]:
    """Return a picture's width and height, if it may be decoded.

    Raises:
        PictureError: it has no pixels; TooManyPixelsError: too many.
    """
    found = f"has {width} x {height} pixels"
    if not width * height:
        raise PictureError(f"{found}; expected 1 or more in each direction")
    if width * height > MOST_PIXELS:
        raise TooManyPixelsError(
            f"{found}, {width * height / 1e6:.0f} million; expected "
            f"{MOST_PIXELS / 1e6:.0f} million at most"
        )
    if max(width, height) > MOST_PIXELS_A_SIDE:
        raise TooManyPixelsError(
            f"{found}; expected {MOST_PIXELS_A_SIDE} at most in each direction"
        )
    return width, height


def number(content: bytes | memoryview, place: int, size: int, order: str = "big") -> int:
    """Return the number of ``size`` bytes at a place."""
    return int.from_bytes(content[place : place + size], order)


def cut_off(kind: str) -> PictureError:
    """Return the error for a file that ends too early."""
    return PictureError(f"is a {kind} that was cut off; expected a complete file")


def damaged(kind: str, what: str) -> PictureError:
    """Return the error for a file that does not follow its format."""
    return PictureError(f"is a damaged {kind}: {what}; save or export it again")


def too_many_parts(kind: str) -> PictureError:
    """Return the error for a file that was made to waste our time."""
    return PictureError(f"is a {kind} with more than {MOST_PARTS:,} parts; expected a few thousand")
