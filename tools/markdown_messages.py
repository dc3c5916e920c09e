"""The messages of a Markdown text, one a block, and the text with other words in their places.

A message is what a translator translates as a whole: a heading, a paragraph, an item of a list, a
cell of a table, a piece of folded HTML. It is Markdown itself; code, links and pictures stand in
it. Blocks of code are none, and neither is what has no words outside of code.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

#: As GitHub and JupyterLab read a page.
PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
#: Tags that part one message of a block of HTML from the next; others stand inside of messages.
PARTING = re.compile(
    r"(<pre.*?</pre>|<!--.*?-->|</?(?:details|summary|p|ul|ol|li|div|table|tr|t[dh])\b[^>]*>)", re.S
)
#: What is no word of a language: code, addresses, tags.
NO_WORDS = re.compile(r"(`+).+?\1(?!`)|<code>.*?</code>|\]\([^)]*\)|https?://\S+|<[^>]*>", re.S)
#: Code in a line, as Markdown or as HTML: what is between such pieces is text.
CODE = re.compile(r"((`+)(?!`).+?(?<!`)\2(?!`)|<code>.*?</code>)", re.S)
#: Where a link or a picture leads, in Markdown and in HTML.
TARGET = re.compile(r"(\]\(|(?:href|src)=\")([^)\s\"]+)")


class Piece(NamedTuple):
    """A message, and where it stands: text[start:end]."""

    start: int
    end: int
    message: str
    #: What each further line of the message begins with.
    indent: str = ""
    is_cell: bool = False


def messages(text: str) -> list[str]:
    """Return the messages of a Markdown text, in order, each once for each place."""
    return [piece.message for piece in _pieces(text) if _has_words(piece.message)]


def translated(
    text: str, translate: Callable[[str], str], target: Callable[[str], str] = lambda link: link
) -> str:
    """Return a Markdown text with every message translated.

    Args:
        text: the Markdown.
        translate: returns the translation of a message.
        target: returns where a link or a picture of the translation leads, from where that of the
            text does.
    """
    parts, end = [], 0
    for piece in _pieces(text):
        message = piece.message
        if _has_words(message):
            message = translate(message)
        message = _with_targets(message, target).replace("\n", "\n" + piece.indent)
        parts += [
            text[end : piece.start],
            message.replace("|", r"\|") if piece.is_cell else message,
        ]
        end = piece.end
    return "".join([*parts, text[end:]])


def headings(text: str) -> list[str]:
    """Return the headings of a Markdown text."""
    tokens = PARSER.parse(text)
    return [
        inline.content for opening, inline in pairwise(tokens) if opening.type == "heading_open"
    ]


def slug_of(heading: str) -> str:
    """Return a heading's anchor as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors_of(found: Iterable[str]) -> list[str]:
    """Return the anchors of a text's headings as GitHub makes them, repeated ones with numbers."""
    anchors: list[str] = []
    for heading in found:
        anchor = slug = slug_of(heading)
        number = 0
        while anchor in anchors:
            number += 1
            anchor = f"{slug}-{number}"
        anchors.append(anchor)
    return anchors


def shape(text: str) -> list[str]:
    """Return what a Markdown text is made of but for its words: a translation has the same.

    For each block and each piece in a line: its kind, and code and addresses as they stand. Those
    in a line are sorted, as languages have another order of words.
    """
    parts = []
    for token in PARSER.parse(text):
        if token.type == "inline":
            kinds = sorted(_kind(child) for child in token.children or ())
            parts.append(", ".join(filter(None, kinds)))
        else:
            parts.append(token.content if token.type == "fence" else token.type)
    return parts


def _kind(token: Token) -> str:
    if token.type in ("text", "softbreak"):
        return ""
    return " ".join(
        [token.type, *map(str, token.attrs.values()), token.content * (token.type != "image")]
    )


def _has_words(message: str) -> bool:
    return bool(re.search(r"[A-Za-z]{2}", NO_WORDS.sub("", message)))


def _with_targets(message: str, target: Callable[[str], str]) -> str:
    """Return a message whose links and pictures lead elsewhere; what is code stays."""
    parts = CODE.split(message)  # text, code, its backticks, text, ...
    return "".join(
        TARGET.sub(lambda found: found[1] + target(found[2]), part) if place % 3 == 0 else part
        for place, part in enumerate(parts)
        if place % 3 != 2
    )


def _pieces(text: str) -> Iterator[Piece]:
    """Return what may be a message, in order."""
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    row = None
    at = 0
    for token in PARSER.parse(text):
        if token.type == "tr_open":
            row, at = token.map, starts[token.map[0]]
        elif token.type == "html_block":
            yield from _pieces_of_html(text, starts[token.map[0]], starts[token.map[1]])
        elif token.type == "inline" and token.content:
            in_row = token.map is None or (row and token.map == row)
            if in_row:
                cell = token.content.replace("|", r"\|")
                start = text.index(cell, at)
                at = text.find("|", start + len(cell)) + 1
                yield Piece(start, start + len(cell), token.content, is_cell=True)
            else:
                yield _paragraph(text, token, starts[token.map[0]])
        elif token.type == "table_close":
            row = None


def _paragraph(text: str, token: Token, start: int) -> Piece:
    """Return the piece of a paragraph or a heading, whose lines may be indented."""
    first, *further = map(str.strip, token.content.split("\n"))
    start = text.index(first, start)
    end, indent = start + len(first), ""
    for line in further:
        begin = text.index(line, end)
        indent = text[end:begin].rpartition("\n")[2]
        end = begin + len(line)
    # Only a break that shows is one: how a paragraph is wrapped is no matter for translators.
    message = re.sub(r"(?<!<br>)\n", " ", "\n".join([first, *further]))
    return Piece(start, end, message, indent)


def _pieces_of_html(text: str, start: int, end: int) -> Iterator[Piece]:
    for place, part in enumerate(PARTING.split(text[start:end])):
        words = part.strip()
        if words and place % 2 == 0:
            begin = start + part.index(words)
            yield Piece(begin, begin + len(words), " ".join(words.split()))
        start += len(part)
