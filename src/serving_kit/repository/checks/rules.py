"""What Triton, and the backend "oneflow", expect of one model's configuration."""

import ast
import warnings
from collections.abc import Iterator

from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig

from oneflow_backend.graph_folder import GraphFolder, GraphFolderError
from serving_kit.repository.checks.findings import Finding, Written, did_you_mean
from serving_kit.repository.checks.folders import NO_VERSIONS, VERSION, ModelFolder, entries_of
from serving_kit.repository.config import (
    CONFIG,
    LARGEST_BYTES,
    NO_DIMS,
    as_triton_has_it,
    backend_config,
    tensors_without_dims,
)

#: The backends of the servers that the kit starts.
BACKENDS = ("oneflow", "python")
ENSEMBLE = "ensemble"
#: Where a mismatch stands that is not called as the field.
FIELD_OF = {"order": "name", "batch": "dims"}
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
        yield from _check_versions(written, model)
        yield from _check_batching(written)
        yield from _check_labels(written, model)
        yield from _check_tensors(written)
        if written.config.backend == "oneflow":
            yield from _check_graph(written, model)
            yield from _check_parameters(written)
        if written.config.backend == "python":
            yield from _check_python(written, model)
    yield from _check_variants(model)


def _check_name(written: Written) -> Iterator[Finding]:
    name = written.config.name
    if name not in ("", written.model):  # without a name, the folder's counts
        yield written.error(
            "name",
            f'the name is "{name}", but the folder is called "{written.model}", and both must be '
            "the same; change one of them",
            "name",
        )


def _check_backend(written: Written) -> Iterator[Finding]:
    config = written.config
    if config.platform == ENSEMBLE or config.HasField("ensemble_scheduling"):
        return
    if not config.backend:
        found = f'platform: "{config.platform}" names none' if config.platform else "there is none"
        yield written.error(
            "backend",
            f"the backend is missing ({found}); for a saved OneFlow graph, write "
            'backend: "oneflow"',
            "platform",
        )
    elif config.backend not in BACKENDS:
        yield written.error(
            "backend",
            f'there is no backend "{config.backend}" in the kit\'s servers, which have '
            f"{' and '.join(BACKENDS)}; {did_you_mean(config.backend, BACKENDS)}",
            "backend",
        )


def served_versions(config: ModelConfig, versions: dict[int, str]) -> list[int]:
    """Return the versions that Triton serves, of those that are there, by the version policy."""
    policy = config.version_policy
    newest_first = sorted(versions, reverse=True)
    if policy.HasField("specific"):
        return [version for version in newest_first if version in policy.specific.versions]
    if policy.HasField("latest"):
        return newest_first[: policy.latest.num_versions]
    return newest_first if config.HasField("version_policy") else newest_first[:1]


def _check_versions(written: Written, model: ModelFolder) -> Iterator[Finding]:
    served = served_versions(written.config, model.versions)
    asked = written.config.version_policy.specific.versions
    missing = [str(version) for version in asked if version not in model.versions]
    there = ", ".join(map(str, sorted(model.versions))) or "none"
    if not model.versions:
        yield _no_version(written, model)
    elif not served or missing:
        what = f"names version {', '.join(missing)}" if missing else "serves no version"
        report = written.advice if served else written.error
        yield report(
            "version-policy",
            f"version_policy {what}, but the model's folder has {there}; change one of them",
            "version_policy",
        )
    for version in served:
        name = model.versions[version]
        if not VERSION.fullmatch(name):
            yield Finding(
                "error",
                "version-name",
                model.path / name,
                None,
                f'Triton takes the folder "{name}" for version {version}, by the number at its '
                f"beginning, and then looks into {version}/, which is not there; call it "
                f"{abs(version)}, or move it out of the model's folder",
                model.name,
            )


