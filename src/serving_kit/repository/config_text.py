"""Conversion between the text of a config.pbtxt and Triton's ``ModelConfig`` protobuf.

The text is protobuf's text format; tritonclient carries the definition of ``ModelConfig``.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from serving_kit.errors import ConfigError, did_you_mean

#: How learners write types that Triton calls otherwise.
OTHER_NAMES = {"FLOAT": "FP32", "DOUBLE": "FP64", "HALF": "FP16", "INT": "INT32", "LONG": "INT64"}

_TOKEN = re.compile(
    r"""(?P<comment>\#[^\n]*)
      | (?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
      | (?P<word>[\w.+-]+)
      | (?P<mark>[^\s\w])
    """,
    re.VERBOSE,
)


def parse_config(text: str, path: str | Path) -> ModelConfig:
    """Parse the text of a config.pbtxt.

    Raises:
        ConfigError: in ``path``, with the line, and for an unknown name the nearest one that is
            valid there.
    """
    try:
        return text_format.Parse(text, ModelConfig())
    except text_format.ParseError as error:
        raise ConfigError(_explain(error), Path(path), error.GetLine()) from None


def _explain(error: text_format.ParseError) -> str:
    """Say what the parser found, and what to write instead."""
    text = "".join(letter if letter.isprintable() else "?" for letter in str(error)).rstrip(".")
    if found := re.search(r'Message type "([\w.]+)" has no field named "([^"]+)"', text):
        return f'there is no field "{found[2]}" here; {_right_field(found[2], found[1])}'
    if found := re.search(r'Enum type "([\w.]+)" has no value named ([\w.]+)', text):
        values = ModelConfig.DESCRIPTOR.file.pool.FindEnumTypeByName(found[1]).values_by_name
        return f"{found[2]} is not a value of this field; {_right_value(found[2], list(values))}"
    if found := re.search(r'should not have multiple "(\w+)" fields', text):
        return f"{found[1]} is given twice; keep one of them"
    if found := re.search(r'Field "(\w+)" is specified along with field "(\w+)"', text):
        return f"{found[1]} and {found[2]} cannot be used together; keep one of them"
    # "3:14 : '    dims: [ 3, 64 64 ]': Expected ","." quotes the line, which the caller names.
    said = re.sub(r"^\d+:\d+ : ('.*': )?", "", text)
    return (
        f"cannot be understood at column {error.GetColumn()} ({said}); look here, and at the end "
        "of the line above, for a missing or extra quote, comma or bracket"
    )


def _right_field(name: str, message: str) -> str:
    """Say which field of a message was probably meant, or where the one that was meant belongs."""
    fields = ModelConfig.DESCRIPTOR.file.pool.FindMessageTypeByName(message).fields_by_name
    top = ModelConfig.DESCRIPTOR.fields
    homes = [f.name for f in top if f.message_type and name in f.message_type.fields_by_name]
    if (
        message != ModelConfig.DESCRIPTOR.full_name
        and name in ModelConfig.DESCRIPTOR.fields_by_name
    ):
        return "it belongs outside of all brackets: is a closing one missing above?"
    if message == ModelConfig.DESCRIPTOR.full_name and homes:
        return f"it belongs inside of {' or '.join(homes)}: is a closing bracket too many above?"
    return did_you_mean(name, fields)


def _right_value(name: str, known: list[str]) -> str:
    """Say which value of an enum was probably meant; NumPy's and C's type names count too."""
    family = known[0][: known[0].find("_") + 1]  # "TYPE_", "KIND_"
    plain = name.upper().removeprefix(family)
    return did_you_mean(family + OTHER_NAMES.get(plain, plain.replace("FLOAT", "FP")), known)


def tokens(text: str) -> Iterator[tuple[str, str, int]]:
    """Yield kind, text and line of each token."""
    line, seen = 1, 0
    for token in _TOKEN.finditer(text):
        line += text.count("\n", seen, token.start())
        seen = token.start()
        yield token.lastgroup, token[0], line


@dataclass
class _Frame:
    """An open bracket of a config.pbtxt, and where in the configuration it is."""

    bracket: str
    path: tuple
    count: Counter
    field: str = ""


def field_lines(text: str) -> dict[tuple, int]:
    """Return the line of every field of a config.pbtxt that parses.

    Keys are paths as ``("input", 1, "dims", 0)``; of a map also ``("parameters", "max_retries")``.
    """
    lines: dict[tuple, int] = {}
    frames = [_Frame("{", (), Counter())]
    before = ""
    for kind, token, line in tokens(text):
        if kind == "comment":
            continue
        top = frames[-1]
        if kind == "word" and top.bracket == "{" and before != ":":
            top.field = token
            lines[(*top.path, token, top.count[token])] = line
            top.count[token] += 1
        elif kind == "string" and top.field == "key" and top.path:
            lines[(*top.path[:-1], token[1:-1])] = lines[top.path]
        elif token == "[":
            top.count[top.field] -= 1  # the elements of a list are counted one by one
            frames.append(_Frame("[", top.path, top.count, top.field))
        elif token in ("{", "<"):
            if top.bracket == "[":
                top.count[top.field] += 1
            path = (*top.path, top.field, top.count[top.field] - 1)
            if top.bracket == "[":
                lines[path] = line
            frames.append(_Frame("{", path, Counter()))
        elif token in ("}", ">", "]"):
            frames.pop()
        before = token
    return lines


def format_config(config: ModelConfig) -> str:
    """Return the text of a config.pbtxt, one field per line, in the order of model_config.proto.

    ``max_batch_size`` is written even when it is 0, protobuf's default: it decides how the dims of
    all tensors are read.
    """
    text = text_format.MessageToString(
        config, as_utf8=True, use_index_order=True, use_short_repeated_primitives=True
    )
    return text if config.max_batch_size else f"{text}max_batch_size: 0\n"
