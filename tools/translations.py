"""Renew the course in Chinese from the course in English and its translations.

``make translations`` runs this. The English Markdown is the source. For each text, a gettext file
in ``docs/locale/`` has its messages and their translations; this renews the messages, writes the
Chinese files, and lists what needs a translator. A message without a translation appears in
English until it has one.
"""

import json
import posixpath
import re
import shutil
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from urllib.parse import unquote

from catalogs import LOCALE, read_catalog, renew, translations
from drawing_messages import labels
from exercise_messages import exercise_messages
from markdown_messages import anchors_of, headings, messages, slug_of, translated
from site_words import WORDS, site_words
from translation_rules import problems

ROOT = Path(__file__).resolve().parent.parent
EXERCISES = LOCALE / "exercises.po"
#: The texts with translations, as patterns. Figures that a command measures are not among them.
TEXTS = ("README.md", "notebooks/*.md", "notebooks/*.ipynb", "demo.zip-builder/files/README.md")
DOCS = "docs/*.md"
DRAWINGS = "docs/drawings"
#: The line by which a text leads to its translation, and the other way round.
TO_CHINESE, TO_ENGLISH = "[中文](", "[English]("


def sources(root: Path) -> list[str]:
    """Return the texts that are translated, by their paths in the repository at ``root``."""
    found = [path for pattern in (*TEXTS, DOCS) for path in sorted(root.glob(pattern))]
    return [path.relative_to(root).as_posix() for path in found if not path.name.endswith(".zh.md")]


def counterpart(source: str) -> str:
    """Return where the Chinese version of a text or a drawing lies."""
    folder, name = posixpath.split(source)
    if folder in ("notebooks", "docs", DRAWINGS):
        return f"{folder}/zh/{name}"
    return posixpath.join(folder, name.replace(".md", ".zh.md"))


# Messages and their translations


def catalog_file(source: str) -> Path:
    """Return where a text's messages and translations lie, by its path in the repository."""
    return LOCALE / Path(source).with_suffix(".po")


def to_do(path: Path) -> list[str]:
    """Return a line for each message of a file that needs a translator."""
    lines = []
    for one in read_catalog(path):
        if not one.id:
            continue
        state = "is missing" if not one.string else "is fuzzy" if one.fuzzy else ""
        found = [state] if state else problems(one.id, one.string)
        lines += [f"{path.name}: {problem}: {one.id[:80]}" for problem in found]
    return lines


# From a text to its translation


def texts_of(root: Path, source: str) -> list[str]:
    """Return the Markdown of a text: the whole of it, or its cells."""
    text = (root / source).read_text(encoding="utf-8")
    return [text] if source.endswith(".md") else list(map(_source, _markdown(json.loads(text))))


def translate(root: Path, source: str, target: Callable[[str], str] = lambda link: link) -> str:
    """Return the Chinese version of a text, as its file has it.

    Args:
        root: the folder of the repository.
        source: the text's path in it.
        target: see ``translated``.
    """
    known = translations(read_catalog(root / catalog_file(source)))

    def one(text: str) -> str:
        return translated(text.replace(TO_CHINESE, TO_ENGLISH), lambda m: known.get(m, m), target)

    text = (root / source).read_text(encoding="utf-8")
    if source.endswith(".md"):
        return one(text)
    notebook = json.loads(text)
    for cell in _markdown(notebook):
        cell["source"] = one(_source(cell)).splitlines(keepends=True)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def _markdown(notebook: dict) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "markdown"]


def _source(cell: dict) -> str:
    return "".join(cell["source"])


# Where links lead


