"""Links, pictures, anchors and folded code of a Markdown text, for ``build_site``."""

import html
import re
from collections.abc import Iterable
from dataclasses import dataclass

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from markdown_messages import headings

#: What is no text: a fenced block, code in a line (it never goes over an empty line), a comment.
CODE = re.compile(
    r"^[ ]*(?P<fence>```+|~~~+).*?^[ ]*(?P=fence)[`~]*[ ]*$"
    r"|(?P<ticks>`+)(?!`)(?:(?!\n\s*\n).)+?(?<!`)(?P=ticks)(?!`)|<!--.*?-->",
    re.M | re.S,
)
LINK = re.compile(r"(?P<bang>!?)\[(?P<text>[^\[\]]*)\]\((?P<href>[^()\s]+)\)")
HTML_LINK = re.compile(r"""<a\b[^>]*\bhref="(?P<href>[^"]*)"[^>]*>(?P<text>.*?)</a>""", re.S)
HTML_PICTURE = re.compile(r"<img\b[^>]*>")
FOLDED_CODE = re.compile(r"<pre><code>(.*?)</code></pre>", re.S)


@dataclass(frozen=True)
class Link:
    """A link or a picture of a text.

    Attributes:
        start: where it begins in the text.
        end: where it ends.
        text: what is between the brackets; of a picture, its alternative text.
        href: where it leads, and where that stands: text[href_start:href_end].
        is_picture: whether it shows what it leads to.
        is_html: whether it is HTML, which Sphinx passes on as it is.
    """

    start: int
    end: int
    text: str
    href: str
    href_start: int
    href_end: int
    is_picture: bool = False
    is_html: bool = False


def links_of(text: str) -> list[Link]:
    """Return the links and pictures of a Markdown text, in order."""
    # Code keeps its length, so that places in the masked text are places in the text.
    masked = CODE.sub(lambda code: "\0" * len(code[0]), text)
    found = [_link(match, text, bool(match["bang"])) for match in LINK.finditer(masked)]
    found += [_link(match, text, False, is_html=True) for match in HTML_LINK.finditer(masked)]
    found += [_html_picture(match) for match in HTML_PICTURE.finditer(masked)]
    return sorted(found, key=lambda link: link.start)


def _link(match: re.Match, text: str, is_picture: bool, is_html: bool = False) -> Link:
    return Link(
        *match.span(),
        text[slice(*match.span("text"))],
        match["href"],
        *match.span("href"),
        is_picture,
        is_html,
    )


def _html_picture(match: re.Match) -> Link:
    source = re.search(r'\bsrc="([^"]*)"', match[0])
    text = re.search(r'\balt="([^"]*)"', match[0])
    start, end = (match.start() + place for place in (source.span(1) if source else (0, 0)))
    href = source[1] if source else ""
    return Link(*match.span(), text[1] if text else "", href, start, end, True, True)


def replaced(text: str, changes: Iterable[tuple[int, int, str]]) -> str:
    """Return a text with some of its places replaced; they are in order and do not overlap."""
    parts, last = [], 0
    for start, end, new in changes:
        parts += [text[last:start], new]
        last = end
    return "".join([*parts, text[last:]])


def title_of(text: str) -> str | None:
    """Return the first heading of a Markdown text; None without any."""
    return next(iter(headings(text)), None)


def with_coloured_code(text: str) -> str:
    """Return a text whose folded Python is coloured, as Sphinx colours the rest.

    Solutions are HTML inside of Markdown, which Sphinx passes on as it is. Other folded code, such
    as an excerpt of a log, is left alone.
    """
    return FOLDED_CODE.sub(_coloured, text)


def _coloured(match: re.Match) -> str:
    code = html.unescape(match[1])
    try:
        compile(code, "<folded>", "exec", flags=0, dont_inherit=True)
    except SyntaxError:
        return match[0]
    block = highlight(code, PythonLexer(), HtmlFormatter(wrapcode=False)).strip()
    return f'<div class="highlight-python notranslate">{block}</div>'
