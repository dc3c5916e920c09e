"""The words in a Mermaid text: its labels, and the text again with translations in their place."""

import re
from collections.abc import Callable

#: What is before a label, the label, what is after it; by a text's first word.
PATTERNS = {
    # Everything between quotes, of nodes, edges and groups; backticks enclose Mermaid's Markdown.
    "flowchart": re.compile(r'(?P<before>"`?)(?P<label>[^"`]+)(?P<after>`?")'),
    # The rest of a line, after the participant's letter, "alt", "else", or the first colon.
    "sequenceDiagram": re.compile(
        r"^(?P<before>\s*(?:participant \w+ as|alt|else|[^:\n]*:) )(?P<label>.+)(?P<after>)$",
        re.MULTILINE,
    ),
}


def labels(text: str) -> list[str]:
    """Return the labels of a Mermaid text in their order, each once, with their line breaks.

    Raises:
        ValueError: The text is of a kind that is not in ``PATTERNS``.
    """
    return list(dict.fromkeys(found["label"] for found in _pattern(text).finditer(text)))


def translated(text: str, translate: Callable[[str], str]) -> str:
    """Return a Mermaid text with ``translate(label)`` in place of each label.

    Raises:
        ValueError: The text is of a kind that is not in ``PATTERNS``.
    """
    return _pattern(text).sub(
        lambda found: found["before"] + translate(found["label"]) + found["after"], text
    )


def _pattern(text: str) -> re.Pattern[str]:
    kind = text.split(maxsplit=1)[0]
    if kind not in PATTERNS:
        raise ValueError(
            f"The drawing begins with {kind!r}, expected one of {', '.join(PATTERNS)}; add to "
            "PATTERNS where the labels of such a drawing are."
        )
    return PATTERNS[kind]
