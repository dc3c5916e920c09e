"""The text of a config.pbtxt and Triton's ``ModelConfig`` protobuf, one into the other.

The text is protobuf's text format; tritonclient carries the definition of ``ModelConfig``.
"""

import difflib
import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from tritonclient.grpc.model_config_pb2 import ModelConfig

from serving_kit.errors import ConfigError

#: Fields that are written before the others of their message, which come in the order in which
#: Triton's model_config.proto declares them.
FIRST_FIELDS = {
    "ModelConfig": ("name", "platform", "backend", "runtime", "max_batch_size"),
    "ModelInstanceGroup": ("name", "count", "kind", "gpus"),
}
WIDTH = 100

#: How learners write types that Triton calls otherwise.
OTHER_NAMES = {"float": "fp32", "double": "fp64", "half": "fp16", "int": "int32", "long": "int64"}

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
            right there.
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
        return f"{found[2]} is no value of this field; {_nearest(found[2], list(values))}"
    if found := re.search(r'should not have multiple "(\w+)" fields', text):
        return f"{found[1]} is here for the second time; leave one of them"
    if found := re.search(r'Field "(\w+)" is specified along with field "(\w+)"', text):
        return f"{found[1]} and {found[2]} exclude each other; leave one of them"
    # "3:14 : '    dims: [ 3, 64 64 ]': Expected ","." quotes the line, which the caller names.
    said = re.sub(r"^\d+:\d+ : ('.*': )?", "", text)
    return (
        f"cannot be understood at column {error.GetColumn()} ({said}); look here, and at the end "
        "of the line before, for a missing quote, comma or bracket, or one too many"
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
    return _nearest(name, list(fields))


def _nearest(name: str, known: list[str]) -> str:
    """Say which known name was probably meant; NumPy's and C's type names count too."""
    plain = {re.sub(r"^(type|kind)_", "", each.lower()): each for each in known}
    wanted = re.sub(r"^(type|kind)_", "", name.lower())
    wanted = OTHER_NAMES.get(wanted, wanted.replace("float", "fp"))
    if near := difflib.get_close_matches(wanted, plain, n=1):
        return f'write "{plain[near[0]]}"'
    return f"write one of {', '.join(known)}"


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
    """Return the text of a config.pbtxt in the house style."""
    parts: list[str] = []
    before = ""
    for field, value in _fields(config):
        if before in FIRST_FIELDS["ModelConfig"] and field.name not in FIRST_FIELDS["ModelConfig"]:
            parts.append("")
        elif before and before not in FIRST_FIELDS["ModelConfig"]:
            parts += [""] if (before, field.name) != ("input", "output") else []
        parts += _field(field, value, "")
        before = field.name
    return "".join(f"{line}\n" for line in parts)


def _fields(message: Message) -> list[tuple]:
    """Return the fields that are set, and their values, in the order in which they are written."""
    fields = {field.name: (field, value) for field, value in message.ListFields()}
    if isinstance(message, ModelConfig):  # written even when 0: it decides how dims are read
        descriptor = message.DESCRIPTOR.fields_by_name["max_batch_size"]
        fields.setdefault("max_batch_size", (descriptor, 0))
    first = FIRST_FIELDS.get(message.DESCRIPTOR.name, ())

    def place(entry: tuple) -> tuple[int, int]:
        name = entry[0].name
        return (first.index(name) if name in first else len(first)), entry[0].index

    return sorted(fields.values(), key=place)


def _field(field: FieldDescriptor, value: object, pad: str) -> Iterator[str]:
    """Yield the lines of one field."""
    if field.message_type and field.message_type.GetOptions().map_entry:
        for key in sorted(value):
            yield from _block(field.name, value.GetEntryClass()(key=key, value=value[key]), pad)
    elif field.message_type and field.label == field.LABEL_REPEATED:
        yield f"{pad}{field.name} ["
        for i, item in enumerate(value, 1):
            yield f"{pad}  {{"
            for inner in _fields(item):
                yield from _field(*inner, f"{pad}    ")
            yield f"{pad}  }}{',' if i < len(value) else ''}"
        yield f"{pad}]"
    elif field.message_type:
        yield from _block("value:" if field.name == "value" else field.name, value, pad)
    elif field.label == field.LABEL_REPEATED:
        yield f"{pad}{field.name}: [ {', '.join(_scalar(field, item) for item in value)} ]"
    else:
        yield f"{pad}{field.name}: {_scalar(field, value)}"


def _block(label: str, message: Message, pad: str) -> Iterator[str]:
    """Yield a message in brackets, on one line where it fits."""
    inside = [line for inner in _fields(message) for line in _field(*inner, "")]
    one_line = " ".join([f"{pad}{label}", "{", *inside, "}"])
    if len(one_line) <= WIDTH and not any(line.endswith((" [", " {")) for line in inside):
        yield one_line
        return
    yield f"{pad}{label} {{"
    for inner in _fields(message):
        yield from _field(*inner, f"{pad}  ")
    yield f"{pad}}}"


def _scalar(field: FieldDescriptor, value: object) -> str:
    out = io.StringIO()
    text_format.PrintFieldValue(field, value, out, as_utf8=True)
    return out.getvalue()
