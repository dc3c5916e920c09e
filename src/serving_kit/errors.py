"""The kit's errors: one tree, so that one ``except`` catches all of them.

::

    ServingKitError
    ├── ImageError    a picture that cannot be read, or is not one
    │   ├── TooLargeError   a picture with more bytes or pixels than are accepted
    │   └── HeicError       a HEIC, which has to be exported as JPEG first
    ├── StyleError    a style that does not exist
    ├── ConfigError   a config.pbtxt that cannot be read or written
    ├── ExportError   a module that cannot be saved as a graph with the same results
    ├── ProjectError  a project of lesson 14 that cannot be made, or is not a project
    ├── ServerError   a server that does not start, or died
    └── ClientError   a request that the server refused
        └── NoAnswerError   one without a response: the server is down, starting, or slow

Every message says what was found, what was expected and what to do next.
"""

import difflib
from collections.abc import Iterable
from pathlib import Path


class ServingKitError(Exception):
    """Base of all errors that the kit raises on purpose."""


class ImageError(ServingKitError):
    """A picture that cannot be read, or is not one."""


class TooLargeError(ImageError):
    """A picture with more bytes or pixels than are accepted."""


class HeicError(ImageError):
    """A HEIC, which many phones write and OpenCV cannot read: it has to be exported as JPEG."""


class StyleError(ServingKitError):
    """A style that does not exist."""


class ConfigError(ServingKitError):
    """A config.pbtxt that cannot be read or written.

    Attributes:
        sentence: what was found, what was expected, what to do.
        file: the file meant.
        line: the line of the file, counted from 1; None where there is none.
    """

    def __init__(self, sentence: str, file: Path, line: int | None = None):
        super().__init__(f"{file}{f':{line}' if line else ''}: {sentence}")
        self.sentence, self.file, self.line = sentence, file, line


class ExportError(ServingKitError):
    """A module that cannot be saved as a graph with the same results."""


class ProjectError(ServingKitError):
    """A project of lesson 14 that cannot be made, or a folder that is not a project."""


class ServerError(ServingKitError):
    """A server that does not start, or died."""


class ClientError(ServingKitError):
    """A request that the server refused, or to which it never responded."""


class NoAnswerError(ClientError):
    """A request without a response: the server is down, starting, or slow. It may respond later."""


def nearest(name: str, known: Iterable[str], *, likeness: float = 0.6) -> str | None:
    """Return the known name that is most similar to a given one, ignoring case.

    Args:
        name: what was found.
        known: what could have been meant.
        likeness: how similar they must be, from 0 to 1 (``difflib``'s ratio).
    """
    plain = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower(), plain, n=1, cutoff=likeness)
    return plain[near[0]] if near else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``write "right"`` for the nearest known name, else a list of the known ones."""
    known = sorted(known)
    if near := known[0] if len(known) == 1 else nearest(name, known):
        return f'write "{near}"'
    return f"write one of {', '.join(known)}" if known else "there is none to choose from"
