"""Pictures and plots in a notebook, each with a text for readers who cannot see it.

The text is stored with the output: ``alt`` in its metadata, where the pages take it from, and as
its plain text, which programs without pictures show.
"""

from typing import TYPE_CHECKING

# First: it tells OpenCV limits that OpenCV reads when it is imported.
from serving_kit.client.images import contact_sheet

# isort: split
import cv2
import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: What fits beside a notebook's prompts on a laptop.
MAX_WIDTH, TILE_WIDTH = 1000, 450


def show(alt: str, /, *, columns: int | None = None, **pictures: np.ndarray) -> None:
    """Show pictures of one size beside each other, each under its name.

    They are stored in the notebook as one JPEG, a tenth of the size of a plot as PNG.

    Args:
        alt: one sentence that says what can be seen.
        columns: how many per row; all of them when left out.
        pictures: uint8 (H, W, 3), BGR; underscores in a name become spaces.
    """
    tiles = [(name.replace("_", " "), picture) for name, picture in pictures.items()]
    columns = columns or len(tiles)
    sheet = contact_sheet(tiles, columns, width=min(TILE_WIDTH, MAX_WIDTH // columns))
    _, jpeg = cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, 85])
    _display(jpeg.tobytes(), "image/jpeg", alt)


def show_figure(figure: "Figure", alt: str) -> None:
    """Show a plot of Matplotlib as a PNG, and close it.

    Args:
        figure: what ``plt.subplots`` returned.
        alt: one or two sentences that say what can be seen and what follows from it.
    """
    import io

    import matplotlib.pyplot as plt

    png = io.BytesIO()
    figure.savefig(png, format="png", bbox_inches="tight", facecolor="white")
    plt.close(figure)
    _display(png.getvalue(), "image/png", alt)


def _display(content: bytes, kind: str, alt: str) -> None:
    from IPython.display import display

    display({kind: content, "text/plain": alt}, raw=True, metadata={kind: {"alt": alt}})
