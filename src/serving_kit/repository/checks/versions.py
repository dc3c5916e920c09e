"""Which versions of a model are served, and whether their folders are there."""

from collections.abc import Iterator

from tritonclient.grpc.model_config_pb2 import ModelConfig

from serving_kit.repository.checks.findings import ENSEMBLE, Finding, Written
from serving_kit.repository.checks.folders import NO_VERSIONS, VERSION, ModelFolder, entries_of


def served_versions(config: ModelConfig, versions: dict[int, str]) -> list[int]:
    """Return the versions that Triton serves, of those that are there, by the version policy."""
    policy = config.version_policy
    newest_first = sorted(versions, reverse=True)
    if policy.HasField("specific"):
        return [version for version in newest_first if version in policy.specific.versions]
    if policy.HasField("latest"):
        return newest_first[: policy.latest.num_versions]
    return newest_first if config.HasField("version_policy") else newest_first[:1]


def check_versions(written: Written, model: ModelFolder) -> Iterator[Finding]:
    """Check that the folders have what the version policy serves."""
    served = served_versions(written.config, model.versions)
    asked = written.config.version_policy.specific.versions
    missing = [str(version) for version in asked if version not in model.versions]
    there = ", ".join(map(str, sorted(model.versions))) or "none"
    if not model.versions:
        yield _no_version(written, model)
    elif not served or missing:
        what = f"names version {', '.join(missing)}" if missing else "serves no version"
        report = written.warning if served else written.error
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
        message = "no version: the saved graph belongs in 1/model; export it (make models)"
    else:
        message = "no version: expected a folder 1 with the model in it; make it"
    return Finding("error", "no-version", model.path, None, message, model.name)
