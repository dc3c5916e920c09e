"""Steps 6 to 8: the model is load-tested, its second version is served, and it is packaged."""

import json
import zipfile

import numpy as np

from serving_kit.projects.checks.graphs import eager_of
from serving_kit.projects.checks.missing import Missing
from serving_kit.projects.project import Project, settings_of
from serving_kit.repository.checks.versions import served_versions

REPORT = "load_test.json"
BACKEND = "backends/oneflow/model.py"


def load_tested(project: Project) -> str:
    """Check that there is a load test of the model as it is configured now."""
    try:
        report = json.loads((project.folder / REPORT).read_text())
    except OSError:
        raise Missing(
            f"there is no {REPORT}; serve the model, and run python load_test.py"
        ) from None
    except ValueError:
        raise Missing(f"{REPORT} is damaged; remove it, and run python load_test.py") from None
    settings = settings_of(project.read_config())
    if not report.get(settings):
        measured = "; ".join(report) or "nothing"
        raise Missing(
            f"{REPORT} has {measured}, but config.pbtxt says {settings}; serve it again, "
            "and run python load_test.py"
        )
    best = max(report[settings], key=lambda load: load["rate"])
    return f"{best['rate']:.0f} rows/s with {best['concurrency']} requests at once; {settings}"


def second_version(project: Project) -> str:
    """Check that a second version is there, gives results of its own, and is served."""
    versions = project.versions()
    if len(versions) < 2:
        raise Missing("there is one version; python train.py 2 and python export.py 2 make another")
    *_, before, newest = versions
    _, old = eager_of(project, before)
    _, new = eager_of(project, newest)
    if all(np.array_equal(old[name], new[name]) for name in old):
        raise Missing(
            f"network({newest}) gives what network({before}) gives: it has the same weights; train "
            f"version {newest}, and run python export.py {newest}"
        )
    config = project.read_config()
    if newest not in served_versions(config, {version: str(version) for version in versions}):
        raise Missing(
            f"version {newest} is there, but the version_policy in config.pbtxt does not serve it; "
            "name it there"
        )
    return f"version {newest} is served, and gives other results than version {before}"


def packaged(project: Project) -> str:
    """Check that the package is whole, and has the model as it is now."""
    if not project.package.exists():
        raise Missing(f"there is no {project.package.name}; run python package.py")
    try:
        with zipfile.ZipFile(project.package) as packed:
            found = {name: packed.read(name) for name in packed.namelist()}
    except (zipfile.BadZipFile, OSError):
        raise Missing(
            f"{project.package.name} is damaged; remove it, and run python package.py"
        ) from None
    for path in sorted(project.repository.rglob("*")):
        name = f"{project.name}/{path.relative_to(project.folder).as_posix()}"
        if path.is_file() and found.get(name) != path.read_bytes():
            raise Missing(
                f"{project.package.name} does not have {name} as it is now; run python package.py"
            )
    if f"{project.name}/{BACKEND}" not in found:
        raise Missing(f"{project.package.name} has no {BACKEND}, which serves the model; add it")
    return f"{project.package.name}, {len(found)} files, {project.package.stat().st_size:,} bytes"
