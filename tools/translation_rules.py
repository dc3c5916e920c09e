"""What must be equal in a message and its translation, and how Chinese is written here."""

import re

from markdown_messages import CODE, NO_WORDS, TARGET, shape

CHINESE = "\u4e00-\u9fff"
#: Numbers that a reader acts on.
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
#: Numbers that Chinese counts in other units.
LARGE = re.compile(r"\d[\d.,]* ?(?:thousand|million|billion|[万亿])")
#: Punctuation of English beside a Chinese character.
HALF_WIDTH = re.compile(
    rf"[{CHINESE}] ?[,;:!?()](?!\d)|[()][{CHINESE}]|[{CHINESE}]\.(?!\w)|[{CHINESE}]\"|\"[{CHINESE}]"
)
#: No space between Chinese and Latin.
NO_SPACE = re.compile(rf"[{CHINESE}][A-Za-z0-9`]|[A-Za-z0-9`%][{CHINESE}]")


def problems(message: str, translation: str) -> list[str]:
    """Return what is wrong with a translation, a few words each."""
    found = []
    if shape(message) != shape(translation):
        lost = _differences(shape(message), shape(translation))
        found.append(f"code, links or emphasis differ ({lost})")
    if sorted(_numbers(message)) != sorted(_numbers(translation)):
        found.append(f"numbers differ ({_numbers(message)}, {_numbers(translation)})")
    if message.count("\n") != translation.count("\n"):
        found.append("lines differ")
    words = _words(translation)
    if odd := HALF_WIDTH.search(words):
        found.append(f"half-width punctuation ({odd[0]!r})")
    if odd := NO_SPACE.search(CODE.sub("`c`", TARGET.sub(r"\1", translation)).replace("**", "")):
        found.append(f"a space is missing ({odd[0]!r})")
    return found


def _differences(first: list[str], second: list[str]) -> str:
    there = {part for line in first for part in line.split(", ")}
    here = {part for line in second for part in line.split(", ")}
    return f"only in English: {sorted(there - here)}; only in Chinese: {sorted(here - there)}"


def _words(text: str) -> str:
    return NO_WORDS.sub("x", text)


def _numbers(text: str) -> list[str]:
    return NUMBER.findall(LARGE.sub("", _words(text)))
