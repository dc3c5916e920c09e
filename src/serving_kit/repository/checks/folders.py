"""The folders of a model repository, seen as Triton sees them.

What Triton 2.51.0 does with each strange thing was tried with the real server, see
``tests/integration/test_check.py``.
"""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tritonclient.grpc.model_config_pb2 import ModelConfig

from oneflow_backend.graph_folder import GraphFolder, GraphFolderError, read_graph_folder
from serving_kit.errors import ConfigError, nearest
from serving_kit.repository.checks.findings import Finding, Written
from serving_kit.repository.config import CONFIG, CPU_CONFIG, read_text
from serving_kit.repository.config_text import field_lines, parse_config

#: Folders of a model that are no versions.
NO_VERSIONS = ("configs", "warmup", "initial_state")
#: What ``serving_kit.files`` has in hand while an export runs.
UNFINISHED = re.compile(r"^\..*partial-")
LEFT_OVER = re.compile(
    r"""~$ | ^\.\#.* | ^\#.*\#$                                   # Emacs
      | \.(bak|backup|old|orig|rej|save|swp|swo|tmp)$              # vim, patch, nano, by hand
      | \ \(copy( \d+)?\) | ^Copy\ of | [ _-]copy\b                # file managers
      | ^\.ipynb_checkpoints$ | -checkpoint\.                      # Jupyter
      | ^\.DS_Store$ | ^Thumbs\.db$                                # macOS, Windows
    """,
    re.VERBOSE | re.IGNORECASE,
)
#: What a version's folder is called; Triton leaves out names with leading zeros.
VERSION = re.compile(r"0|[1-9]\d*")
#: How like "config.pbtxt" a name must be to be taken for it: "conf.pbtxt" is, "config.json" not.
LIKE_CONFIG = 0.75
LARGEST_VERSION = 2**63 - 1
#: A folder with more entries than this is not looked at further.
MOST_ENTRIES = 10_000


