"""Colours for config.pbtxt, protobuf's text format, which Pygments does not know."""

from pygments.lexer import RegexLexer
from pygments.token import Comment, Keyword, Name, Number, Punctuation, String, Whitespace


class PbtxtLexer(RegexLexer):
    """Tells names of fields, strings, numbers and constants apart."""

    name, aliases, filenames = "Protobuf text format", ("pbtxt",), ("*.pbtxt",)
    tokens = {  # noqa: RUF012
        "root": [
            (r"\s+", Whitespace),
            (r"#.*", Comment.Single),
            (r'"(\\.|[^"\\])*"', String.Double),
            (r"-?\d[\w.]*", Number),
            (r"\w+(?=\s*[:{\[])", Name.Attribute),
            (r"(true|false|[A-Z][A-Z0-9_]+)\b", Keyword.Constant),
            (r"\w+", Name),
            (r".", Punctuation),
        ]
    }
