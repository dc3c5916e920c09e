"""Finds every mistake in a model repository, and says how to fix it, without starting Triton.

``check`` looks at the folders (``folders.py``), at each model by itself (``models.py``: its
``versions.py``, ``tensors.py``, saved ``graphs.py`` and ``python_models.py``), at ensembles
(``ensembles.py``, ``ensemble_tensors.py``) and at GPUs (``instances.py``); ``to_text`` and
``to_json`` show what it found (``findings.py``).
"""

from collections.abc import Iterator
from pathlib import Path

from serving_kit.gpus import find_gpus
from serving_kit.repository.checks.ensembles import check_ensemble
from serving_kit.repository.checks.findings import Finding, has_errors, to_json, to_text
from serving_kit.repository.checks.folders import UNFINISHED, ModelFolder, entries_of, read_model
from serving_kit.repository.checks.instances import check_instances, usable_gpus, wants_gpu
from serving_kit.repository.checks.models import check_model
from serving_kit.repository.config import CONFIG, CPU_CONFIG

__all__ = ["Finding", "check", "has_errors", "to_json", "to_text"]


def check(model_repository: str | Path, *more_repositories: str | Path) -> list[Finding]:
    """Find the mistakes in model repositories that one server is to serve; never raises.

    Returns:
        The findings, errors first. Without an error, Triton starts and loads every model, as far
        as that can be told from the files.
    """
    findings: list[Finding] = []
    models: list[ModelFolder] = []
    for repository in map(Path, (model_repository, *more_repositories)):
        try:
            findings += _read_repository(repository, models)
        except OSError as error:
            findings.append(_unreadable(repository, error))
    findings += _check_unique(models)
    by_name = {model.name: model for model in models}
    for model in models:
        try:
            findings += check_model(model)
        except OSError as error:
            findings.append(_unreadable(model.path, error, model.name))
        for variant, written in model.configs.items():
            findings += check_ensemble(written, variant, by_name)
    findings += _check_gpus(models, Path(model_repository))
    return sorted(dict.fromkeys(findings), key=lambda finding: finding.severity != "error")


def _read_repository(repository: Path, models: list[ModelFolder]) -> Iterator[Finding]:
    """Read a repository's models, adding them to ``models``."""

    def error(code: str, message: str, file: Path = repository) -> Finding:
        return Finding("error", code, file, None, message, None)

    if not repository.is_dir():
        yield error("no-repository", "is not a folder; expected a model repository")
        return
    entries = entries_of(repository)
    if (repository / CONFIG).exists():
        yield error(
            "repository-is-model",
            f"has a {CONFIG}: this is a model, and Triton wants the folder around it; give it "
            f'"{repository.absolute().parent}"',
        )
        return
    for entry in entries:
        if entry.is_symlink() and not entry.exists():
            yield error(
                "broken-link",
                "this link leads nowhere, and Triton refuses a whole repository with such a link; "
                "remove it",
                entry,
            )
        elif entry.name == ".ipynb_checkpoints":
            yield error(
                "left-over",
                "Triton treats this folder of Jupyter as a model, and does not start; remove it",
                entry,
            )
        elif entry.is_dir() and not UNFINISHED.match(entry.name):
            try:
                model, findings = read_model(entry)
            except OSError as wrong:
                yield _unreadable(entry, wrong, entry.name)
            else:
                models.append(model)
                yield from findings
    if not any(entry.is_dir() for entry in entries):
        yield error(
            "no-model", "has no model in it; expected <model>/config.pbtxt, <model>/1/model"
        )


def _unreadable(place: Path, error: OSError, model: str | None = None) -> Finding:
    message = f"cannot be read ({error.strerror}); make it readable for the user who runs Triton"
    return Finding("error", "unreadable", Path(error.filename or place), None, message, model)


def _check_unique(models: list[ModelFolder]) -> Iterator[Finding]:
    """Find models of one name in two repositories."""
    first: dict[str, ModelFolder] = {}
    for model in models:
        other = first.setdefault(model.name, model)
        if other is not model:
            yield Finding(
                "error",
                "name-twice",
                model.path,
                None,
                f"{other.path} has the same name, and Triton serves neither of them; rename one, "
                "and the name in its config.pbtxt",
                model.name,
            )


def _check_gpus(models: list[ModelFolder], repository: Path) -> Iterator[Finding]:
    """Compare where models are to run with the GPUs of this machine."""
    configs = [written for model in models for written in model.configs.values()]
    gpus = find_gpus() if any(wants_gpu(written) for written in configs) else ()
    waiting = []
    for model in models:
        cpu = model.configs.get(CPU_CONFIG)
        for variant, written in model.configs.items():
            beside = variant == CONFIG and cpu is not None and not wants_gpu(cpu)
            yield from check_instances(written, beside, gpus)
            if beside and wants_gpu(written) and not usable_gpus(written.config, gpus):
                waiting.append(model.name)
    if waiting:
        yield Finding(
            "warning",
            "kind-gpu",
            repository,
            None,
            f"this machine has no GPU for {', '.join(waiting)}, so serve {CPU_CONFIG} of each, "
            "with tritonserver --model-config-name=cpu (make serve does it)",
            None,
        )
