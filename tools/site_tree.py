"""From the pages of the site to the tree of sources that Sphinx reads, for ``build_site``.

A tree has every lesson, ``README.md``, the pages of ``docs/``, and what they link to, at the same
paths as in the repository.
"""

import json
import posixpath
import shutil
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from markdown_messages import slug_of
from site_markdown import Link, links_of, replaced, with_coloured_code
from site_pages import Page, SiteError, Sources, read_page
from site_words import other_language
from translations import counterpart

#: Folders of docs/ whose Markdown is no page in itself.
NO_PAGES = {".ipynb_checkpoints", "locale", "site", "zh"}
PICTURES = ("image/svg+xml", "image/png", "image/jpeg")
#: Above a page that shows files: no part of the contents, and not found by a search.
SOURCE_PAGE = "---\norphan: true\nnosearch: true\n---\n\n"


@dataclass
class Tree:
    """The pages of a tree by their sources, and the pictures that they show."""

    sources: Sources
    pages: dict[str, Page] = field(default_factory=dict)
    pictures: set[str] = field(default_factory=set)


# From files to pages


def read_tree(sources: Sources) -> Tree:
    """Read all pages: lessons in order, ``README.md``, ``docs/``, what they link to.

    Raises:
        SiteError: a link leads nowhere.
    """
    tree = Tree(sources)
    waiting = deque(_starts(sources.root))
    while waiting:
        source = waiting.popleft()
        if source in tree.pages:
            continue
        tree.pages[source] = page = read_page(sources, source)
        waiting.extend(
            target
            for link in page.links()
            if not link.is_picture and (target := _target(sources, page, link))
            if _is_page(target) or not sources.published
        )
    return tree


def _starts(root: Path) -> list[str]:
    docs = sorted(
        path
        for path in (root / "docs").rglob("*.md")
        if not NO_PAGES & set(path.relative_to(root).parts)
    )
    lessons = sorted((root / "notebooks").glob("*.ipynb"))
    start = root / "notebooks" / "README.md"
    paths = [*lessons, *([start] if start.exists() else []), root / "README.md", *docs]
    return [path.relative_to(root).as_posix() for path in paths]


# Where links lead


def _is_page(source: str) -> bool:
    return source.endswith((".md", ".ipynb"))


def _target(sources: Sources, page: Page, link: Link) -> str | None:
    """Return the file that a link leads to; None if it leads out of the repository.

    Raises:
        SiteError: there is no such file.
    """
    parts = urlsplit(link.href)
    if parts.scheme or parts.netloc or _leads_to_translation(page, link):
        return None
    target = page.source
    if parts.path:
        target = posixpath.normpath(
            posixpath.join(posixpath.dirname(page.source), unquote(parts.path))
        )
    if not link.is_picture and sources.find(f"{target}/README.md").is_file():
        target = posixpath.normpath(f"{target}/README.md")  # as GitHub shows a folder
    if target.startswith("..") or not sources.find(target).exists():
        raise SiteError(
            f'{page.source} links to "{link.href}": there is no {target} in the repository; '
            "fix the link"
        )
    return target


def _leads_to_translation(page: Page, link: Link) -> bool:
    """Say whether a link is the one from a text to the same text in the other language."""
    folder = posixpath.dirname(page.source)
    return posixpath.normpath(posixpath.join(folder, link.href)) == counterpart(page.source)


def _between(here: str, there: str) -> str:
    return posixpath.relpath(there, posixpath.dirname(here) or ".")


def _changed(tree: Tree, page: Page, link: Link) -> tuple[int, int, str]:
    """Return the place in a text where a link stands, and what has to stand there."""
    sources = tree.sources
    place = link.href_start, link.href_end
    if link.is_picture:
        return *place, _picture(tree, page, link)
    if _leads_to_translation(page, link):
        href = other_language(sources.language, page.address)
        return link.start, link.end, f'<a class="translation" href="{href}">{link.text}</a>'
    target = _target(sources, page, link)
    if target is None:
        return *place, link.href
    if target not in tree.pages:
        return *place, _published(sources, target)
    other = tree.pages[target]
    anchor = _anchor(page, link, other)
    if other is page and anchor:
        return *place, anchor
    path = other.address if link.is_html else other.file
    return *place, quote(_between(page.file, path)) + anchor


