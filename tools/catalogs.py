"""Files of messages and their translations, as gettext has them: reading and renewing one."""

from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po, write_po

LANGUAGE = "zh_CN"
LOCALE = Path("docs", "locale", LANGUAGE, "LC_MESSAGES")
#: What a new file of messages begins with.
HEADER = "# Messages of the course, and their translations: see docs/contributing.md."
PROJECT = {
    "project": "oneflow-serving-kit",
    "version": "0.1.0",
    "msgid_bugs_address": "see docs/contributing.md",
    "last_translator": "see docs/contributing.md",
    "language_team": "see docs/contributing.md",
}
#: Messages are not wrapped: one that changes is one line that changes.
WIDTH = 0


def read_catalog(path: Path) -> Catalog:
    """Return the messages and translations of a file; none if there is no such file."""
    if not path.exists():
        return Catalog(locale=LANGUAGE, header_comment=HEADER, fuzzy=False, **PROJECT)
    with path.open("rb") as file:
        return read_po(file, locale=LANGUAGE)


def renew(path: Path, found: list[str], known: dict[str, str]) -> None:
    """Bring a file of messages up to date; a changed one keeps its translation, marked as fuzzy.

    Args:
        path: the file.
        found: the messages of its text, in order.
        known: translations of all texts: a message that moved to this one has its own already.
    """
    template = Catalog(locale=LANGUAGE)
    for message in found:
        template.add(message)
    catalog = read_catalog(path)
    catalog.update(template, update_creation_date=False)
    for one in catalog:
        if one.id in known and (one.fuzzy or not one.string):
            one.string = known[one.id]
            one.flags.discard("fuzzy")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        write_po(file, catalog, width=WIDTH, ignore_obsolete=True, include_previous=True)


def translations(catalog: Catalog) -> dict[str, str]:
    """Return the translations by message; those that are missing or fuzzy are left out."""
    return {one.id: one.string for one in catalog if one.id and one.string and not one.fuzzy}
