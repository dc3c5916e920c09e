"""The checks of the exercises: they run a learner's answer and say how far it is.

::

    from serving_kit import exercises

    exercises.check("01.1", style_numbers)

Exercise 1 of lesson 01 is the function ``exercise_1`` in ``lesson_01.py``. It returns a sentence
of praise, or raises ``NotYet`` with a hint: what was seen, and what to look at. ``lessons`` gives
a lesson what an earlier one makes.
"""

import gc
import importlib
import re
from pathlib import Path

from serving_kit.exercises._answers import NotYet, check_kind
from serving_kit.exercises.lessons import made_by

__all__ = ["check", "made_by"]

_EXERCISE = re.compile(r"^def exercise_(\d+)\(\w+: (Callable|str)\)", re.M)


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
        kinds = _kinds()
        if number not in kinds:
            raise NotYet(f"there is no exercise {number!r}; there are {', '.join(kinds)}.")
        check_kind(answer, kinds[number])
        lesson, _, exercise = number.partition(".")
        module = importlib.import_module(f"{__name__}.lesson_{lesson}")
        return f"Right! {getattr(module, f'exercise_{exercise}')(answer)}"
    except NotYet as hint:
        return f"Not yet: {hint}"


def _kinds() -> dict[str, str]:
    """Return what each exercise asks for, "Callable" or "str", by its number.

    It is read from the sources: importing them is slow, and needless for what is of a wrong kind.
    """
    return {
        f"{source.stem.removeprefix('lesson_')}.{exercise}": kind
        for source in sorted(Path(__file__).parent.glob("lesson_*.py"))
        for exercise, kind in _EXERCISE.findall(source.read_text())
    }
