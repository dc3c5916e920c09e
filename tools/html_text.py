"""From Markdown, source code and the outputs of cells to HTML, for ``build_html``."""

import base64
import re
from functools import cache
from pathlib import Path

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

DESIGN = Path(__file__).resolve().parent / "html"
#: The richest form of an output comes first.
PICTURES = ("image/svg+xml", "image/png", "image/jpeg")
#: Of a printed table, in characters. Longer lines are prose, such as what a check found.
WIDEST_TABLE = 100


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


def alternative_text(output: nbformat.NotebookNode) -> str:
    """Return the text that is stored with a picture for readers who cannot see it."""
    return next((each["alt"] for each in output.metadata.values() if "alt" in each), "")


def last_picture(notebook: nbformat.NotebookNode) -> str | None:
    """Return what a lesson comes to: the last picture in its outputs; None without any."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    pictures = [picture for output in outputs if (picture := picture_of(output))]
    return pictures[-1] if pictures else None


def has_columns(text: str) -> bool:
    """Say whether a cell printed a table; a narrow screen scrolls it and wraps all else."""
    lines = text.splitlines()
    aligned = [line for line in lines if re.search(r"\S {2,}\S", line)]
    return len(aligned) > 1 and max(map(len, lines)) <= WIDEST_TABLE


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
        "alt": alternative_text,
        "ansi": lambda text: Markup(ansi2html(text)),
        "colour": colour,
        "has_columns": has_columns,
        "inline": inline,
        "markdown": lambda text: Markup(markdown(text)),
        "picture": picture_of,
        "plain": plain,
    }
    return environment


def fill(name: str, **values) -> str:
    """Return a template of ``tools/html/`` with its gaps filled."""
    return templates().get_template(name).render(**values)


def soup(html: str) -> BeautifulSoup:
    """Return HTML as a tree that can be changed."""
    return BeautifulSoup(html, "html.parser")


def tags(tree: Tag, *names: str) -> list[Tag]:
    """Return the tags with these names, or all; faster than ``find_all`` in pages of code."""
    found = (tag for tag in tree.descendants if isinstance(tag, Tag))
    return [tag for tag in found if not names or tag.name in names]


def slug_of(heading: str) -> str:
    """Return a heading's anchor as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def keep_dashes(code: Tag) -> None:
    """Let no line end within the dashes of an option, as in ``-`` and ``v`` on the next line."""
    html = re.sub(r"(?<!\S)(-{1,2}\w)", r'<span class="dash">\1</span>', code.decode_contents())
    if "dash" in html:
        code.clear()
        code.append(soup(html))


def finish(body: BeautifulSoup) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """Give headings anchors, tables room to scroll, options whole dashes, solutions colours.

    Returns:
        The anchor and the text of each second heading; and all anchors of the page, by the form in
        which they are looked for.
    """
    sections = []
    # "content" is the anchor of the page's frame.
    taken = {"content"} | {tag["id"] for tag in tags(body) if tag.get("id")}
    for heading in tags(body, "h2", "h3", "h4"):
        anchor = slug = slug_of(heading.get_text())
        number = 0
        while anchor in taken:
            number += 1
            anchor = f"{slug}-{number}"
        taken.add(anchor)
        heading["id"] = anchor
        if heading.name == "h2":
            sections.append((anchor, heading.get_text()))
        link = body.new_tag("a", href=f"#{anchor}", attrs={"class": "anchor"})
        link["aria-label"] = "Link to this section"
        heading.append(link)
    for table in tags(body, "table"):
        table.wrap(body.new_tag("div", attrs={"class": "table"}))
    for code in tags(body, "code"):
        if code.string and not code.find_parent("pre"):
            keep_dashes(code)
    for details in tags(body, "details"):
        if details.summary and details.summary.get_text().startswith("Exercise"):
            for code in tags(details, "pre"):
                code.replace_with(soup(colour(code.get_text(), "ipython3")))
    return sections, {slug_of(anchor): anchor for anchor in sorted(taken)}
