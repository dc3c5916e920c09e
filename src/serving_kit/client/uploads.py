"""Checks pictures from strangers before they are decoded: a small file may hold a large picture.

The limits are those of the model ``preprocess``, and one on the number of bytes.
"""

from pathlib import Path

from serving_kit.client.images import as_image_error, read_file
from serving_kit.client.pictures import PictureError, check
from serving_kit.errors import TooLargeError

MAX_BYTES = 20_000_000


def check_upload(path: str | Path) -> None:
    """Check that a file may be decoded: a whole JPEG, PNG or WebP picture within the limits.

    Raises:
        ImageError: it cannot be read, or is none of these; of it HeicError, and TooLargeError:
            it is larger than ``MAX_BYTES``, or has more than ``pictures.MOST_PIXELS``.
    """
    content = read_file(path, MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise TooLargeError(
            f"{path} is larger than {MAX_BYTES // 1_000_000} MB; give a smaller picture"
        )
    try:
        check(content)
    except PictureError as error:
        raise as_image_error(error, str(path)) from None
