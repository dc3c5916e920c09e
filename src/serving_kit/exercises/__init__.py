"""The checks and hints of the exercises: they run a learner's answer and say how far it is.

::

    from serving_kit import exercises

    exercises.check("01.1", style_numbers)
    exercises.hint("01.1")

Exercise 1 of lesson 01 is the function ``exercise_1`` in ``lesson_01.py``. It returns a sentence
of praise, or raises ``NotYet``: what was seen, and what to look at. Its hints are ``HINTS[1]``
there. A wrap-up quiz is ``exercise_quiz``, of which ``"04.quiz"`` is the number. ``lessons`` gives
a lesson what an earlier one makes. What a learner is told goes through ``_``, which translates it.
"""

import gc
import importlib
import re
from pathlib import Path
from types import ModuleType

from serving_kit.exercises._answers import NotYet, check_kind
from serving_kit.exercises.lessons import made_by
from serving_kit.language import _

__all__ = ["check", "hint", "made_by"]

_EXERCISE = re.compile(r"^def exercise_(\w+)\(\w+: (Callable|str)\)", re.M)
#: How many hints of an exercise were given since this kernel started.
_given: dict[str, int] = {}


def check(number: str, answer: object) -> None:
    """Try an answer and print one line: that it is right, or what is missing.

    Args:
        number: lesson and exercise, ``"01.1"`` for example.
        answer: what the exercise asks for, most often a function that you wrote.
    """
    verdict = _verdict(number, answer)
    gc.collect()  # a graph that lives on keeps the kernel from ending
    print(f"{number}  {verdict}")


def hint(number: str) -> None:
    """Print the next hint of an exercise, from gentle to nearly the solution; after it, the first.

    Args:
        number: lesson and exercise, ``"01.1"`` for example.
    """
    try:
        hints = _hints(number)
    except NotYet as unknown:
        print(f"{number}  {unknown}")
        return
    step = _given.get(number, 0) % len(hints)
    _given[number] = step + 1
    told = _("Hint {step} of {steps}: {hint}").format(
        step=step + 1, steps=len(hints), hint=hints[step]
    )
    print(f"{number}  {told}")


def _verdict(number: str, answer: object) -> str:
    try:
        kinds = _kinds()
        _check_number(number, kinds)
        check_kind(answer, kinds[number])
        module, exercise = _module(number)
        praise = getattr(module, f"exercise_{exercise}")(answer)
        return _("Right! {praise}").format(praise=praise)
    except NotYet as feedback:
        return _("Not yet: {feedback}").format(feedback=feedback)


def _hints(number: str) -> tuple[str, ...]:
    _check_number(number, [each for each in _kinds() if not each.endswith("quiz")])
    module, exercise = _module(number)
    return module.HINTS[int(exercise)]


def _module(number: str) -> tuple[ModuleType, str]:
    lesson, exercise = number.split(".")
    return importlib.import_module(f"{__name__}.lesson_{lesson}"), exercise


def _check_number(number: str, known: object) -> None:
    if number not in known:
        raise NotYet(
            _("there is no exercise {number!r}; there are {known}.").format(
                number=number, known=", ".join(known)
            )
        )


def _kinds() -> dict[str, str]:
    """Return what each exercise asks for, "Callable" or "str", by its number.

    It is read from the sources: importing them is slow, and needless for what is of a wrong kind.
    """
    return {
        f"{source.stem.removeprefix('lesson_')}.{exercise}": kind
        for source in sorted(Path(__file__).parent.glob("lesson_*.py"))
        for exercise, kind in _EXERCISE.findall(source.read_text())
    }
