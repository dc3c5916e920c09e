"""What the page has to do with Triton and the disk: a visitor's photo in, paintings out."""

import asyncio
import math
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import numpy as np
from infer import stylize
from scratch import Scratch

from serving_kit.client.images import read_image, resize, write_image
from serving_kit.client.uploads import check_upload
from serving_kit.errors import HeicError, ImageError, NoAnswerError, TooLargeError
from serving_kit.stylenet.styles import ALL_STYLES, STYLES

#: Longest sides of a painting and of a picture in the gallery, in pixels.
LARGE, SMALL = 1600, 480
#: Triton's health is asked for no more often than this; an answer after more than that is slow.
HEALTH_SECONDS, SLOW_SECONDS, AWAY_SECONDS = 1, 1.5, 5


class PageError(Exception):
    """What a visitor is told; its text is a key of ``words.WORDS``."""


class Painter:
    """What the page has to do with Triton and the disk.

    Args:
        url: host and port of Triton's HTTP service.
        scratch: where pictures go.
    """

    def __init__(self, url: str, scratch: Scratch):
        self.url = url
        self.scratch = scratch
        self._decoding = threading.Lock()
        self._asking = asyncio.Lock()
        self._asked = -HEALTH_SECONDS
        self._health = "away"

    def paint(self, photo: Mapping | None, style: str, second: str, percent: float):
        """Return the paths of the photo and of its painting.

        Raises:
            PageError: it cannot be painted.
        """
        folder = self.scratch.new_folder()
        before = self._before(photo, folder, LARGE)
        shares = shares_of(style, second, percent)
        after = folder / f"{'_'.join(shares)}.jpg"
        self._stylize(before, after, shares)
        return before, after

    def paint_all(self, photo: Mapping | None) -> Iterator[tuple[str, Path]]:
        """Yield each style and the path of a small painting in it, in the order of ``STYLES``.

        Raises:
            PageError: it cannot be painted.
        """
        folder = self.scratch.new_folder()
        before = self._before(photo, folder, SMALL)
        for style in STYLES:
            after = folder / f"{style}.jpg"
            self._stylize(before, after, style)
            yield style, after

    def _before(self, photo: Mapping | None, folder: Path, longest: int) -> Path:
        """Write the photo anew: upright, no larger than need be, without the camera's notes."""
        if not photo:
            raise PageError("no photo")
        file, before = Path(photo.get("path") or ""), folder / "photo.jpg"
        if not (file.resolve().is_relative_to(self.scratch.folder) and file.is_file()):
            raise PageError("gone")
        try:
            with self._decoding:  # a large one takes up to 1 GB for a moment
                check_upload(file)
                write_image(before, shrink(read_image(file), longest))
        except TooLargeError:
            raise PageError("too large") from None
        except HeicError:
            raise PageError("heic") from None
        except ImageError:
            raise PageError("not a picture") from None
        return before

    def _stylize(self, before: Path, after: Path, style: str | Mapping[str, float]) -> None:
        try:
            stylize(before, after, style, url=self.url)
        except NoAnswerError:
            raise PageError("no answer") from None

    async def health(self) -> str:
        """Return the state of Triton, which gets at most one request per second for it."""
        async with self._asking:
            if time.monotonic() - self._asked >= HEALTH_SECONDS:
                self._health = await self._ask()
                self._asked = time.monotonic()
        return self._health

    async def _ask(self) -> str:
        began = time.monotonic()
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=AWAY_SECONDS) as client:
                answer = await client.get(f"http://{self.url}/v2/models/{ALL_STYLES}/ready")
        except httpx.TimeoutException:
            return "slow"
        except (httpx.HTTPError, httpx.InvalidURL):
            return "away"
        if answer.status_code != 200:
            return "starting"
        return "slow" if time.monotonic() - began > SLOW_SECONDS else "ready"


def shrink(picture: np.ndarray, longest: int) -> np.ndarray:
    """Return a picture, uint8 (H, W, 3), whose longest side is ``longest`` pixels at most."""
    h, w = picture.shape[:2]
    scale = min(1, longest / max(h, w))
    return resize(picture, max(1, round(h * scale)), max(1, round(w * scale)))


def shares_of(style: object, second: object, percent: object) -> dict[str, float]:
    """Return how much of each style is in a painting.

    Args:
        style: as the page sent it, which a stranger may have changed, like the others.
        second: the style that is blended in.
        percent: how much of it, 0 to 100.

    Raises:
        PageError: there is no such style or share.
    """
    is_number = isinstance(percent, int | float) and math.isfinite(percent)
    if style not in STYLES or second not in STYLES or not is_number:
        raise PageError("no such style")
    percent = min(max(percent, 0), 100)
    shares = {style: 100 - percent}
    shares[second] = shares.get(second, 0) + percent
    return {name: share / 100 for name, share in shares.items() if share}
