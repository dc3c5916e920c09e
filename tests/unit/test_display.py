"""Pictures in a notebook: side by side or in rows, as wide as a page, with their text."""

import cv2
import numpy as np
import pytest

from serving_kit.client import display, show

PICTURE = np.zeros((100, 150, 3), np.uint8)


@pytest.fixture
def shown(monkeypatch):
    """Return what is displayed, decoded, with its kind and its text."""
    pictures = []
    monkeypatch.setattr(
        display,
        "_display",
        lambda content, kind, alt: pictures.append(
            (cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR), kind, alt)
        ),
    )
    return pictures


@pytest.mark.parametrize(
    ("pictures", "columns", "rows", "wide"),
    [(1, None, 1, 1), (4, None, 1, 4), (26, 6, 5, 6), (4, 6, 1, 6)],
)
def test_pictures_fit_beside_the_prompts_of_a_notebook(shown, pictures, columns, rows, wide):
    show("Black pictures.", columns=columns, **{f"number_{n}": PICTURE for n in range(pictures)})
    ((sheet, kind, alt),) = shown
    assert (kind, alt) == ("image/jpeg", "Black pictures.")
    height, width = sheet.shape[:2]
    tile = min(display.TILE_WIDTH, display.MAX_WIDTH // wide)
    assert width == wide * (tile + 6)  # with the white between them
    assert height == rows * (26 + round(100 * tile / 150) + 6)
