"""Rewrite the table of lessons in README.md from what the notebooks say of themselves.

Each notebook's first cell has a title, and the lines *What you'll do* and *What you'll need*.
``make notebooks`` runs this after recording.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
BEGIN, END = "<!-- lessons: make notebooks writes this table -->", "<!-- end of lessons -->"
HEAD = "| lesson | what you do | minutes | needs |\n|---|---|---|---|"

TITLE = re.compile(r"^# (.+)$", re.M)
DO = re.compile(r"^\*\*What you'll do\*\*: (.+?)\.$", re.M)
NEED = re.compile(r"^\*\*What you'll need\*\*: (\d+) minutes[^;]*; ([^.]+)\.", re.M)
LINK = re.compile(r"\[([^\]]+)\]\([^)]+\)")


@dataclass(frozen=True)
class Lesson:
    """What a notebook says of itself, in Markdown; ``needs`` is "nothing" where that is so."""

    number: str
    title: str
    do: str
    minutes: int
    needs: str


def read_lesson(path: Path) -> Lesson:
    """Return what a notebook says of itself in its first cell."""
    opening = LINK.sub(r"\1", nbformat.read(path, as_version=4).cells[0].source)
    title, do, need = (pattern.search(opening) for pattern in (TITLE, DO, NEED))
    return Lesson(path.name[:2], title[1], do[1], int(need[1]), need[2].removesuffix(" else"))


def row(path: Path) -> str:
    """Return a notebook's line of the table."""
    lesson = read_lesson(path)
    name = f"[{lesson.number} {lesson.title}](notebooks/{path.name})"
    return f"| {name} | {lesson.do} | {lesson.minutes} | {lesson.needs} |"


def with_table(readme: str) -> str:
    """Return README.md's text with the table made anew."""
    rows = [row(path) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return "\n".join([before + BEGIN, "", HEAD, *rows, "", END + after])


if __name__ == "__main__":
    README.write_text(with_table(README.read_text()))
