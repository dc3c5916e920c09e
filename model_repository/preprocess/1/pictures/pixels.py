"""Pictures as pixels: decoded, turned and resized for the model, and encoded again."""

from collections.abc import Callable

import cv2
import numpy as np

from .files import check
from .found import PictureError, PictureFile
from .memory import limited_memory

#: The longest side of a result; beyond it a picture that was painted at 256 only gets softer.
LONGEST_SIDE = 4096
#: As many rows are laid on white at a time: the numbers in between take more memory than these.
ROWS_AT_A_TIME = 256

#: How a picture is turned that a camera stored with this orientation; EXIF 2.32, 4.6.4.
_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda pixels: pixels,
    2: lambda pixels: cv2.flip(pixels, 1),
    3: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_180),
    4: lambda pixels: cv2.flip(pixels, 0),
    5: cv2.transpose,
    6: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE),
    7: lambda pixels: cv2.flip(cv2.transpose(pixels), -1),
    8: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_COUNTERCLOCKWISE),
}


def decode(content: bytes) -> np.ndarray:
    """Check a JPEG, PNG or WebP, and decode it.

    Grey, 16-bit, palette and CMYK pictures become 8-bit colour; transparent parts become
    white; the picture is turned as its camera recorded.

    Returns:
        uint8 (H, W, 3), BGR as everywhere in OpenCV, 0 to 255.

    Raises:
        PictureError: it is not taken (see ``check``), or is damaged.
    """
    file = check(content)
    pixels = _as_stored(file)
    # One by one, so that the memory of each step is free before the next.
    for step in (_as_8_bits, _as_bgr, _TURNS[file.orientation]):
        pixels = step(pixels)
    return pixels


def _as_stored(file: PictureFile) -> np.ndarray:
    """Decode a file to the pixels that it holds, and as they lie in it.

    OpenCV turns pictures by itself, but not those of every format; with IMREAD_UNCHANGED, none.
    """
    try:
        with limited_memory():
            pixels = cv2.imdecode(np.frombuffer(file.content, np.uint8), cv2.IMREAD_UNCHANGED)
    except (cv2.error, MemoryError):
        pixels = None
    if pixels is None or pixels.shape[:2] != (file.height, file.width):
        raise PictureError("cannot be decoded; save or export it again")
    return pixels


def _as_8_bits(pixels: np.ndarray) -> np.ndarray:
    """Turn pixels of 8 or 16 bits into uint8."""
    if pixels.dtype == np.uint16:
        return cv2.convertScaleAbs(pixels, alpha=255 / 65535)
    return pixels


def _as_bgr(pixels: np.ndarray) -> np.ndarray:
    """Turn uint8 (H, W), (H, W, 3) or (H, W, 4) into uint8 (H, W, 3)."""
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
    """Turn the model's output into a picture of the size ``height`` x ``width``.

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
        raise PictureError(f"has {width} x {height} pixels; expected 1 or more in each direction")
    scale = min(1, LONGEST_SIDE / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def encode_jpeg(picture: np.ndarray) -> bytes:
    """Return a picture, uint8 (H, W, 3) BGR, as a JPEG of OpenCV's quality, 95."""
    return cv2.imencode(".jpg", picture)[1].tobytes()
