"""What the kit does with pictures, from the bytes of a file to the model, and back to a JPEG.

The one home of these rules. ``preprocess`` and ``postprocess`` run them inside Triton,
``serving_kit.client`` for the commands and notebooks; links lead here from both. OpenCV, NumPy
and the standard library only: Triton serves this folder where the kit is not installed.

- ``files`` checks a file before it is decoded, with ``jpeg``, ``png`` and ``webp`` for the
  formats, ``exif`` for the way a camera was held, and ``found`` for what these have in common;
- ``pixels`` decodes, turns and resizes pictures, and encodes results;
- ``memory`` limits what decoding may take.
"""

import os

from .files import check
from .found import (
    MOST_PIXELS,
    MOST_PIXELS_A_SIDE,
    HeicError,
    PictureError,
    PictureFile,
    TooManyPixelsError,
)

# A second guard, in OpenCV itself, which reads these when it is imported: below.
os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(MOST_PIXELS)
os.environ["OPENCV_IO_MAX_IMAGE_WIDTH"] = str(MOST_PIXELS_A_SIDE)
os.environ["OPENCV_IO_MAX_IMAGE_HEIGHT"] = str(MOST_PIXELS_A_SIDE)

from .pixels import decode, encode_jpeg, recover_image, resize, result_size, to_model

__all__ = [
    "MOST_PIXELS",
    "HeicError",
    "PictureError",
    "PictureFile",
    "TooManyPixelsError",
    "check",
    "decode",
    "encode_jpeg",
    "recover_image",
    "resize",
    "result_size",
    "to_model",
]
