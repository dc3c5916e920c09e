"""The rules for pictures of the models ``preprocess`` and ``postprocess``, made importable here.

They live in the model repository, because Triton serves them where the kit is not installed.
"""

import sys

from serving_kit.paths import MODEL_REPOSITORY

if str(MODEL_REPOSITORY / "preprocess" / "1") not in sys.path:
    sys.path.append(str(MODEL_REPOSITORY / "preprocess" / "1"))

from pictures import (
    MOST_PARTS,
    MOST_PIXELS,
    MOST_SCANS,
    PictureError,
    TooManyPixelsError,
    check,
    decode,
    recover_image,
    resize,
    result_size,
    to_model,
)

__all__ = [
    "MOST_PARTS",
    "MOST_PIXELS",
    "MOST_SCANS",
    "PictureError",
    "TooManyPixelsError",
    "check",
    "decode",
    "recover_image",
    "resize",
    "result_size",
    "to_model",
]