class Links:
    """Where the links of Chinese texts lead: to Chinese neighbours, where there are any.

    Args:
        root: the folder of the repository.
    """

    def __init__(self, root: Path):
        self._root, self._sources = root, set(sources(root))
        self.anchors = cache(self.anchors)

    def in_place(self, source: str) -> Callable[[str], str]:
        """Return what changes the links of a text in a tree whose paths are the English ones."""
        return lambda link: self._changed(source, link, lambda path: None)

    def beside(self, source: str) -> Callable[[str], str]:
        """Return what changes the links of a text whose Chinese version lies beside it."""
        return lambda link: self._changed(source, link, lambda path: self._place(source, path))

    def anchors(self, source: str) -> dict[str, str]:
        """Return the anchors of a text's headings in Chinese, by those in English."""
        known = translations(read_catalog(self._root / catalog_file(source)))
        english = [heading for text in texts_of(self._root, source) for heading in headings(text)]
        chinese = [known.get(heading, heading) for heading in english]
        return dict(zip(anchors_of(english), anchors_of(chinese), strict=True))

    def _place(self, source: str, path: str) -> str:
        """Return the relative path that leads from a text's Chinese version to a file's."""
        if path == counterpart(source):
            path = source
        elif path in self._sources or (self._root / _drawing_of(path)).is_file():
            path = counterpart(path)
        return posixpath.relpath(path, posixpath.dirname(counterpart(source)) or ".")

    def _changed(self, source: str, link: str, place: Callable[[str], str | None]) -> str:
        if re.match(r"[a-z]+:", link):
            return link
        path, mark, anchor = link.partition("#")
        full = posixpath.normpath(posixpath.join(posixpath.dirname(source), unquote(path)))
        other = full if path else source
        if anchor and other in self._sources:
            anchors = self.anchors(other)
            if slug_of(anchor) not in anchors.values():
                anchor = anchors.get(slug_of(anchor), anchor)
        return (path and (place(full) or path)) + mark + anchor


def _drawing_of(path: str) -> str:
    """Return the Chinese version of a drawing; no file's path where it is none."""
    return counterpart(path) if posixpath.dirname(path) == DRAWINGS else ""


# All of it


def write_tree(root: Path, folder: Path) -> None:
    """Write the Chinese version of each text and drawing into a folder, at its own path.

    Links lead to the same places as in English; anchors are those of the Chinese headings.
    """
    links = Links(root)
    for source in sources(root):
        target = folder / source
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(translate(root, source, links.in_place(source)), encoding="utf-8")
    for drawing in sorted((root / DRAWINGS / "zh").iterdir()):
        target = folder / DRAWINGS / drawing.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(drawing, target)


def files(root: Path) -> dict[str, str]:
    """Return the Chinese version of each text, by the path of its file in the repository."""
    links = Links(root)
    return {
        counterpart(source): translate(root, source, links.beside(source))
        for source in sources(root)
    }


def found_messages(root: Path) -> dict[Path, list[str]]:
    """Return the messages of everything that is translated, by their files."""
    found = {
        root / catalog_file(source): [
            message for text in texts_of(root, source) for message in messages(text)
        ]
        for source in sources(root)
    }
    drawings = sorted((root / DRAWINGS).glob("*.mmd"))
    found[root / catalog_file(DRAWINGS)] = [
        label for drawing in drawings for label in labels(drawing.read_text(encoding="utf-8"))
    ]
    found[root / EXERCISES] = exercise_messages(root)
    found[root / WORDS] = site_words()
    return found


def main() -> None:
    """Renew messages and Chinese files; list what needs a translator."""
    wanted = found_messages(ROOT)
    known = {
        message: translation
        for path in wanted
        for message, translation in translations(read_catalog(path)).items()
    }
    for path, found in wanted.items():
        renew(path, found, known)
    for name, text in files(ROOT).items():
        path = ROOT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    open_ones = [line for path in wanted for line in to_do(path)]
    print(*open_ones, sep="\n")
    count = sum(map(len, wanted.values()))
    print(f"{count} messages in {len(wanted)} files; {len(open_ones)} need a translator")
    sys.exit(bool(open_ones))


if __name__ == "__main__":
    main()