def _no_version(written: Written, model: ModelFolder) -> Finding:
    entries = [entry for entry in entries_of(model.path) if entry.name not in NO_VERSIONS]
    strange = [f.name for f in entries if f.is_dir() and not f.name.startswith(".")]
    files = [file.name for file in entries if file.is_file() and VERSION.fullmatch(file.name)]
    if written.config.platform == ENSEMBLE:
        message = (
            "an ensemble needs a version folder too, though an empty one; make 1/ with a file "
            ".gitkeep in it, because git keeps no empty folder"
        )
    elif files:
        message = f"no version: {files[0]} is a file, but a version is a folder; make it one"
    elif strange:
        message = (
            f"no version: a version's folder is called by a number without leading zeros, as 1, "
            f"but here is {', '.join(strange[:3])}; rename it"
        )
    elif written.config.backend == "oneflow":
        message = "no version: the saved graph belongs into 1/model; export it (make models)"
    else:
        message = "no version: expected a folder 1 with the model in it; make it"
    return Finding("error", "no-version", model.path, None, message, model.name)


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
        yield written.advice(
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


def _check_graph(written: Written, model: ModelFolder) -> Iterator[Finding]:
    """Hold the configuration against the graph of each version, with the backend's own rules."""
    served = served_versions(written.config, model.versions)
    for version, reason in model.broken.items():
        yield Finding(
            "error" if version in served else "advice",
            "graph-folder",
            model.path / str(version) / "model",
            None,
            reason,
            model.name,
        )
    for version in served:
        if version in model.graphs and written.config.max_batch_size >= 0:
            which = f" (version {version})" if len(served) > 1 else ""
            yield from _compare(
                written, completed(written, model, version), which, model.graphs[version]
            )


def completed(written: Written, model: ModelFolder, version: int) -> dict:
    """Return the configuration as Triton has it after the backend completed it."""
    config = as_triton_has_it(written.config)
    if version in model.graphs:
        config |= backend_config.complete(config, model.graphs[version])
    return config


def _compare(written: Written, config: dict, which: str, graph: GraphFolder) -> Iterator[Finding]:
    """Report the points in which a configuration and a graph differ."""
    told = False
    for found in backend_config.mismatches(config, graph):
        told = True
        if found.index is not None and not _is_whole(config[found.kind][found.index]):
            continue  # it is said already what is missing
        place = (found.kind, found.index or 0, FIELD_OF.get(found.what, found.what))
        code = f"tensor-{found.what.replace('_', '-')}"
        yield written.error(code, found.sentence.strip(": ") + which, *place)
    if not told:
        for name in tensors_without_dims(config):
            yield written.error("tensor-dims", f"{name} {NO_DIMS}", "max_batch_size")


def _is_whole(tensor: dict) -> bool:
    sizes = [int(size) for size in tensor["dims"]]
    return (
        bool(tensor["name"] and sizes)
        and tensor["data_type"] != "TYPE_INVALID"
        and all(size >= 1 or size == -1 for size in sizes)
    )


def _check_parameters(written: Written) -> Iterator[Finding]:
    config = as_triton_has_it(written.config)
    for key, entry in config.get("parameters", {}).items():
        try:
            backend_config.read_settings(config | {"parameters": {key: entry}})
        except GraphFolderError as error:
            sentence = str(error).partition(": ")[2]  # the file is named anyway
            yield written.error("parameter", sentence, "parameters", key)


def _check_tensors(written: Written) -> Iterator[Finding]:
    """Check what Triton itself expects of inputs and outputs."""
    for kind in ("input", "output"):
        tensors = getattr(written.config, kind)
        names = [tensor.name for tensor in tensors]
        for i, tensor in enumerate(tensors):
            who = tensor.name or f"this {kind}"
            if not tensor.name:
                sentence = f'{who} has no name; give it one, as name: "{kind.upper()}_{i}"'
                yield written.error("tensor-name", sentence, kind, i)
            elif names.index(tensor.name) < i:
                sentence = f"{who} is here for the second time; leave one of them"
                yield written.advice("tensor-name", sentence, kind, i, "name")
            if tensor.data_type == DataType.TYPE_INVALID:
                sentence = f"{who} has no data_type; write one, as data_type: TYPE_FP32"
                yield written.error("tensor-data-type", sentence, kind, i)
            elif tensor.data_type not in DataType.values():
                sentence = f"{who} has the data_type {tensor.data_type}; write one, as TYPE_FP32"
                yield written.advice("tensor-data-type", sentence, kind, i, "data_type")
            if not tensor.dims:
                sentence = f"{who} has no dims; write its shape, as dims: [ 3, 256, 256 ]"
                yield written.error("tensor-dims", sentence, kind, i, "dims")
            if any(size < 1 and size != -1 for size in tensor.dims):
                sentence = (
                    f"{who} has dims {list(tensor.dims)}, but each must be 1 or more, or -1 for "
                    "any size; mend them"
                )
                yield written.error("tensor-dims", sentence, kind, i, "dims")


def _check_python(written: Written, model: ModelFolder) -> Iterator[Finding]:
    """Check the source of a python model, as far as that goes without running it."""
    name = written.config.default_model_filename or "model.py"
    for version in served_versions(written.config, model.versions):
        if not VERSION.fullmatch(model.versions[version]):
            continue
        file = model.path / str(version) / name

        def error(message: str, line: int | None = None, file=file) -> Finding:
            return Finding("error", "python-model", file, line, message, model.name)

        if not file.is_file():
            yield error(
                "is missing, over which Triton's python backend waits for ever; put the model's "
                "source there"
            )
            continue
        try:
            with file.open("rb") as opened, warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a doubtful escape sequence, for example
                source = opened.read(LARGEST_BYTES)
                ast.parse(source)
        except SyntaxError as wrong:
            yield error(f"is not Python: {wrong.msg}; mend this line", wrong.lineno)
        except (ValueError, RecursionError, MemoryError) as wrong:
            yield error(f"is not Python ({wrong}); put the model's source there")
        else:
            if b"TritonPythonModel" not in source:
                yield error(
                    "has no class TritonPythonModel, which Triton looks for; call the model's "
                    "class so"
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
            yield written.advice(
                "variants-differ",
                f"{' and '.join(differ)} differ from {CONFIG}, so the model is another one with "
                f"{variant} than without; only instance_group needs to differ",
                differ[0],
            )
