"""The text of a graph, ``model.mlir``, read without OneFlow or MLIR: one operator a line.

A line looks like ``%y = "oneflow.relu"(%x) {device_tag = "cpu", op_name = "m.a-relu-2"} : ...``.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_HEAD = re.compile(r'\s*(?:(%[\w#:, %]+) = )?"oneflow\.(\w+)"\(([^)]*)\)')
#: Whole strings are consumed, so that nothing inside of a name is taken for an attribute.
_ATTRIBUTE = re.compile(
    r"""\b(\w+)\ =\ (?: "((?:[^"\\]|\\.)*)" | (?:dense<)?\[([^\]"]*)\] | ([^\s,"\[\]{}]+) )
      | "(?:[^"\\]|\\.)*" """,
    re.VERBOSE,
)
_ESCAPE = re.compile(rb'\\(?:([\\"])|([0-9A-Fa-f]{2}))')
_VALUE = re.compile(r"%\w+")


@dataclass(frozen=True)
class Operator:
    """One line of the text."""

    #: ``relu``, ``input``, ``variable``, ...
    kind: str
    #: The values that it gives and takes: ``%y``, ``%output_1``, ...
    results: tuple[str, ...]
    operands: tuple[str, ...]
    #: Its name in the job; empty where the line has none.
    name: str
    #: Its attributes that are no strings, as they are written; lists without their brackets.
    attributes: dict[str, str]
    line: str

    @property
    def module(self) -> str:
        """The module whose ``forward`` called it: ``m.a``; empty for ``build`` itself."""
        scope, dash, _ = self.name.rpartition("-")[0].rpartition("-")
        return scope if dash else ""


def operators(text: str) -> Iterator[Operator]:
    """Yield the operators of a graph, in the order of the text."""
    for line in text.splitlines():
        if head := _HEAD.match(line):
            name, attributes = "", {}
            for attribute in _ATTRIBUTE.finditer(line, head.end()):
                key, string, items, value = attribute.groups()
                if key == "op_name" and string is not None:
                    name = _decoded(string)
                elif key and string is None:
                    attributes[key] = value or items or ""
            results, operands = (tuple(_VALUE.findall(head[i] or "")) for i in (1, 3))
            yield Operator(head[2], results, operands, name, attributes, line)


def _decoded(text: str) -> str:
    r"""Return a string without MLIR's escapes: ``\E5\B1\82`` is one Chinese character.

    MLIR writes every byte that is no printable ASCII character, and the quote, as two hexadecimal
    digits (llvm::printEscapedString). Bytes that are no UTF-8 stay as Python has them in names
    of files.
    """
    plain = _ESCAPE.sub(lambda m: m[1] or bytes.fromhex(m[2].decode()), text.encode())
    return plain.decode("utf-8", "surrogateescape")
