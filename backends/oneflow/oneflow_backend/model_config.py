"""What a model's config.pbtxt says, compared with the graph that it serves.

Works on the configuration as a dict, in the form in which Triton hands it to a backend.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from oneflow_backend.graph_folder import GraphFolder, GraphFolderError, TensorSpec


@dataclass(frozen=True)
class Settings:
    """The backend's own parameters, from ``parameters { key: ... }`` in config.pbtxt."""

    #: Numbers of rows that are to have a plan of their own; None leaves the choice to the worker.
    batch_sizes: tuple[int, ...] | None = None
    #: A run that takes longer ends OneFlow's process, and is tried again. Half of the 60 s after
    #: which tritonclient gives up, so that the client gets the second answer.
    run_timeout_seconds: float = 30.0
    #: How often a request is tried again after OneFlow's process died over it.
    max_retries: int = 3
    #: Whether inputs with NaN or infinity are refused.
    reject_non_finite: bool = False


def read_settings(config: dict) -> Settings:
    """Read the backend's parameters.

    Raises:
        GraphFolderError: a parameter is unknown, or its value is not what it takes.
    """
    readers = {
        "batch_sizes": lambda text: _batch_sizes(text, config.get("max_batch_size", 0)),
        "run_timeout_seconds": _positive_number,
        "max_retries": _whole_number,
        "reject_non_finite": _yes_or_no,
    }
    values = {}
    for key, entry in config.get("parameters", {}).items():
        place = f"config.pbtxt of {config['name']}: parameter {key}"
        if key not in readers:
            if key != key.lower():  # EXECUTION_ENV_PATH and the like are the python backend's
                continue
            raise GraphFolderError(f"{place} is unknown; the backend has: {', '.join(readers)}")
        text = entry["string_value"].strip()
        try:
            values[key] = readers[key](text)
        except ValueError as error:
            raise GraphFolderError(f'{place} is "{text}", but must be {error}') from None
    return Settings(**values)


def _batch_sizes(text: str, largest: int) -> tuple[int, ...]:
    expected = f'numbers from 2 to max_batch_size ({largest}), such as "2, 4", or empty for none'
    if largest < 2:
        expected = f"left out while max_batch_size is {largest}; raise that, or leave this out"
    try:
        sizes = tuple(sorted({int(size) for size in text.split(",") if size.strip()}))
    except ValueError:
        raise ValueError(expected) from None
    if not all(2 <= size <= largest for size in sizes):
        raise ValueError(expected)
    return sizes


def _positive_number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise ValueError('a number of seconds above 0, such as "2.5"')
    return number


def _whole_number(text: str) -> int:
    if not text.isdecimal():
        raise ValueError('a whole number, 0 or more, such as "3"')
    return int(text)


