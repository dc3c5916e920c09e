"""Lesson 05, write a model repository: repair a configuration, write one, go back a version."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from oneflow_backend.graph_folder import TensorSpec
from serving_kit.errors import ConfigError
from serving_kit.exercises._answers import NotYet, call
from serving_kit.exercises._configs import Wanted, check_config
from serving_kit.language import _
from serving_kit.repository.checks.versions import served_versions
from serving_kit.repository.config import CONFIG, CPU_CONFIG, read_config, write_config
from serving_kit.repository.config_text import parse_config

HINTS = {
    1: (
        _(
            "Three lines hold the four mistakes. Which field, which type and which dims differ "
            "from those of section 2? And which hardware does the exercise name?"
        ),
        _(
            "The names are max_batch_size and TYPE_FP32. With max_batch_size above 0, Triton "
            "itself puts the batch in front of dims."
        ),
        _(
            "Of the input, write dims: [ 3, 128, 128 ]. The group for a machine without a GPU is "
            "instance_group { count: 1 kind: KIND_CPU }, without gpus."
        ),
    ),
    2: (
        _("Count the tensors: three go in, two come out. Each needs a name, a data_type and dims."),
        _(
            "The names are INPUT_0, INPUT_1, INPUT_2, OUTPUT_0 and OUTPUT_1. Leave the first size "
            "of each shape out of its dims, because max_batch_size is above 0."
        ),
        _(
            'The share is { name: "INPUT_2" data_type: TYPE_FP32 dims: [ 1 ] }, the histogram { '
            'name: "OUTPUT_1" data_type: TYPE_INT64 dims: [ 256 ] }. Two instances are '
            "instance_group [ { count: 2 kind: KIND_CPU } ]."
        ),
    ),
    3: (
        _(
            "Section 6 has a field that says which versions are served. It has to change in both "
            "configurations."
        ),
        _(
            "Sort the versions as numbers: [int(folder.name) for folder in model.iterdir() if "
            "folder.name.isdecimal()]. Change the message that read_config returns, so that a "
            "policy that is there already is replaced."
        ),
        _(
            "config = read_config(file); config.version_policy.specific.versions[:] = "
            "[sorted(versions)[-2]]; write_config(config, file)"
        ),
    ),
}

#: OneFlow's numbers of data types.
FLOAT32, INT64 = 2, 6

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
    check_config(text, POSTER)
    return _(
        "All four are repaired. `check` would have named them, and so will Triton, one by one."
    )


def exercise_2(text: str) -> str:
    """Check a configuration that a learner wrote for the graph in ``BLEND``."""
    check_config(text, BLEND)
    return _("This tells the author of a client what to send, without the graph.")


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
    return _("One field, and the old version is back; the new one waits in its folder.")


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
                _(
                    "{model}/{name} is gone; leave every file in its place, a field of the "
                    "configuration says which versions are served."
                ).format(model=NAME, name=name)
            )
        if after[name] != data and name not in (CONFIG, CPU_CONFIG):
            raise NotYet(
                _("{model}/{name} has changed; change nothing but the configurations.").format(
                    model=NAME, name=name
                )
            )
    if added := sorted(set(after) - set(before)):
        raise NotYet(
            _("{model}/{added} is new; the two configurations that are there will do.").format(
                model=NAME, added=added[0]
            )
        )


def _check_variant(model: Path, variant: str, before: bytes, policy: str) -> None:
    """Check that one configuration serves the version before the newest, and else is as it was."""
    try:
        _check_serves_last_but_one(model, variant, before)
    except NotYet as hint:
        if not policy:
            raise
        raise NotYet(_("a model with {policy}: {hint}").format(policy=policy, hint=hint)) from None


def _check_serves_last_but_one(model: Path, variant: str, before: bytes) -> None:
    try:
        config = read_config(model / variant)
    except ConfigError as error:
        raise NotYet(
            _("Triton could not read {variant} now: {sentence}.").format(
                variant=variant, sentence=error.sentence
            )
        ) from None
    served = served_versions(config, {version: str(version) for version in VERSIONS})
    if served != [VERSIONS[-2]]:
        raise NotYet(
            _(
                "of the versions {versions}, {variant} now serves {served}; expected the newest "
                "but one, by number."
            ).format(
                versions=", ".join(map(str, VERSIONS)),
                variant=variant,
                served=", ".join(map(str, served)) or _("none"),
            )
        )
    expected = parse_config(before.decode(), variant)
    for each in (config, expected):
        each.ClearField("version_policy")
    if config != expected:
        raise NotYet(
            _("{variant} serves the right version, but other fields changed, too.").format(
                variant=variant
            )
        )
