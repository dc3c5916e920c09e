"""Pictures in and out of the model: load_image, recover_image, and pictures side by side."""

import os
from pathlib import Path

# First: it tells OpenCV limits that OpenCV reads when it is imported.
from serving_kit.client import pictures
from serving_kit.client.pictures import recover_image, resize, to_model

# isort: split
import cv2
import numpy as np

from serving_kit.errors import HeicError, ImageError, TooLargeError

__all__ = [
    "as_image_error",
    "check_writable",
    "contact_sheet",
    "decode_image",
    "load_image",
    "read_file",
    "read_image",
    "recover_image",
    "resize",
    "side_by_side",
    "to_model",
    "write_image",
]


def read_image(path: str | Path) -> np.ndarray:
    """Read a JPEG, PNG or WebP.

    Grey, 16-bit, palette and CMYK pictures become 8-bit colour; transparent parts become
    white; the picture is turned as its camera recorded.

    Returns:
        uint8 (H, W, 3), BGR as everywhere in OpenCV, 0 to 255.

    Raises:
        ImageError: there is no such file, or it is not such a picture; of it TooLargeError,
            HeicError.
    """
    return decode_image(read_file(path), name=str(path))


def read_file(path: str | Path, size: int = -1) -> bytes:
    """Return the bytes of a picture file, at most the first ``size``.

    Raises:
        ImageError: there is no such file, or it cannot be read.
    """
    path = Path(path)
    if not path.exists():
        raise ImageError(f"there is no file {path}; give the path of a picture")
    if not path.is_file():
        raise ImageError(f"{path} is a folder or a device; give the path of a picture")
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}") from None


def decode_image(content: bytes, name: str = "the picture") -> np.ndarray:
    """Decode the bytes of a picture file; see ``read_image``."""
    try:
        return pictures.decode(content)
    except pictures.PictureError as error:
        raise as_image_error(error, name) from None


def as_image_error(error: pictures.PictureError, name: str) -> ImageError:
    """Return the kit's error for a picture of this name that is not accepted."""
    if isinstance(error, pictures.TooManyPixelsError):
        return TooLargeError(f"{name} {error}; give a smaller picture")
    kind = HeicError if isinstance(error, pictures.HeicError) else ImageError
    return kind(f"{name} {error}")


def load_image(path: str | Path, height: int, width: int) -> tuple[np.ndarray, int, int]:
    """Read a picture and convert it to the model's input.

    The whole picture is stretched to ``height`` x ``width``; ``recover_image`` stretches the
    result back, so that its aspect ratio is the picture's own.

    Returns:
        float32 (1, 3, height, width), RGB, 0 to 255; then the picture's own width and height.

    Raises:
        ImageError: see ``read_image``.
    """
    picture = read_image(path)
    h, w = picture.shape[:2]
    return to_model(picture, height, width), w, h


def check_writable(path: str | Path) -> None:
    """Check that ``write_image`` will be able to write this file.

    Raises:
        ImageError: its extension is of no format that OpenCV writes, or its folder is missing
            or not writable.
    """
    path = Path(path)
    if not path.suffix or not cv2.haveImageWriter(path.name):
        raise ImageError(f"{path.name} has no known picture extension; use .jpg, .png or .webp")
    if path.is_dir():
        raise ImageError(f"{path} cannot be written: it is a folder")
    if not path.parent.is_dir():
        raise ImageError(f"{path} cannot be written: there is no folder {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ImageError(f"{path} cannot be written: permission denied")


def write_image(path: str | Path, picture: np.ndarray) -> None:
    """Write a picture, uint8 (H, W, 3) BGR, in the format that the file's extension names.

    Raises:
        ImageError: see ``check_writable``; or the format does not support the
            size, or the disk is full.
    """
    path = Path(path)
    check_writable(path)
    encoded, content = cv2.imencode(path.suffix, picture)
    if not encoded:
        height, width = picture.shape[:2]
        raise ImageError(
            f"{path} cannot be written: {width} x {height} pixels are too many for this format; "
            "use .png"
        )
    try:
        path.write_bytes(content)
    except OSError as error:
        raise ImageError(f"{path} cannot be written: {error.strerror}") from None


def side_by_side(*pictures: np.ndarray, height: int = 400, gap: int = 8) -> np.ndarray:
    """Return pictures, uint8 (H, W, 3) BGR, beside each other, all of one height, on white."""
    shown = []
    for picture in pictures:
        h, w = picture.shape[:2]
        # Very long or flat pictures keep their shape within a tile of at most 4 : 1.
        scale = min(height / h, 4 * height / w)
        shown.append(resize(picture, max(1, round(h * scale)), max(1, round(w * scale))))
    tallest = max(picture.shape[0] for picture in shown)
    columns = []
    for picture in shown:
        rows, w = picture.shape[:2]
        column = np.full((tallest, w, 3), 255, np.uint8)
        top = (tallest - rows) // 2
        column[top : top + rows] = picture
        columns += [column, np.full((tallest, gap, 3), 255, np.uint8)]
    return np.hstack(columns[:-1])


def contact_sheet(
    tiles: list[tuple[str, np.ndarray]], columns: int = 6, width: int = 300
) -> np.ndarray:
    """Lay out pictures of one size, uint8 (H, W, 3) BGR, in rows, each with its caption above."""
    caption_height = 26
    cells = []
    for caption, picture in tiles:
        h, w = picture.shape[:2]
        small = resize(picture, max(1, round(h * width / w)), width)
        head = np.full((caption_height, width, 3), 255, np.uint8)
        cv2.putText(
            head, caption, (4, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (0, 0, 0), 1, cv2.LINE_AA
        )
        cells.append(cv2.copyMakeBorder(
            np.vstack([head, small]), 0, 6, 3, 3, cv2.BORDER_CONSTANT, value=(255, 255, 255)
        ))  # fmt: skip
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % columns)
    return np.vstack([np.hstack(cells[i : i + columns]) for i in range(0, len(cells), columns)])
