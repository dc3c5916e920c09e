"""Build the course as web pages that need no network: ``build/html/index.html`` and the rest.

``make html`` runs this. Every notebook becomes a page, as it was saved with its outputs; so does
``README.md``, every page of ``docs/``, and every file and folder of the repository that one of
them links to. Pictures are inside the pages, the one style sheet beside them; there is no script,
and nothing is asked of another host. The same repository gives the same bytes.

A page lies where its source lies: ``docs/backend.md`` becomes ``docs/backend.html``.
"""

import argparse
import base64
import mimetypes
import posixpath
import re
import shutil
import sys
from collections import deque
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import jinja2
import mistune
import nbformat
from bs4 import BeautifulSoup, Tag
from markupsafe import Markup
from nbconvert.filters import ansi2html
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, get_lexer_by_name, get_lexer_for_filename
from pygments.util import ClassNotFound

from lesson_table import Lesson, read_lesson

ROOT = Path(__file__).resolve().parent.parent
DESIGN = Path(__file__).resolve().parent / "html"
#: What a page shows of a folder: text that people wrote.
SHOWN_OF_FOLDERS = {".md", ".mmd", ".pbtxt", ".py", ".sh", ".toml", ".yaml", ".yml"}
#: The richest form of an output comes first.
PICTURES = ("image/svg+xml", "image/png", "image/jpeg")


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
    sections: list[tuple[str, str]] = field(default_factory=list)
    anchors: dict[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """Where the page lies in the folder of pages."""
        return address(self.source)

    @property
    def up(self) -> str:
        """What leads from the page to the folder of pages."""
        return "../" * self.address.count("/")


def address(source: str) -> str:
    """Return where the page of a file or folder of the repository lies."""
    stem, suffix = posixpath.splitext(source)
    return (stem if suffix in (".ipynb", ".md") else source) + ".html"


# From text to HTML


class Renderer(mistune.HTMLRenderer):
    """Markdown as GitHub and JupyterLab show it, with coloured code."""

    def block_code(self, code: str, info: str | None = None) -> str:
        """Return a fenced block, coloured where its language is known."""
        return colour(code, (info or "text").split()[0])


# Not nbconvert's own Markdown: it takes "$(pwd)" twice in a line for a formula.
markdown = mistune.create_markdown(
    renderer=Renderer(escape=False), plugins=["table", "strikethrough"]
)


def inline(text: str) -> Markup:
    """Return a line of Markdown as HTML without a paragraph around it."""
    return Markup(markdown(text).strip().removeprefix("<p>").removesuffix("</p>"))


def plain(text: str) -> str:
    """Return a line of Markdown as a reader hears it."""
    return BeautifulSoup(inline(text), "html.parser").get_text()


def colour(code: str, language: str) -> Markup:
    """Return source code as HTML whose words carry Pygments' classes."""
    try:
        lexer = get_lexer_by_name(language, stripnl=False)
    except ClassNotFound:
        lexer = TextLexer(stripnl=False)
    return Markup(highlight(code, lexer, HtmlFormatter()))


def language_of(name: str) -> str:
    """Return the name of a file's language; ``text`` where none is known."""
    try:
        return get_lexer_for_filename(name).aliases[0]
    except (ClassNotFound, IndexError):
        return "text"


def data_uri(content: bytes, kind: str) -> str:
    """Return a picture as an address that holds it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def picture_of(output: nbformat.NotebookNode) -> str | None:
    """Return the picture of a cell's output as a data URI, or None where there is none."""
    data = output.get("data", {})
    for kind in PICTURES:
        if kind in data:
            content = data[kind].encode() if "svg" in kind else base64.b64decode(data[kind])
            return data_uri(content, kind)
    return None


def last_picture(notebook: nbformat.NotebookNode) -> str | None:
    """Return what a lesson comes to: the last picture in its outputs; None without any."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    pictures = [picture for output in outputs if (picture := picture_of(output))]
    return pictures[-1] if pictures else None


@cache
def templates() -> jinja2.Environment:
    """Return the templates in ``tools/html/``, with the functions that they use."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(DESIGN),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "ansi": lambda text: Markup(ansi2html(text)),
        "colour": colour,
        "inline": inline,
        "markdown": lambda text: Markup(markdown(text)),
        "picture": picture_of,
        "plain": plain,
    }
    return environment


def fill(name: str, **values) -> str:
    """Return a template of ``tools/html/`` with its gaps filled."""
    return templates().get_template(name).render(**values)


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
        return finished(
            Page(source, lesson.title, soup(fill("cells.html", notebook=notebook)), lesson)
        )
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        title = re.search(r"^# (.+)$", text, re.M)
        return finished(Page(source, title[1] if title else source, soup(markdown(text))))
    return source_page(root, source, [path])


def source_page(root: Path, source: str, files: list[Path]) -> Page:
    """Return a page that shows files; each has a heading when ``source`` is their folder."""
    texts = [
        (file.relative_to(root).as_posix(), file.read_text(encoding="utf-8")) for file in files
    ]
    shown = [(name, colour(text, language_of(name))) for name, text in texts]
    return finished(Page(source, source, soup(fill("source.html", source=source, files=shown))))


def soup(html: str) -> BeautifulSoup:
    """Return HTML as a tree that can be changed."""
    return BeautifulSoup(html, "html.parser")


def tags(tree: Tag, *names: str) -> list[Tag]:
    """Return the tags with these names, or all; faster than ``find_all`` in pages of code."""
    found = (tag for tag in tree.descendants if isinstance(tag, Tag))
    return [tag for tag in found if not names or tag.name in names]


def finished(page: Page) -> Page:
    """Give a page's headings anchors, its tables room to scroll, its solutions colours."""
    # "content" is the anchor of the page's frame.
    taken = {"content"} | {tag["id"] for tag in tags(page.body) if tag.get("id")}
    for heading in tags(page.body, "h2", "h3", "h4"):
        anchor = slug = slug_of(heading.get_text())
        number = 0
        while anchor in taken:
            number += 1
            anchor = f"{slug}-{number}"
        taken.add(anchor)
        heading["id"] = anchor
        if heading.name == "h2":
            page.sections.append((anchor, heading.get_text()))
        link = page.body.new_tag("a", href=f"#{anchor}", attrs={"class": "anchor"})
        link["aria-label"] = "Link to this section"
        heading.append(link)
    page.anchors = {slug_of(anchor): anchor for anchor in sorted(taken)}
    for table in tags(page.body, "table"):
        table.wrap(page.body.new_tag("div", attrs={"class": "table"}))
    for details in tags(page.body, "details"):
        if details.summary and details.summary.get_text().startswith("Exercise"):
            for code in tags(details, "pre"):
                code.replace_with(soup(colour(code.get_text(), "ipython3")))
    return page


def slug_of(heading: str) -> str:
    """Return a heading's anchor as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def read_pages(root: Path) -> dict[str, Page]:
    """Return all pages by source: lessons in order, ``README.md``, ``docs/``, what they link to.

    Raises:
        CourseError: a link leads nowhere.
    """
    lessons = [path.relative_to(root) for path in sorted((root / "notebooks").glob("*.ipynb"))]
    docs = [path.relative_to(root) for path in sorted((root / "docs").rglob("*.md"))]
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
                "mend the link"
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
