"""What a model's config.pbtxt says, held against the graph that it serves.

Works on the configuration as a dict, in the form in which Triton hands it to a backend.
"""

import difflib
from dataclasses import dataclass

from graph_folder import GraphFolder, GraphFolderError, TensorSpec


@dataclass(frozen=True)
class Settings:
    """The backend's own parameters, from ``parameters { key: ... }`` in config.pbtxt."""

    #: Numbers of rows that shall have a plan of their own; None leaves the choice to the worker.
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
            near = difflib.get_close_matches(key, readers, n=1) or [", ".join(readers)]
            raise GraphFolderError(f"{place} is unknown; the backend has: {near[0]}")
        text = entry["string_value"].strip()
        try:
            values[key] = readers[key](text)
        except ValueError as error:
            raise GraphFolderError(f'{place} is "{text}", but must be {error}') from None
    return Settings(**values)


def _batch_sizes(text: str, largest: int) -> tuple[int, ...]:
    expected = f'numbers from 2 to max_batch_size ({largest}), as "2, 4", or empty for none'
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
        raise ValueError('a number of seconds above 0, as "2.5"')
    return number


def _whole_number(text: str) -> int:
    if not text.isdecimal():
        raise ValueError('a whole number, 0 or more, as "3"')
    return int(text)


def _yes_or_no(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError('"true" or "false"')
    return text.lower() == "true"


def complete(config: dict, folder: GraphFolder) -> dict[str, list[dict]]:
    """Return the inputs and outputs that config.pbtxt leaves out, as it would name them."""
    batched = config.get("max_batch_size", 0) > 0
    missing = {}
    for kind, specs in (("input", folder.inputs), ("output", folder.outputs)):
        if not config.get(kind):
            missing[kind] = [
                {
                    "name": f"{kind.upper()}_{i}",
                    "data_type": spec.triton_type,
                    "dims": list(spec.shape[1:] if batched else spec.shape),
                }
                for i, spec in enumerate(specs)
            ]
    return missing


def check_config(config: dict, folder: GraphFolder) -> None:
    """Compare the configuration's names, types and dims with the graph's.

    Raises:
        GraphFolderError: naming the tensor, what config.pbtxt says and what the graph has.
    """
    batched = config.get("max_batch_size", 0) > 0
    for kind, specs in (("input", folder.inputs), ("output", folder.outputs)):
        entries = {entry["name"]: entry for entry in config[kind]}
        expected = {f"{kind.upper()}_{i}": spec for i, spec in enumerate(specs)}
        if set(entries) != set(expected):
            raise GraphFolderError(
                f"config.pbtxt of {config['name']} names the {kind}s "
                f"{', '.join(sorted(entries)) or '(none)'}, but the graph has "
                f"{', '.join(expected)}; write these names"
            )
        for name, spec in expected.items():
            _check_tensor(config["name"], entries[name], spec, batched)


def _check_tensor(model: str, entry: dict, spec: TensorSpec, batched: bool) -> None:
    place = f"config.pbtxt of {model}: {entry['name']}"
    if entry["data_type"] != spec.triton_type:
        raise GraphFolderError(
            f"{place} is {entry['data_type']}, but the graph has {spec.triton_type}; write that"
        )
    if batched and spec.shape[:1] != (1,):
        raise GraphFolderError(
            f"{place} has the shape {list(spec.shape)} in the graph, without a batch of 1 in "
            "front; write max_batch_size: 0, or trace the graph with a batch of 1"
        )
    dims = [int(size) for size in entry["dims"]]
    expected = list(spec.shape[1:] if batched else spec.shape)
    if dims != expected:
        rule = "without the batch" if batched else "with every dimension, as max_batch_size is 0"
        raise GraphFolderError(
            f"{place} has dims {dims}, but the graph has {expected} ({rule}); write these"
        )
