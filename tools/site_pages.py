"""The pages of the site and the files they are made from, for ``build_site``."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import nbformat
from pygments.lexers import get_lexer_for_filename
from pygments.util import ClassNotFound

from markdown_messages import anchors_of, headings
from site_markdown import Link, links_of, title_of

#: What a page shows of a folder: text that people wrote.
SHOWN_OF_FOLDERS = {".h", ".md", ".mmd", ".pbtxt", ".py", ".sh", ".toml", ".yaml", ".yml"}


class SiteError(Exception):
    """The site cannot be built: a link or a picture leads nowhere, or to another host."""


@dataclass(frozen=True)
class Sources:
    """Where the files of a tree come from.

    Attributes:
        root: the repository.
        language: "en" or "zh".
        translated: a folder that has translated files at their own paths; None for English.
        published: the address of the repository's files, such as
            ``https://example.org/kit/blob/main``; empty: they are shown in the site.
    """

    root: Path
    language: str = "en"
    translated: Path | None = None
    published: str = ""

    def find(self, name: str) -> Path:
        """Return where a file or folder of the tree is; it need not exist."""
        if self.is_translated(name):
            return self.translated / name
        return self.root / name

    def is_translated(self, name: str) -> bool:
        """Say whether a file is there in the tree's own language."""
        return self.translated is not None and (self.translated / name).is_file()


@dataclass
class Page:
    """A page of the site, made from one file or folder.

    Attributes:
        source: its path in the repository, with slashes.
        texts: its Markdown; of a notebook, that of each cell.
        notebook: the notebook; None where there is none.
        shows_files: whether it shows files that are no Markdown.
    """

    source: str
    texts: list[str]
    notebook: nbformat.NotebookNode | None = None
    shows_files: bool = False

    @property
    def file(self) -> str:
        """The file that Sphinx reads."""
        return self.source + ".md" if self.shows_files else self.source

    @property
    def address(self) -> str:
        """Where the page lies in the folder of pages."""
        return f"{PurePosixPath(self.file).with_suffix('')}.html"

    @property
    def title(self) -> str:
        """Its first heading, in Markdown."""
        return title_of(self.texts[0]) or self.source

    @cached_property
    def anchors(self) -> list[str]:
        """The anchors of its headings."""
        return anchors_of(headings("\n\n".join(self.texts)))

    def links(self) -> Iterator[Link]:
        """Yield its links and pictures."""
        for text in self.texts:
            yield from links_of(text)


# From files to pages


def read_page(sources: Sources, source: str) -> Page:
    """Return the page of a file or a folder.

    Raises:
        SiteError: the file is not text.
    """
    path = sources.find(source)
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if file.suffix in SHOWN_OF_FOLDERS]
        return _page_of_files(
            source, {file.relative_to(sources.root).as_posix(): file for file in files}
        )
    if path.suffix == ".ipynb":
        notebook = nbformat.read(path, as_version=4)
        texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
        return Page(source, texts, notebook)
    if path.suffix == ".md":
        return Page(source, [path.read_text(encoding="utf-8")])
    return _page_of_files(source, {source: path})


def _page_of_files(source: str, files: dict[str, Path]) -> Page:
    parts = [f"# `{source}`"]
    for name, file in files.items():
        parts += [f"## `{name}`"] * (name != source) + [_fenced(source, file)]
    return Page(source, ["\n\n".join(parts) + "\n"], shows_files=True)


def _fenced(source: str, file: Path) -> str:
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise SiteError(
            f"a page links to {source}, which is no text and so cannot be shown; link to its folder"
        ) from None
    try:
        language = get_lexer_for_filename(file.name).aliases[0]
    except (ClassNotFound, IndexError):
        language = "pbtxt" if file.suffix == ".pbtxt" else "text"
    fence = "`" * 3
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
