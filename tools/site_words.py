"""The site's own words, which no text of the course has, and their translations."""

from collections.abc import Callable
from pathlib import Path

import jinja2
from jinja2.ext import extract_from_ast

from catalogs import LOCALE, read_catalog, translations

#: Their translations: ``make translations`` renews and checks this file with all others.
WORDS = LOCALE / "site.po"
#: The site's settings and templates.
SITE = Path(__file__).resolve().parent.parent / "docs" / "site"
#: The name of the site.
NAME = "OneFlow, served"
#: What the theme says on every page, and has no Chinese for.
OF_THEME = (
    "Back to top",
    "light/dark",
    "previous page",
    "previous",
    "next page",
    "next",
    "Link to this heading",
    "Link to this definition",
)


def site_words() -> list[str]:
    """Return the words that the site's templates and its settings have translated."""
    found = [NAME, *OF_THEME]
    for template in (SITE / "landing.md.jinja", *sorted((SITE / "_templates").glob("*.html"))):
        parsed = jinja2.Environment().parse(template.read_text(encoding="utf-8"))
        found += [word for _, _, word in extract_from_ast(parsed, gettext_functions=("_",))]
    return found


def words_of(root: Path, language: str) -> Callable[[str], str]:
    """Return what translates the site's own words; without a translation they stay English."""
    if language == "en":
        return lambda word: word
    known = translations(read_catalog(root / WORDS))
    return lambda word: known.get(word, word)


def other_language(language: str, address: str) -> str:
    """Return what leads from a page of the site to the same page in the other language.

    Args:
        language: that of the page.
        address: where the page lies in the folder of its language.
    """
    up = "../" * address.count("/")
    return f"{up}zh/{address}" if language == "en" else f"{up}../{address}"
