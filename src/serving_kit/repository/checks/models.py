"""What Triton, and the backend "oneflow", expect of one model, apart from all others."""

from collections.abc import Iterator

from serving_kit.errors import did_you_mean
from serving_kit.repository.checks.findings import ENSEMBLE, Finding, Written
from serving_kit.repository.checks.folders import ModelFolder
from serving_kit.repository.checks.graphs import check_graph, check_parameters
from serving_kit.repository.checks.python_models import check_python
from serving_kit.repository.checks.tensors import check_tensors
from serving_kit.repository.checks.versions import check_versions
from serving_kit.repository.config import CONFIG

#: The backends of the servers that the kit starts.
BACKENDS = ("oneflow", "python")
#: What a client notices, and so must be the same in every configuration of a model.
CLIENT_FIELDS = (
    "backend",
    "platform",
    "max_batch_size",
    "input",
    "output",
    "version_policy",
    "ensemble_scheduling",
)


def check_model(model: ModelFolder) -> Iterator[Finding]:
    """Check everything about one model for which neither other models nor GPUs matter."""
    for written in model.configs.values():
        yield from _check_name(written)
        yield from _check_backend(written)
        yield from check_versions(written, model)
        yield from _check_batching(written)
        yield from _check_labels(written, model)
        yield from check_tensors(written)
        if written.config.backend == "oneflow":
            yield from check_graph(written, model)
            yield from check_parameters(written)
        if written.config.backend == "python":
            yield from check_python(written, model)
    yield from _check_variants(model)


def _check_name(written: Written) -> Iterator[Finding]:
    name = written.config.name
    if name not in ("", written.model):  # without a name, the folder's counts
        yield written.error(
            "name",
            f'the name is "{name}", but the folder is called "{written.model}", and they '
            "must match; change one of them",
            "name",
        )


def _check_backend(written: Written) -> Iterator[Finding]:
    config = written.config
    if config.platform == ENSEMBLE or config.HasField("ensemble_scheduling"):
        return
    if not config.backend:
        found = f' (platform: "{config.platform}" names none)' if config.platform else ""
        yield written.error(
            "backend",
            f'the backend is missing{found}; for a saved OneFlow graph, write backend: "oneflow"',
            "platform",
        )
    elif config.backend not in BACKENDS:
        yield written.error(
            "backend",
            f'there is no backend "{config.backend}" in the kit\'s servers, which have '
            f"{' and '.join(BACKENDS)}; {did_you_mean(config.backend, BACKENDS)}",
            "backend",
        )


def _check_batching(written: Written) -> Iterator[Finding]:
    config = written.config
    if config.max_batch_size < 0:
        yield written.error(
            "max-batch-size",
            f"max_batch_size is {config.max_batch_size}; write 0 for no batches, or the most rows "
            "of one run",
            "max_batch_size",
        )
        return
    if not config.HasField("dynamic_batching"):
        return
    place = ("dynamic_batching", 0, "preferred_batch_size")
    for size in config.dynamic_batching.preferred_batch_size:
        if not 0 < size <= config.max_batch_size:
            yield written.error(
                "preferred-batch-size",
                f"preferred_batch_size {size} must be from 1 to max_batch_size, which is "
                f"{config.max_batch_size}; change one of them",
                *place,
            )
    if config.max_batch_size < 2:
        yield written.warning(
            "dynamic-batching",
            f"dynamic_batching joins nothing while max_batch_size is {config.max_batch_size}; "
            "raise that, or leave this out",
            "dynamic_batching",
        )


def _check_labels(written: Written, model: ModelFolder) -> Iterator[Finding]:
    for i, output in enumerate(written.config.output):
        if output.label_filename and not (model.path / output.label_filename).is_file():
            yield written.error(
                "label-file",
                f"{output.name} has its labels in {output.label_filename}, which is not in the "
                "model's folder; put it there, or leave label_filename out",
                "output",
                i,
                "label_filename",
            )


def _check_variants(model: ModelFolder) -> Iterator[Finding]:
    """Find what a client would notice when another machine reads another configuration."""
    main = model.configs.get(CONFIG)
    if not main:
        return
    for variant, written in model.configs.items():
        differ = [
            name
            for name in CLIENT_FIELDS
            if getattr(main.config, name) != getattr(written.config, name)
        ]
        if differ:
            yield written.warning(
                "variants-differ",
                f"{' and '.join(differ)} differ from {CONFIG}, so the model is another one with "
                f"{variant} than without; only instance_group needs to differ",
                differ[0],
            )
