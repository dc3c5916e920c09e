"""Marking a wrap-up quiz: one letter for each of its questions."""

import string

from serving_kit.exercises._answers import NotYet
from serving_kit.language import _


def mark_quiz(letters: str, key: str, why: tuple[str, ...]) -> str:
    """Mark the letters that a learner has chosen.

    Args:
        letters: one for each question, in their order, ``"bacd"`` for example; spaces and commas
            do not count.
        key: the right ones.
        why: for each question a sentence on what to look at again.

    Returns:
        A sentence of praise.

    Raises:
        NotYet: not all are right; the message has a sentence for each that is not.
    """
    chosen = [letter for letter in letters.lower() if letter not in " ,"]
    if odd := [letter for letter in chosen if letter not in string.ascii_lowercase[:4]]:
        raise NotYet(_("{letter!r} is none of the letters a, b, c and d.").format(letter=odd[0]))
    if len(chosen) != len(key):
        raise NotYet(
            _("give {questions} letters, one for each question; these are {letters}.").format(
                questions=len(key), letters=len(chosen)
            )
        )
    wrong = [
        _("question {number}: {reason}").format(number=number, reason=reason)
        for number, (given, right, reason) in enumerate(zip(chosen, key, why, strict=True), 1)
        if given != right
    ]
    if wrong:
        told = _("{right} of {questions} are right.").format(
            right=len(key) - len(wrong), questions=len(key)
        )
        raise NotYet("\n".join([told, *wrong]))
    return _("All {questions} of them.").format(questions=len(key))
