"""Build the course as web pages that need no network: ``build/html/index.html`` and the rest.

``make html`` runs this. Every notebook becomes a page, as it was saved with its outputs; so does
``README.md``, every page of ``docs/``, and every file and folder of the repository that one of
them links to. Pictures are inside the pages, the one style sheet beside them; there is no script,
and nothing is asked of another host. The same repository gives the same bytes.

A page lies where its source lies: ``docs/backend.md`` becomes ``docs/backend.html``.
"""

import argparse
import mimetypes
import posixpath
import re
import shutil
import sys
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
from bs4 import BeautifulSoup, Tag
from markupsafe import Markup

from html_text import (
    DESIGN,
    colour,
    data_uri,
    fill,
    finish,
    language_of,
    last_picture,
    markdown,
    slug_of,
    soup,
    tags,
)
from lesson_table import Lesson, read_lesson

ROOT = Path(__file__).resolve().parent.parent
#: Where a learner begins; first among the pages to read.
START = "notebooks/README.md"
#: What a page shows of a folder: text that people wrote.
SHOWN_OF_FOLDERS = {".md", ".mmd", ".pbtxt", ".py", ".sh", ".toml", ".yaml", ".yml"}


class CourseError(Exception):
    """The pages cannot be built: a link or a picture leads nowhere, or to another host."""


@dataclass
class Page:
    """A page of the course, made from one file or folder of the repository.

    Attributes:
        source: its path in the repository, with slashes.
        title: as it stands in its first heading, in Markdown.
        body: its content; links are those of the source until ``connect`` has changed them.
        lesson: what the notebook says of itself; None where the source is no notebook.
        sections: the anchor and the text of each second heading.
        anchors: all anchors, by the form in which they are looked for.
    """

    source: str
    title: str
    body: BeautifulSoup
    lesson: Lesson | None = None
    sections: list[tuple[str, str]] = field(init=False)
    anchors: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.sections, self.anchors = finish(self.body)

    @property
    def address(self) -> str:
        """Where the page lies in the folder of pages."""
        stem, suffix = posixpath.splitext(self.source)
        return (stem if suffix in (".ipynb", ".md") else self.source) + ".html"

    @property
    def up(self) -> str:
        """What leads from the page to the folder of pages."""
        return "../" * self.address.count("/")


# From files to pages


def read_page(root: Path, source: str) -> Page:
    """Return the page of a file or a folder of the repository at ``root``.

    Raises:
        UnicodeDecodeError: the file is not text.
    """
    path = root / source
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if file.suffix in SHOWN_OF_FOLDERS]
        return source_page(root, source, files)
    if path.suffix == ".ipynb":
        notebook = nbformat.read(path, as_version=4)
        lesson = read_lesson(path)
        return Page(source, lesson.title, soup(fill("cells.html", notebook=notebook)), lesson)
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        title = re.search(r"^# (.+)$", text, re.M)
        return Page(source, title[1] if title else source, soup(markdown(text)))
    return source_page(root, source, [path])


def source_page(root: Path, source: str, files: list[Path]) -> Page:
    """Return a page that shows files; each has a heading when ``source`` is their folder."""
    texts = [
        (file.relative_to(root).as_posix(), file.read_text(encoding="utf-8")) for file in files
    ]
    shown = [(name, colour(text, language_of(name))) for name, text in texts]
    return Page(source, source, soup(fill("source.html", source=source, files=shown)))


def read_pages(root: Path) -> dict[str, Page]:
    """Return all pages by source: lessons in order, ``README.md``, ``docs/``, what they link to.

    Raises:
        CourseError: a link leads nowhere.
    """
    lessons = [path.relative_to(root) for path in sorted((root / "notebooks").glob("*.ipynb"))]
    docs = [path.relative_to(root) for path in sorted((root / "docs").rglob("*.md"))]
    docs = [path for path in docs if ".ipynb_checkpoints" not in path.parts]  # JupyterLab's copies
    waiting = deque(path.as_posix() for path in (*lessons, Path("README.md"), *docs))
    pages: dict[str, Page | None] = {}
    while waiting:
        source = waiting.popleft()
        if source in pages:
            continue
        try:
            pages[source] = read_page(root, source)
        except UnicodeDecodeError:
            pages[source] = None
            continue
        waiting.extend(target for _, target, _ in links_inside(root, pages[source]))
    return {source: page for source, page in pages.items() if page}


# Links and pictures


