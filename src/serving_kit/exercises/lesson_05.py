"""Lesson 05, write a model repository: repair a configuration, write one, go back a version."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig, ModelInstanceGroup

from oneflow_backend.graph_folder import TensorSpec
from serving_kit.errors import ConfigError
from serving_kit.exercises._answers import NotYet, call
from serving_kit.exercises._configs import parsed
from serving_kit.repository.checks.versions import served_versions
from serving_kit.repository.config import CONFIG, CPU_CONFIG, read_config, write_config
from serving_kit.repository.config_text import parse_config

HINTS = {
    1: (
        "Three lines hold the four mistakes. Which field, which type and which dims differ from "
        "those of section 2? And which hardware does the exercise name?",
        "The names are max_batch_size and TYPE_FP32. With max_batch_size above 0, Triton itself "
        "puts the batch in front of dims.",
        "Of the input, write dims: [ 3, 128, 128 ]. The group for a machine without a GPU is "
        "instance_group { count: 1 kind: KIND_CPU }, without gpus.",
    ),
    2: (
        "Count the tensors: three go in, two come out. Each needs a name, a data_type and dims.",
        "The names are INPUT_0, INPUT_1, INPUT_2, OUTPUT_0 and OUTPUT_1. Leave the first size of "
        "each shape out of its dims, because max_batch_size is above 0.",
        'The share is { name: "INPUT_2" data_type: TYPE_FP32 dims: [ 1 ] }, the histogram '
        '{ name: "OUTPUT_1" data_type: TYPE_INT64 dims: [ 256 ] }. Two instances are '
        "instance_group [ { count: 2 kind: KIND_CPU } ].",
    ),
    3: (
        "Section 6 has a field that says which versions are served. It has to change in both "
        "configurations.",
        "Sort the versions as numbers: [int(folder.name) for folder in model.iterdir() if "
        "folder.name.isdecimal()]. Change the message that read_config returns, so that a policy "
        "that is there already is replaced.",
        "config = read_config(file); config.version_policy.specific.versions[:] = "
        "[sorted(versions)[-2]]; write_config(config, file)",
    ),
}

#: OneFlow's numbers of data types.
FLOAT32, INT64 = 2, 6


@dataclass(frozen=True)
class Wanted:
    """What a configuration is to say: the model's name, rows a run, instances, and its graph."""

    name: str
    rows: int
    instances: int
    input: tuple[TensorSpec, ...]
    output: tuple[TensorSpec, ...]


POSTER = Wanted(
    "poster",
    rows=1,
    instances=1,
    input=(TensorSpec("photo", FLOAT32, (1, 3, 128, 128)),),
    output=(TensorSpec("picture", FLOAT32, (1, 3, 128, 128)),),
)
BLEND = Wanted(
    "blend",
    rows=4,
    instances=2,
    input=(
        TensorSpec("photo", FLOAT32, (1, 3, 64, 64)),
        TensorSpec("other_photo", FLOAT32, (1, 3, 64, 64)),
        TensorSpec("share", FLOAT32, (1, 1)),
    ),
    output=(
        TensorSpec("picture", FLOAT32, (1, 3, 64, 64)),
        TensorSpec("histogram", INT64, (1, 256)),
    ),
)

#: The model of exercise 3, and its versions. Sorted as text, 5 would be the newest, 2 before it.
NAME, VERSIONS = "blend", (1, 2, 5, 10)


def exercise_1(text: str) -> str:
    """Check a configuration that had four mistakes."""
    _check_config(text, POSTER)
    return "All four are repaired. `check` would have named them, and so will Triton, one by one."


def exercise_2(text: str) -> str:
    """Check a configuration that a learner wrote for the graph in ``BLEND``."""
    _check_config(text, BLEND)
    return "Anyone who reads this knows what to send, without seeing the graph."


def _check_config(text: str, wanted: Wanted) -> None:
    config = parsed(text)
    _check_head(config, wanted)
    _check_tensors("input", config.input, wanted.input)
    _check_tensors("output", config.output, wanted.output)
    _check_instances(config, wanted.instances)


def _check_head(config: ModelConfig, wanted: Wanted) -> None:
    if config.name != wanted.name:
        raise NotYet(
            f'the name is "{config.name}", but the model\'s folder is called {wanted.name}.'
        )
    if config.backend != "oneflow":
        raise NotYet(f'the backend is "{config.backend}"; which one runs saved OneFlow graphs?')
    if config.max_batch_size != wanted.rows:
        raise NotYet(f"max_batch_size is {config.max_batch_size}; how many may one run take?")


