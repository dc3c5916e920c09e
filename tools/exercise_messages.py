"""What the exercises say to a learner, in the order of their sources: the messages to translate.

``make translations`` renews docs/locale/zh_CN/LC_MESSAGES/exercises.po from it.
"""

from pathlib import Path
from typing import NamedTuple

from babel.messages.extract import extract_from_dir

from serving_kit.paths import ROOT

EXERCISES = ROOT / "src" / "serving_kit" / "exercises"


class ExerciseMessage(NamedTuple):
    """An English message.

    Attributes:
        text: what is given to ``_``.
        file: its source, relative to the repository.
        line: where it begins there.
    """

    text: str
    file: str
    line: int


def exercise_messages() -> list[ExerciseMessage]:
    """Return the messages, each once, where it comes first."""
    found = extract_from_dir(EXERCISES, [("**.py", "python")], keywords={"_": None})
    first = {}
    for file, line, text, _comments, _context in found:
        source = (EXERCISES / file).relative_to(ROOT).as_posix()
        first.setdefault(text, ExerciseMessage(text, source, line))
    return list(first.values())


if __name__ == "__main__":
    for message in exercise_messages():
        print(f"{Path(message.file).name}:{message.line}: {message.text}")
