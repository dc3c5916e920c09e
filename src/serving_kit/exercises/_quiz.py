"""Marking a wrap-up quiz: one letter for each of its questions."""

import string

from serving_kit.exercises._answers import NotYet


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
        raise NotYet(f"{odd[0]!r} is none of the letters a, b, c and d.")
    if len(chosen) != len(key):
        raise NotYet(f"give {len(key)} letters, one for each question; these are {len(chosen)}.")
    wrong = [
        f"question {number}: {reason}"
        for number, (given, right, reason) in enumerate(zip(chosen, key, why, strict=True), 1)
        if given != right
    ]
    if wrong:
        right = len(key) - len(wrong)
        raise NotYet(f"{right} of {len(key)} are right.\n" + "\n".join(wrong))
    return f"All {len(key)} of them."