@dataclass
class ModelFolder:
    """One model of a repository."""

    path: Path
    #: The configurations that could be read: "config.pbtxt", "configs/cpu.pbtxt", ...
    configs: dict[str, Written] = field(default_factory=dict)
    #: Versions, as the numbers that Triton reads, with the folder that each was read from.
    versions: dict[int, str] = field(default_factory=dict)
    #: The graphs of versions that could be read.
    graphs: dict[int, GraphFolder] = field(default_factory=dict)
    #: Why those of other versions could not.
    broken: dict[int, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The folder's name, which must be the model's."""
        return self.path.name

    def config_beside(self, variant: str) -> Written | None:
        """Return the configuration that is served together with a variant of another model."""
        return self.configs.get(variant) or self.configs.get(CONFIG)


def entries_of(folder: Path) -> list[Path]:
    """Return the entries of a folder, in order; only a part of a very large folder."""
    return sorted(itertools.islice(folder.iterdir(), MOST_ENTRIES))


def read_model(path: Path) -> tuple[ModelFolder, list[Finding]]:
    """Read one model's folder.

    Raises:
        OSError: a folder cannot be listed.
    """
    model = ModelFolder(path)
    entries = entries_of(path)
    findings = [*_check_entries(model, entries)]
    findings += _read_versions(model, [entry for entry in entries if entry.is_dir()])
    findings += _read_configs(model, entries)
    if any(written.config.backend == "oneflow" for written in model.configs.values()):
        _read_graphs(model)
    return model, findings


def _error(
    model: ModelFolder, code: str, file: Path, message: str, line: int | None = None
) -> Finding:
    return Finding("error", code, file, line, message, model.name)


def _check_entries(model: ModelFolder, entries: list[Path]) -> Iterator[Finding]:
    """Find what disturbs Triton, and what an editor left."""
    if any(character.isspace() for character in model.name):
        yield _error(
            model,
            "space-in-name",
            model.path,
            "the folder's name has a space, for which Triton waits forever without a message; "
            f'rename it, to "{"_".join(model.name.split())}" for example',
        )
    for entry in entries:
        if entry.is_symlink() and not _leads_somewhere(entry):
            yield _error(
                model,
                "broken-link",
                entry,
                "this link leads nowhere, and Triton refuses a model with such a link; "
                "remove it, or put back what it led to",
            )
    left = [entry for entry in _all_entries(model, entries) if LEFT_OVER.search(entry.name)]
    if left:
        names = ", ".join(str(entry.relative_to(model.path)) for entry in left[:3])
        more = f" and {len(left) - 3} more" if len(left) > 3 else ""
        yield Finding(
            "warning",
            "left-over",
            left[0],
            None,
            f"Triton does not need {names}{more}, which an editor or file manager left; remove "
            "them, so that nobody mistakes them for the real files",
            model.name,
        )


def _all_entries(model: ModelFolder, entries: list[Path]) -> list[Path]:
    """Return the files and folders in which an editor may leave something."""
    found = [entry for entry in entries if not (entry.is_dir() and entry.name[:1].isdigit())]
    for folder in (model.path / "configs", *entries):
        if folder.is_dir() and (folder.name == "configs" or folder.name.isdecimal()):
            found += entries_of(folder)
    return list(dict.fromkeys(found))


def _leads_somewhere(link: Path) -> bool:
    try:
        return link.exists()
    except OSError:
        return False


def _read_versions(model: ModelFolder, folders: list[Path]) -> Iterator[Finding]:
    """Read the version folders as Triton does: by the number with which their names begin."""
    named = [f for f in folders if f.name not in NO_VERSIONS and not UNFINISHED.match(f.name)]
    strange = []
    for folder in sorted(named, key=lambda f: not f.name.isdecimal()):  # the right ones first
        number = re.match(r"\s*[+-]?\d+", folder.name)
        if number and abs(int(number[0][:25])) > LARGEST_VERSION:
            yield _error(
                model,
                "version-name",
                folder,
                f'the number of version folder "{folder.name[:30]}" is above {LARGEST_VERSION}, '
                "which ends Triton itself; rename the folder, to 1 for example",
            )
        elif number and not (folder.name[0] == "0" and len(folder.name) > 1):  # as Triton does
            model.versions.setdefault(int(number[0]), folder.name)
        if not VERSION.fullmatch(folder.name) and not LEFT_OVER.search(folder.name):
            strange.append(folder)
    if strange and any(VERSION.fullmatch(name) for name in model.versions.values()):
        for folder in strange:
            yield Finding(
                "warning",
                "version-name",
                folder,
                None,
                f'version folders are called 1, 2, 3, ...; is "{folder.name[:30]}" meant to be '
                "one? Rename it, or move it out of the model's folder",
                model.name,
            )


def _read_configs(model: ModelFolder, entries: list[Path]) -> Iterator[Finding]:
    """Read config.pbtxt and its variants, or find out what is there instead."""
    names = [entry.name for entry in entries]
    files = [model.path / CONFIG] if CONFIG in names else []
    if (model.path / "configs").is_dir():
        files += [f for f in entries_of(model.path / "configs") if f.suffix == ".pbtxt"]
    for file in files:
        if LEFT_OVER.search(file.name) or file.name.startswith("."):
            continue
        try:
            text = read_text(file)
            config = parse_config(text, file)
        except ConfigError as error:
            yield _error(model, "config-unreadable", file, error.sentence, error.line)
            continue
        variant = str(file.relative_to(model.path))
        model.configs[variant] = Written(model.name, file, config, field_lines(text))
    if CONFIG not in names:
        yield from _without_config(model, entries)


def _without_config(model: ModelFolder, entries: list[Path]) -> Iterator[Finding]:
    """Find out why config.pbtxt is missing, and whether Triton can do without."""
    config = _config_that_triton_guesses(model, entries)
    if config:
        model.configs[CONFIG] = Written(model.name, model.path, config, {})
    files = {entry.name: entry for entry in entries if entry.is_file()}
    if near := nearest(CONFIG, files, likeness=LIKE_CONFIG):
        yield Finding(
            "warning" if config else "error",
            "config-misspelt",
            files[near],
            None,
            f"Triton reads {CONFIG}, which is not there, and not {near}; rename it",
            model.name,
        )
    elif not config:
        yield _error(model, *_missing_config(model, entries))


def _config_that_triton_guesses(model: ModelFolder, entries: list[Path]) -> ModelConfig | None:
    """Return the configuration with which Triton does without config.pbtxt, if it does."""
    folders = [entry for entry in entries if entry.is_dir()]
    if folders and (folders[0] / "model.py").is_file():
        return ModelConfig(name=model.name, backend="python")
    _, dot, backend = model.name.partition(".")
    if dot and backend in ("oneflow", "python"):  # "anything.oneflow" names its backend
        return ModelConfig(name=model.name, backend=backend)
    return None


def _missing_config(model: ModelFolder, entries: list[Path]) -> tuple[str, Path, str]:
    """Return code, file and message for a folder that is not a model."""
    if any((entry / CONFIG).is_file() for entry in entries):
        message = (
            f"has no {CONFIG}, but its folders have: this is a model repository itself; give it "
            "to Triton, instead of the folder around it"
        )
        return "repository-inside", model.path, message
    if model.configs:
        message = (
            f"is missing; {CPU_CONFIG} alone serves only where --model-config-name=cpu is given; "
            "write both, with serving_kit.repository.write_configs"
        )
        return "config-missing", model.path / CONFIG, message
    if not model.versions:
        message = (
            f"Triton treats every folder here as a model, and this one has no {CONFIG} and no "
            "version; move it out of the repository, or make it a model"
        )
        return "no-model", model.path, message
    message = (
        'is missing; a saved OneFlow graph needs a file with one line, backend: "oneflow", '
        "the rest is read from the graph"
    )
    return "config-missing", model.path / CONFIG, message


def _read_graphs(model: ModelFolder) -> None:
    """Read the saved graph of each version."""
    for number, name in model.versions.items():
        place = model.path / name / "model"
        if not VERSION.fullmatch(name):
            continue
        try:
            model.graphs[number] = read_graph_folder(place)
        except (OSError, GraphFolderError) as error:
            model.broken[number] = str(error)