def _yes_or_no(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError('"true" or "false"')
    return text.lower() == "true"


def complete(config: dict, folder: GraphFolder) -> dict[str, list[dict]]:
    """Return the inputs and outputs that config.pbtxt leaves out, as it would name them.

    Also those that Triton would refuse although it is clear what they mean: an empty reshape
    without a batch, which is left out then.
    """
    batched = config.get("max_batch_size", 0) > 0
    completed = {}
    for kind, specs in (("input", folder.inputs), ("output", folder.outputs)):
        entries = config.get(kind)
        if not entries:
            completed[kind] = [
                {
                    "name": f"{kind.upper()}_{i}",
                    "data_type": spec.triton_type,
                    **_written(_dims(spec, batched)),
                }
                for i, spec in enumerate(specs)
            ]
        elif not batched and any(_is_empty_reshape(entry) for entry in entries):
            completed[kind] = [
                {key: entry[key] for key in entry if key != "reshape"}
                if _is_empty_reshape(entry)
                else entry
                for entry in entries
            ]
    return completed


def _dims(spec: TensorSpec, batched: bool) -> list[int]:
    """Return the shape that Triton's python backend has of a tensor, without the batch.

    Triton has no tensors without dimensions: without a batch, a single number is one of [1].
    """
    return list(spec.shape[1:] if batched else spec.shape or (1,))


def _written(dims: list[int]) -> dict:
    """Return a tensor's shape as fields of config.pbtxt, where dims must not be empty."""
    return {"dims": dims} if dims else {"dims": [1], "reshape": {"shape": []}}


def _as_text(dims: list[int]) -> str:
    """Return a tensor's shape as text of config.pbtxt."""
    return f"dims: {_list(dims)}" if dims else f"dims: [ 1 ] {_reshape_text(dims)}"


def _reshape_text(shape: list[int]) -> str:
    return f"reshape {{ shape: {_list(shape)} }}"


def _list(sizes: list[int]) -> str:
    return f"[ {', '.join(map(str, sizes))} ]" if sizes else "[ ]"


def _reshaped(entry: dict) -> list[int]:
    """Return the shape that a tensor of config.pbtxt has for the backend."""
    sizes = entry["reshape"].get("shape", []) if "reshape" in entry else entry["dims"]
    return [int(size) for size in sizes]


def _is_empty_reshape(entry: dict) -> bool:
    return "reshape" in entry and not _reshaped(entry)


@dataclass(frozen=True)
class Mismatch:
    """One point in which config.pbtxt and the graph do not agree."""

    #: "input" or "output".
    kind: str
    #: The tensor's place among the file's inputs or outputs; None when all of them are meant.
    index: int | None
    #: What disagrees: "name", "order", "size", "data_type", "optional", "batch", "dims" or
    #: "reshape".
    what: str
    #: What the file says, what the graph has, what to write.
    sentence: str


def check_config(config: dict, folder: GraphFolder) -> None:
    """Compare the configuration's names, types and dims with the graph's.

    Raises:
        GraphFolderError: naming the tensor, what config.pbtxt says and what the graph has.
    """
    for mismatch in mismatches(config, folder):
        raise GraphFolderError(f"config.pbtxt of {config['name']}{mismatch.sentence}")


def mismatches(config: dict, folder: GraphFolder) -> Iterator[Mismatch]:
    """Yield each point in which the configuration's names, types and dims differ from the graph's.

    Sentences begin with what follows the words "config.pbtxt of the model".
    """
    batched = config.get("max_batch_size", 0) > 0
    if batched and not folder.inputs:
        sentence = (
            f": max_batch_size is {config['max_batch_size']}, but the graph has no input with a "
            "batch dimension; write max_batch_size: 0"
        )
        yield Mismatch("input", None, "batch", sentence)
        return
    for kind, specs in (("input", folder.inputs), ("output", folder.outputs)):
        places = {entry["name"]: i for i, entry in enumerate(config[kind])}
        expected = {f"{kind.upper()}_{i}": spec for i, spec in enumerate(specs)}
        if set(places) != set(expected):
            sentence = (
                f" names the {kind}s {', '.join(sorted(places)) or '(none)'}, but the graph has "
                f"{', '.join(expected)}; use the graph's names"
            )
            yield Mismatch(kind, None, "name", sentence)
            continue
        entries = {name: config[kind][i] for name, i in places.items()}
        if swapped := _swapped(entries, expected, batched):
            sentence = (
                f": {' and '.join(swapped)} have each other's type and dims; "
                f"{kind}s are numbered in the graph's order, so swap their names"
            )
            yield Mismatch(kind, places[swapped[0]], "order", sentence)
            continue
        for name, spec in expected.items():
            if found := _compare(entries[name], spec, batched):
                what, sentence = found
                yield Mismatch(kind, places[name], what, f": {name} {sentence}")


def _swapped(entries: dict, expected: dict[str, TensorSpec], batched: bool) -> list[str]:
    """Return the names of two tensors that would be right with each other's names."""
    written = {name: (entry["data_type"], _reshaped(entry)) for name, entry in entries.items()}
    right = {name: (spec.triton_type, _dims(spec, batched)) for name, spec in expected.items()}
    wrong = [name for name in expected if written[name] != right[name]]
    if len(wrong) == 2 and [written[name] for name in wrong] == [
        right[name] for name in wrong[::-1]
    ]:
        return wrong
    return []


def _compare(entry: dict, spec: TensorSpec, batched: bool) -> tuple[str, str] | None:
    """Return what differs between one tensor in config.pbtxt and in the graph, and a sentence."""
    if 0 in spec.shape:
        return "size", (
            f"has the shape {list(spec.shape)} in the graph, so it has no elements, and Triton "
            "accepts no dimension below 1; leave this tensor out of build()"
        )
    if entry["data_type"] != spec.triton_type:
        return "data_type", (
            f"is {entry['data_type']}, but the graph has {spec.triton_type}; use the graph's type"
        )
    if entry.get("optional"):
        return "optional", "is optional, but a graph needs all of its inputs; remove optional"
    if batched and not spec.shape:
        return "batch", (
            "is a single number in the graph, without a batch; write max_batch_size: 0, or have "
            "build() take or return one number per row, with the shape [1] for a batch of 1"
        )
    if batched and spec.shape[:1] != (1,):
        return "batch", (
            f"has the shape {list(spec.shape)} in the graph, without a leading batch of 1; write "
            "max_batch_size: 0, or trace the graph with a batch of 1"
        )
    dims, expected = [int(size) for size in entry["dims"]], _dims(spec, batched)
    if _reshaped(entry) == expected:
        return None
    rule = "without the batch" if batched else "with every dimension, as max_batch_size is 0"
    if "reshape" in entry:
        return "reshape", (
            f"has {_reshape_text(_reshaped(entry))}, but the graph has {expected} ({rule}); write "
            f"{_as_text(expected)}"
        )
    if not expected:
        return "dims", (
            f"has dims {dims}, but the graph has one number per row (a batch dimension and "
            f"nothing else); write {_as_text(expected)}"
        )
    if batched and dims == list(spec.shape):
        return "batch", (
            f"has dims {dims}, but the graph has {expected} (without the batch, which Triton adds "
            "because max_batch_size is above 0); use the graph's dims"
        )
    return "dims", f"has dims {dims}, but the graph has {expected} ({rule}); use the graph's dims"
