"""Running what a learner wrote: whatever goes wrong becomes a hint, never a traceback."""

import linecache
import re
import traceback
from collections.abc import Callable

import numpy as np

from serving_kit.language import _

MAX_CHARACTERS = 160
_COLOUR = re.compile(r"\x1b\[[\d;]*m")


class NotYet(Exception):
    """The answer is not right yet; the message is the hint."""


def check_kind(answer: object, kind: str) -> None:
    """Look whether an answer is of the kind that an exercise asks for.

    Args:
        answer: the learner's.
        kind: "Callable", or "str" for a text.

    Raises:
        NotYet: it is something else.
    """
    if kind == "Callable" and not callable(answer):
        raise NotYet(
            _(
                "this is {what}, but a function is asked for; give its name, without parentheses."
            ).format(what=describe(answer))
        )
    if kind == "str" and not isinstance(answer, str):
        raise NotYet(
            _("this is {what}, but text is asked for, a str.").format(what=describe(answer))
        )


def call(function: Callable, *arguments: object) -> object:
    """Call a learner's function; an error inside it becomes a hint with the line of it.

    Raises:
        NotYet: it raised.
    """
    try:
        return function(*arguments)
    except Exception as error:
        raise NotYet(_what_was_raised(function, error)) from error


def _what_was_raised(function: Callable, error: Exception) -> str:
    """Return a sentence on an error, with the line of the learner's own code if there is one."""
    number, line = _line_of(function, error)
    if not line:
        return _("your function raised {error}").format(error=first_line(error))
    return _("in line {number}, `{line}`, your function raised {error}").format(
        number=number, line=line, error=first_line(error)
    )


def _line_of(function: Callable, error: Exception) -> tuple[int, str]:
    """Return number and text of the last line of a learner's own code that an error came through.

    The text is empty where there is none.
    """
    code = getattr(function, "__code__", None)
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if code and frame.filename == code.co_filename
    ]
    if not own:
        return 0, ""
    number = own[-1].lineno
    return number, linecache.getline(own[-1].filename, number).strip()


def one_number(found: object) -> float:
    """Return what a learner's function returned, which is to be a number.

    Raises:
        NotYet: it is something else.
    """
    if not np.isscalar(found) or isinstance(found, str):
        raise NotYet(
            _("your function returned {what}; let it return one number.").format(
                what=describe(found)
            )
        )
    return found


def with_more(told: str, more: str) -> str:
    """Return a sentence, and another one after it where there is one."""
    return _("{sentence} {another}").format(sentence=told, another=more) if more else told


def first_line(error: Exception) -> str:
    """Return an error's type and its first line, without the colours that OneFlow puts in."""
    lines = [line.strip() for line in _COLOUR.sub("", str(error)).splitlines() if line.strip()]
    text = f"{type(error).__name__}: " + (lines[0] if lines else _("no message"))
    return text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - 3] + "..."


def describe(value: object) -> str:
    """Return what a value is, in a few words: ``None``, ``a str``, ``an int``."""
    if value is None:
        return "None"
    name = type(value).__name__
    article = _("an {kind}") if name[0].lower() in "aeiou" else _("a {kind}")
    return article.format(kind=name)
