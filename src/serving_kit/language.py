"""The language in which the kit speaks to learners, and the translations of what it says.

::

    from serving_kit.language import _

    raise NotYet(_("you found {found}, expected {expected}.").format(found=3, expected=4))

``_`` is given the English text as a literal, which tools/exercise_messages.py finds, and never an
f-string: the names in braces are filled in afterwards.
"""

import functools
import os
import re

from serving_kit.errors import ServingKitError, did_you_mean
from serving_kit.paths import ROOT

SETTING = "SERVING_KIT_LANGUAGE"
LANGUAGES = ("en", "zh")
#: Chinese for each English message, by its text.
TRANSLATIONS = ROOT / "docs" / "locale" / "zh_CN" / "LC_MESSAGES" / "exercises.po"


def language() -> str:
    """Return "en" or "zh": as SERVING_KIT_LANGUAGE says, else as the environment's locale does.

    Raises:
        ServingKitError: SERVING_KIT_LANGUAGE is another language.
    """
    if setting := os.environ.get(SETTING):
        if (code := _code(setting)) not in LANGUAGES:
            raise ServingKitError(
                f"{SETTING}={setting} is not a language of the kit; {did_you_mean(code, LANGUAGES)}"
            )
        return code
    # POSIX: the first of them that is set counts.
    found = map(os.environ.get, ("LC_ALL", "LC_MESSAGES", "LANG"))
    return "zh" if _code(next(filter(None, found), "")) == "zh" else "en"


def _code(locale: str) -> str:
    """Return the language in a locale's name: "zh" of "zh_CN.UTF-8"."""
    return re.split(r"[-_.@]", locale)[0].lower()


def _(message: str) -> str:
    """Return a message in the kit's language; in English, if its translation is to be done."""
    if language() == "en":
        return message
    return _translations().get(message, message)


@functools.cache
def _translations() -> dict[str, str]:
    from babel.messages.pofile import read_po  # here: in English nothing needs it

    with TRANSLATIONS.open("rb") as file:
        catalog = read_po(file, locale="zh_CN")
    return {each.id: each.string for each in catalog if each.id and each.string and not each.fuzzy}