def _published(sources: Sources, target: str) -> str:
    address = sources.published
    if sources.find(target).is_dir():
        address = address.replace("/blob/", "/tree/")
    return f"{address}/{quote(target)}"


def _anchor(page: Page, link: Link, other: Page) -> str:
    """Return a link's anchor as the page has it: GitHub and JupyterLab write it differently."""
    fragment = unquote(urlsplit(link.href).fragment)
    if not fragment:
        return ""
    anchor = slug_of(fragment)
    if anchor not in other.anchors:
        raise SiteError(
            f'{page.source} links to "{fragment}" in {other.source}, which has no such heading; '
            f"it has {', '.join(other.anchors) or 'none'}"
        )
    return "#" + anchor


def _picture(tree: Tree, page: Page, link: Link) -> str:
    """Note a picture that a page shows, and return where it lies, from the page.

    Raises:
        SiteError: it is not there or on another host, or has no alternative text.
    """
    parts = urlsplit(link.href)
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page.source), unquote(parts.path)))
    if parts.scheme or parts.netloc or not tree.sources.find(path).is_file():
        raise SiteError(
            f'{page.source} shows the picture "{link.href}": expected a file of the repository; '
            "put it there, so that the page needs no network"
        )
    if not link.text.strip():
        raise SiteError(
            f'{page.source} shows the picture "{link.href}" without an alternative text; write '
            "what it shows between the brackets: ![text](picture)"
        )
    if link.is_html:
        raise SiteError(
            f'{page.source} shows the picture "{link.href}" by a tag; write ![text](picture), '
            "so that the site copies it"
        )
    tree.pictures.add(path)
    return link.href


# From pages to Sphinx's sources


def write_sources(tree: Tree, folder: Path) -> None:
    """Write the sources of all pages, and their pictures.

    Raises:
        SiteError: an anchor or a picture is not there, or a picture has no alternative text.
    """
    for page in tree.pages.values():
        texts = [
            with_coloured_code(
                replaced(text, [_changed(tree, page, link) for link in links_of(text)])
            )
            for text in page.texts
        ]
        path = folder / page.file
        path.parent.mkdir(parents=True, exist_ok=True)
        if page.notebook:
            path.write_text(json.dumps(_notebook(page, texts)), encoding="utf-8")
        else:
            path.write_text(SOURCE_PAGE * page.shows_files + texts[0], encoding="utf-8")
    for picture in sorted(tree.pictures):
        path = folder / picture
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tree.sources.find(picture), path)


def _notebook(page: Page, texts: list[str]) -> dict:
    """Return a notebook with other texts; its pictures' alternative texts are their plain text.

    MyST-NB shows no alternative text that is an output's; docs/site/course.py takes it from there.
    """
    notebook = json.loads(json.dumps(page.notebook))
    notebook["metadata"].setdefault("language_info", {})["pygments_lexer"] = "ipython3"
    texts = iter(texts)
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "markdown":
            cell["source"] = next(texts)
        for output in cell.get("outputs", ()):
            kinds = [kind for kind in PICTURES if kind in output.get("data", {})]
            if kinds:
                output["data"]["text/plain"] = _alternative(page, number, output, kinds[0])
    return notebook


def _alternative(page: Page, number: int, output: dict, kind: str) -> str:
    text = output.get("metadata", {}).get(kind, {}).get("alt", "")
    if not text:
        raise SiteError(
            f"cell {number} of {page.source} shows a picture without an alternative text; show it "
            "with serving_kit.client's show or show_figure, which take one"
        )
    return text
