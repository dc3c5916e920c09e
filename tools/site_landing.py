"""The landing page of the site, made from the lessons, with the contents of the whole site.

Its groups of lessons are those of the start page, ``notebooks/README.md``.
"""

import base64
import posixpath
import re
from dataclasses import dataclass
from pathlib import Path

import jinja2

from lesson_table import read_lesson
from site_markdown import links_of, title_of
from site_pages import Page, SiteError
from site_tree import PICTURES, Tree
from site_words import SITE, words_of

START, README = "notebooks/README.md", "README.md"
#: The pages to read, most wanted first; others follow by their names.
REFERENCE = ("docs/troubleshooting.md", "docs/architecture.md", "docs/backend.md")
#: A line in bold before a list of lessons.
GROUP = re.compile(r"^\*\*([^*]+)\*\*$")
#: The first thing that a lesson says of itself, "What you'll do", in either language.
DO = re.compile(r"^\*\*[^*]+\*\*[:：] *(.+?)[.。]?$", re.M)
#: A paragraph: no heading, line to the other language, picture, tag, table or list.
PARAGRAPH = re.compile(r"(?![#\[!<|]|- |```)")
FIRST_SENTENCE = re.compile(r".*?(?:[.!?](?= [A-Z`]|$)|[。！？]|$)")
MARKDOWN_LINK = re.compile(r"\[([^\]]+)\]\([^)]+\)")


@dataclass(frozen=True)
class Card:
    """A lesson as the landing page shows it, in Markdown; without a picture where it draws none."""

    source: str
    number: str
    title: str
    do: str
    minutes: int
    picture: str | None
    alternative: str

    @property
    def name(self) -> str:
        """Its name as Sphinx has it."""
        return _name(self.source)

    @property
    def entry(self) -> str:
        """Its line in the contents."""
        return f"{self.number} {self.title} <{self.name}>"


@dataclass(frozen=True)
class Entry:
    """A page to read, as the landing page lists it, in Markdown."""

    source: str
    title: str
    sentence: str


@dataclass(frozen=True)
class Group:
    """Lessons under a common title."""

    title: str
    lessons: list[Card]


def write_landing_page(tree: Tree, folder: Path, api: list[str]) -> None:
    """Write ``index.md``, the root of the site's contents, and the pictures on its cards.

    Args:
        tree: the pages of the site.
        folder: where Sphinx reads them.
        api: the names of the pages about the API.

    Raises:
        SiteError: the start page names no groups of lessons, or not every lesson.
    """
    root = tree.sources.root
    cards = {
        source: _card(tree, page, folder) for source, page in tree.pages.items() if page.notebook
    }
    groups = _groups(tree, cards)
    readme = tree.pages[README]
    others = [
        page
        for page in tree.pages.values()
        if not page.notebook and not page.shows_files and page.source != START
    ]
    others.sort(
        key=lambda page: (page.source not in REFERENCE, page.source.count("/"), page.source)
    )
    deployment = [page for page in others if page.source.startswith("deploy/")]
    template = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).from_string((SITE / "landing.md.jinja").read_text(encoding="utf-8"))
    text = template.render(
        _=words_of(root, tree.sources.language),
        title=readme.title,
        hero=next(link for link in readme.links() if link.is_picture),
        start=START,
        lessons=list(cards.values()),
        hours=round(sum(card.minutes for card in cards.values()) / 60, 1),
        groups=groups,
        to_read=[_entry(page) for page in others],
        reference=[_name(page.source) for page in others if page not in deployment],
        deployment=[_name(page.source) for page in deployment],
        api=api,
    )
    (folder / "index.md").write_text(text, encoding="utf-8")


def _name(source: str) -> str:
    return posixpath.splitext(source)[0]


def _entry(page: Page) -> Entry:
    text = next(filter(PARAGRAPH.match, page.texts[0].split("\n\n")), "")
    text = MARKDOWN_LINK.sub(r"\1", " ".join(text.split()))
    return Entry(page.source, page.title, FIRST_SENTENCE.match(text)[0])


def _groups(tree: Tree, cards: dict[str, Card]) -> list[Group]:
    groups: list[Group] = []
    for line in "\n".join(tree.pages[START].texts).splitlines():
        if title := GROUP.match(line):
            groups.append(Group(title[1], []))
        elif groups and line.startswith("- ["):
            source = posixpath.join(posixpath.dirname(START), links_of(line)[0].href)
            if source in cards:
                groups[-1].lessons.append(cards[source])
    groups = [group for group in groups if group.lessons]
    named = {card.source for group in groups for card in group.lessons}
    if missing := sorted(cards.keys() - named):
        raise SiteError(
            f"{START} does not name {', '.join(missing)}; add it to a list under a line in bold"
        )
    return groups


def _card(tree: Tree, page: Page, folder: Path) -> Card:
    english = read_lesson(tree.sources.root / page.source)
    opening = MARKDOWN_LINK.sub(r"\1", page.texts[0])
    do = DO.search(opening)
    if do is None:
        raise SiteError(f"{page.source} does not say in its first cell what learners do; add it")
    picture, alternative = _last_picture(page, folder)
    title = MARKDOWN_LINK.sub(r"\1", title_of(page.texts[0]))
    do = do[1][0].upper() + do[1][1:]
    return Card(page.source, english.number, title, do, english.minutes, picture, alternative)


def _last_picture(page: Page, folder: Path) -> tuple[str | None, str]:
    """Write what a lesson comes to, the last picture in its outputs; return its place and text."""
    outputs = [output for cell in page.notebook.cells for output in cell.get("outputs", ())]
    for output in reversed(outputs):
        for kind in set(PICTURES[1:]) & set(output.get("data", {})):
            name = f"cards/{posixpath.basename(page.source)[:2]}.{kind.removeprefix('image/')}"
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(base64.b64decode(output.data[kind]))
            return name, output.metadata[kind]["alt"]
    return None, ""