def links_inside(root: Path, page: Page) -> list[tuple[Tag, str, str]]:
    """Return a page's links into the repository: the tag, the path that it names, the anchor.

    Raises:
        CourseError: a link leads nowhere, or out of the repository.
    """
    found = []
    for tag in tags(page.body, "a"):
        parts = urlsplit(tag.get("href", ""))
        if parts.scheme or parts.netloc or not tag.get("href"):
            continue
        target = page.source
        if parts.path:
            target = posixpath.join(posixpath.dirname(page.source), unquote(parts.path))
            target = posixpath.normpath(target)
        if (root / target / "README.md").is_file():  # as GitHub shows a folder
            target = posixpath.normpath(f"{target}/README.md")
        if target.startswith("..") or not (root / target).exists():
            raise CourseError(
                f'{page.source} links to "{tag["href"]}": there is no {target} in the repository; '
                "fix the link"
            )
        found.append((tag, target, unquote(parts.fragment)))
    return found


def connect(root: Path, page: Page, pages: dict[str, Page]) -> None:
    """Let a page's links lead to pages, and put its pictures into it.

    Raises:
        CourseError: an anchor or a picture is not there, or a picture is on another host.
    """
    for tag, target, anchor in links_inside(root, page):
        if target not in pages:  # a picture, an archive: nothing that a page could show
            tag.name, tag.attrs = "span", {"title": f"{target} in the repository"}
            continue
        other = pages[target]
        if anchor:
            if slug_of(anchor) not in other.anchors:
                raise CourseError(
                    f'{page.source} links to "{anchor}" in {target}, which has no such heading; '
                    f"it has {', '.join(other.anchors) or 'none'}"
                )
            anchor = "#" + other.anchors[slug_of(anchor)]
        path = posixpath.relpath(other.address, posixpath.dirname(page.address) or ".")
        tag["href"] = anchor if other is page and anchor else path + anchor
    for tag in tags(page.body, "img"):
        tag["src"] = embedded(root, page, tag["src"])


def embedded(root: Path, page: Page, picture: str) -> str:
    """Return a page's picture as a data URI.

    Raises:
        CourseError: it is not there, or on another host.
    """
    parts = urlsplit(picture)
    if parts.scheme == "data":
        return picture
    path = root / posixpath.dirname(page.source) / unquote(parts.path)
    if parts.scheme or parts.netloc or not path.is_file():
        raise CourseError(
            f'{page.source} shows the picture "{picture}": expected a file of the repository; '
            "put it there, so that the page needs no network"
        )
    return data_uri(path.read_bytes(), mimetypes.guess_type(path.name)[0] or "image/png")


# All pages


def build(root: Path, folder: Path) -> list[Page]:
    """Write the course of the repository at ``root`` into ``folder``, which is made anew.

    Returns:
        The pages, in order; ``index.html``, the landing page, is not among them.

    Raises:
        CourseError: a link or a picture leads nowhere, or to another host.
    """
    pages = read_pages(root)
    for page in pages.values():
        connect(root, page, pages)
    lessons = [page for page in pages.values() if page.lesson]
    docs = [page for page in pages.values() if page.source.endswith(".md")]
    docs.sort(key=lambda page: page.source != START)  # that one first, the rest as they are
    written = {"style.css": (DESIGN / "style.css").read_text()}
    for page in pages.values():
        place = lessons.index(page) if page.lesson else None
        written[page.address] = fill(
            "page.html",
            page=page,
            body=Markup(page.body),
            lessons=lessons,
            docs=docs,
            before=lessons[place - 1] if place else None,
            after=lessons[place + 1] if place is not None and place + 1 < len(lessons) else None,
        )
    readme = pages["README.md"]
    written["index.html"] = fill(
        "index.html",
        title=readme.title,
        start=pages.get(START),
        hero=readme.body.img["src"],
        hero_text=readme.body.img["alt"],
        lessons=[(page, last_picture(nbformat.read(root / page.source, 4))) for page in lessons],
        minutes=sum(page.lesson.minutes for page in lessons),
        docs=[(page, first_sentence(page)) for page in docs],
    )
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in written.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return list(pages.values())


def first_sentence(page: Page) -> str:
    """Return the first sentence of a page's first paragraph; empty where there is none."""
    paragraph = page.body.find("p")
    text = " ".join(paragraph.get_text().split()) if paragraph else ""
    return re.split(r"(?<=[.!?:]) (?=[A-Z`])", text)[0].rstrip(":")


def main() -> None:
    """Build the pages; say where they are, or what is wrong with them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "html", metavar="FOLDER")
    options = parser.parse_args()
    try:
        pages = build(ROOT, options.output)
    except CourseError as error:
        sys.exit(f"html: {error}")
    lessons = sum(page.lesson is not None for page in pages)
    size = sum(path.stat().st_size for path in options.output.rglob("*") if path.is_file())
    print(f"{lessons} lessons and {len(pages) - lessons} other pages, {size / 1e6:.1f} MB")
    print(f"open {options.output / 'index.html'}")


if __name__ == "__main__":
    main()
