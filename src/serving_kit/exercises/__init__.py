"""The exercises' checks: they run a learner's answer and say how far it is.

::

    from serving_kit import exercises

    exercises.check("01.1", style_numbers)

Exercise 1 of lesson 01 is the function ``exercise_1`` in ``lesson_01.py``. It returns a sentence
of praise, or raises ``NotYet`` with a hint: what was seen, and what to look at.
"""

import gc
import importlib
import re
from pathlib import Path

from serving_kit.exercises._answers import NotYet


def check(number: str, answer: object) -> None:
    """Try an answer and print one line: that it is right, or a hint.

    Args:
        number: lesson and exercise, ``"01.1"`` for example.
        answer: what the exercise asks for, most often a function that you wrote.
    """
    verdict = _verdict(number, answer)
    gc.collect()  # a graph that lives on keeps the kernel from ending
    print(f"{number}  {verdict}")


def _verdict(number: str, answer: object) -> str:
    try:
        exercise = _find(number)
        return f"Right! {exercise(answer)}"
    except NotYet as hint:
        return f"Not yet: {hint}"


def _find(number: str):
    """Return the function that checks an exercise."""
    known = _known()
    if number not in known:
        raise NotYet(f"there is no exercise {number!r}; there are {', '.join(known)}.")
    lesson, _, exercise = number.partition(".")
    module = importlib.import_module(f"{__name__}.lesson_{lesson}")
    return getattr(module, f"exercise_{exercise}")


def _known() -> list[str]:
    """Return the numbers of all exercises, read from the sources: importing them is slow."""
    numbers = []
    for source in sorted(Path(__file__).parent.glob("lesson_*.py")):
        lesson = source.stem.removeprefix("lesson_")
        for exercise in re.findall(r"^def exercise_(\d+)\(", source.read_text(), re.M):
            numbers.append(f"{lesson}.{exercise}")
    return numbers