def _check_tensors(kind: str, tensors: list, specs: tuple[TensorSpec, ...]) -> None:
    if len(tensors) != len(specs):
        raise NotYet(
            f"the graph has {_counted(specs, kind)}, and the configuration {len(tensors)}."
        )
    by_name = {tensor.name: tensor for tensor in tensors}
    for i, spec in enumerate(specs):
        name = f"{kind.upper()}_{i}"
        if name not in by_name:
            raise NotYet(
                f"the {kind}s are called {', '.join(sorted(by_name))}; a graph's tensors have "
                "no names, so how does the backend number them?"
            )
        tensor, dims = by_name[name], list(by_name[name].dims)
        if tensor.data_type != DataType.Value(spec.triton_type):
            raise NotYet(f"the data_type of {name} is not what Triton calls {spec.dtype}.")
        if dims == list(spec.shape):
            raise NotYet(f"{name} has dims {dims}: who puts the batch in front, you or Triton?")
        if dims != list(spec.shape[1:]):
            shape = " x ".join(map(str, spec.shape))
            raise NotYet(f"{name} has dims {dims}, but was traced as {shape}.")


def _counted(specs: tuple[TensorSpec, ...], kind: str) -> str:
    return f"{len(specs)} {kind}{'' if len(specs) == 1 else 's'}"


def _check_instances(config: ModelConfig, instances: int) -> None:
    groups = config.instance_group
    if not groups:
        raise NotYet("all tensors are right, but where does the model run, and how many of it?")
    for group in groups:
        if group.kind != ModelInstanceGroup.KIND_CPU:
            raise NotYet("all tensors are right, but is there an instance that is not on the CPU?")
        if group.gpus:
            raise NotYet("all tensors are right; gpus has no place in a group of KIND_CPU.")
    # Triton makes one instance of a group without a count.
    count = sum(group.count or 1 for group in groups)
    if count != instances:
        raise NotYet(
            f"all tensors are right, but this makes {count} of the model; how many instances are "
            "asked for?"
        )


def exercise_3(roll_back: Callable) -> str:
    """Check a function that has Triton serve the version before the newest."""
    for policy in ("", "version_policy { all { } }"):
        with tempfile.TemporaryDirectory() as scratch:
            model = Path(scratch) / NAME
            before = _make_model(model, policy)
            _call(roll_back, model)
            _check_files(model, before)
            for variant in (CONFIG, CPU_CONFIG):
                _check_variant(model, variant, before[variant], policy)
    return "One field, and the old version is back; the new one waits in its folder."


def _make_model(model: Path, policy: str) -> dict[str, bytes]:
    """Make a model with some versions and both configurations; return its files."""
    for version in VERSIONS:
        (model / str(version) / "model").mkdir(parents=True)
        (model / str(version) / "model" / "model.mlir").write_text(f"version {version}\n")
    for variant, kind in ((CONFIG, "KIND_GPU"), (CPU_CONFIG, "KIND_CPU")):
        text = f'name: "{NAME}" backend: "oneflow" instance_group [ {{ kind: {kind} }} ] {policy}'
        write_config(parse_config(text, variant), model / variant)
    return _files(model)


def _files(model: Path) -> dict[str, bytes]:
    files = (path for path in model.rglob("*") if path.is_file())
    return {str(path.relative_to(model)): path.read_bytes() for path in files}


def _call(roll_back: Callable, model: Path) -> None:
    """Call the learner's function; its error is told without the folder of this trial."""
    try:
        call(roll_back, model)
    except NotYet as hint:
        raise NotYet(str(hint).replace(f"{model.parent}/", "")) from None


def _check_files(model: Path, before: dict[str, bytes]) -> None:
    """Check that nothing but the two configurations has changed."""
    after = _files(model)
    for name, data in before.items():
        if name not in after:
            raise NotYet(
                f"{NAME}/{name} is gone; leave every file in its place, a field of the "
                "configuration says which versions are served."
            )
        if after[name] != data and name not in (CONFIG, CPU_CONFIG):
            raise NotYet(f"{NAME}/{name} has changed; change nothing but the configurations.")
    if added := sorted(set(after) - set(before)):
        raise NotYet(f"{NAME}/{added[0]} is new; the two configurations that are there will do.")


def _check_variant(model: Path, variant: str, before: bytes, policy: str) -> None:
    """Check that one configuration serves the version before the newest, and else is as it was."""
    where = f"a model with {policy}: " if policy else ""
    try:
        config = read_config(model / variant)
    except ConfigError as error:
        raise NotYet(f"{where}Triton could not read {variant} now: {error.sentence}.") from None
    served = served_versions(config, {version: str(version) for version in VERSIONS})
    if served != [VERSIONS[-2]]:
        raise NotYet(
            f"{where}of the versions {', '.join(map(str, VERSIONS))}, {variant} now serves "
            f"{', '.join(map(str, served)) or 'none'}; expected the newest but one, by number."
        )
    expected = parse_config(before.decode(), variant)
    for each in (config, expected):
        each.ClearField("version_policy")
    if config != expected:
        raise NotYet(f"{where}{variant} serves the right version, but other fields changed, too.")
