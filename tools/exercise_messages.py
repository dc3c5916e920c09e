"""What the exercises say to a learner: the messages to translate."""

from pathlib import Path

from babel.messages.extract import extract_from_dir

#: Where they are, in the repository.
EXERCISES = Path("src", "serving_kit", "exercises")


def exercise_messages(root: Path) -> list[str]:
    """Return what is given to ``_``, in the order of the sources.

    Args:
        root: the folder of the repository.
    """
    found = extract_from_dir(root / EXERCISES, [("**.py", "python")], keywords={"_": None})
    return [message for _file, _line, message, _comments, _context in found]
