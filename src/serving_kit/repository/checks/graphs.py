"""Compares a configuration with the saved graphs that it describes, by the backend's rules."""

from collections.abc import Iterator

from oneflow_backend import model_config as backend_config
from oneflow_backend.graph_folder import GraphFolder, GraphFolderError
from oneflow_backend.training_mode import training_warning
from serving_kit.repository.checks.findings import Finding, Written
from serving_kit.repository.checks.folders import ModelFolder
from serving_kit.repository.checks.versions import served_versions
from serving_kit.repository.config import as_triton_has_it

#: Where a mismatch stands that is not called as the field.
FIELD_OF = {"order": "name", "batch": "dims", "size": "dims"}


def check_graph(written: Written, model: ModelFolder) -> Iterator[Finding]:
    """Compare the configuration with the graph of each version, by the backend's own rules."""
    served = served_versions(written.config, model.versions)
    for version, reason in model.broken.items():
        yield Finding(
            "error" if version in served else "warning",
            "graph-folder",
            model.path / str(version) / "model",
            None,
            reason,
            model.name,
        )
    for version in served:
        if version in model.graphs and model.graphs[version].training:
            yield Finding(
                "warning",
                "training-mode",
                model.graphs[version].path,
                None,
                training_warning(model.graphs[version].training),
                model.name,
            )
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
    for found in backend_config.mismatches(config, graph):
        if _is_said_already(found, config):
            continue
        place = (found.kind, found.index or 0, FIELD_OF.get(found.what, found.what))
        code = f"tensor-{found.what.replace('_', '-')}"
        yield written.error(code, found.sentence.strip(": ") + which, *place)


def _is_said_already(found: backend_config.Mismatch, config: dict) -> bool:
    """Tell whether the tensor is found wrong for what is missing, whatever the graph has."""
    if found.index is None or found.what == "size":
        return False
    return not _is_whole(config[found.kind][found.index])


def _is_whole(tensor: dict) -> bool:
    sizes = [int(size) for size in tensor["dims"]]
    return (
        bool(tensor["name"] and sizes)
        and tensor["data_type"] != "TYPE_INVALID"
        and all(size >= 1 or size == -1 for size in sizes)
    )


def check_parameters(written: Written) -> Iterator[Finding]:
    """Check the parameters by which the backend is set."""
    config = as_triton_has_it(written.config)
    for key, entry in config.get("parameters", {}).items():
        try:
            backend_config.read_settings(config | {"parameters": {key: entry}})
        except GraphFolderError as error:
            sentence = str(error).partition(": ")[2]  # the file is named anyway
            yield written.error("parameter", sentence, "parameters", key)
