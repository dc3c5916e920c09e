"""Draw the pictures of the styles on the demo's page: the cat in each, out of the served model.

``demo.zip-builder/files/styles.jpg`` is one row of squares, in the order of ``STYLES``; the page's
style sheet shows a square of it for each style. It is committed and not drawn at each build,
because the last digits of a model's answers depend on the machine, and the zip must not.
"""

import cv2
import numpy as np

from serving_kit.client.images import read_image, recover_image, resize, to_model
from serving_kit.client.inference import infer
from serving_kit.models import ALL_STYLES, SIZE, repository_for
from serving_kit.paths import ROOT
from serving_kit.server.triton import TritonServer
from serving_kit.stylenet.styles import STYLES, style_weights

PHOTO = ROOT / "assets" / "cat.jpg"
PICTURES = ROOT / "demo.zip-builder" / "files" / "styles.jpg"
#: Side of a square in pixels: blocks of a JPEG, 16 wide, do not reach into the next square.
SIDE = 144


def draw(url: str) -> np.ndarray:
    """Return the row of squares, uint8 (SIDE, 26 * SIDE, 3) BGR, painted by Triton at ``url``."""
    photo = read_image(PHOTO)
    image = to_model(photo, SIZE, SIZE)
    squares = []
    for style in STYLES:
        answer = infer(image, style_weights(style), model=ALL_STYLES, url=url)
        squares.append(resize(middle(recover_image(answer, *photo.shape[:2])), SIDE, SIDE))
    return np.hstack(squares)


def middle(picture: np.ndarray) -> np.ndarray:
    """Return the largest square in the middle of a picture, uint8 (H, W, 3)."""
    h, w = picture.shape[:2]
    side = min(h, w)
    top, left = (h - side) // 2, (w - side) // 2
    return picture[top : top + side, left : left + side]


if __name__ == "__main__":
    with TritonServer(repository_for(models=[ALL_STYLES]), models=[ALL_STYLES]) as server:
        row = draw(server.url)
    cv2.imwrite(str(PICTURES), row, [cv2.IMWRITE_JPEG_QUALITY, 86])
    print(f"{PICTURES.relative_to(ROOT)}: {PICTURES.stat().st_size // 1000} kB")
