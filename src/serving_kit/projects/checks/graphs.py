"""Steps 1 and 2: the network is exported, and its saved graph gives what eager mode gives."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from oneflow_backend import openblas
from oneflow_backend.graph_folder import GraphFolder, GraphFolderError, read_graph_folder
from serving_kit.projects.checks.missing import Missing
from serving_kit.projects.evidence import fingerprint, kept
from serving_kit.projects.project import Project

#: Runs the network and its graphs, with OneFlow.
COMPARE = Path(__file__).parents[1] / "compare.py"
SECONDS = 300
#: What is made of the network, or has nothing to do with it. Of the weights, each version has its
#: own.
MADE = (
    ".progress", ".pytest_cache", "README.md", "SERVE.md", "__pycache__", "certificate.html",
    "expected", "load_test.json", "model_repository", "weights",
)  # fmt: skip


def exported(project: Project) -> str:
    """Check that each version's folder holds a graph, traced for serving."""
    if not project.versions():
        raise Missing(f"{_place(project, 1)} is not there; run python export.py 1")
    for version in project.versions():
        graph = _read(project, version)
        if graph.training:
            raise Missing(
                f"version {version} was traced in training mode ({', '.join(graph.training[:3])}),"
                " so dropout and BatchNorm change its results; let network() return "
                f"module.eval(), and run python export.py {version}"
            )
    graph = _read(project, project.versions()[0])
    inputs, outputs = (", ".join(map(str, specs)) for specs in (graph.inputs, graph.outputs))
    return f"{named(project.versions())}: {inputs} -> {outputs}"


def named(versions: Sequence[object]) -> str:
    """Return ``version 1``, or ``versions 1, 2``."""
    return f"version{'' if len(versions) == 1 else 's'} {', '.join(map(str, versions))}"


def _read(project: Project, version: int) -> GraphFolder:
    try:
        return read_graph_folder(project.model / str(version) / "model")
    except GraphFolderError as error:
        sentence = str(error).replace(f"{project.folder}/", "")
        raise Missing(f"version {version}: {sentence}") from None


def _place(project: Project, version: int) -> str:
    return f"model_repository/{project.name}/{version}/model"


def equal(project: Project) -> str:
    """Check that each version's graph gives what ``network(version)`` gives in eager mode."""
    differences = [_compare(project, version)["difference"] for version in project.versions()]
    rows = len(next(iter(eager_of(project, project.versions()[0])[0].values())))
    return f"graph and eager differ by at most {max(differences):.1e} on {rows} examples"


def _compare(project: Project, version: int) -> dict:
    """Run the network and the graph of a version, unless that was done with these files.

    Raises:
        Missing: they differ, or one of them cannot be run.
    """
    graph = project.model / str(version) / "model"
    return kept(
        project.kept / f"equal_{version}.json",
        fingerprint(project.folder, [graph, *_sources(project, version)]),
        lambda: _run(project, version),
    )


def _sources(project: Project, version: int) -> list[Path]:
    """Return what ``network(version)`` may depend on: all but what is made of it."""
    made = {*MADE, project.package.name}
    sources = [path for path in project.folder.iterdir() if path.name not in made]
    return [*sources, project.folder / "weights" / str(version)]


def _run(project: Project, version: int) -> dict:
    done = subprocess.run(
        [sys.executable, COMPARE, project.folder, str(version)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env={**os.environ, **openblas.environment()},
    )
    lines = done.stdout.strip().splitlines()
    try:
        found = json.loads(lines[-1])
    except (IndexError, ValueError):
        words = done.stderr.strip().splitlines()
        raise Missing(
            f"the process that ran network({version}) and its graph ended with exit code "
            f"{done.returncode}: {words[-1] if words else 'it said nothing'}; run python "
            f"export.py {version} to see more"
        ) from None
    if "missing" in found:
        raise Missing(found["missing"])
    return found


def eager_of(project: Project, version: int) -> tuple[dict, dict]:
    """Return inputs and outputs of eager mode, by name, as they were when it was compared."""
    with np.load(Path(project.kept, f"eager_{version}.npz")) as file:
        arrays = dict(file)
    inputs = {name: array for name, array in arrays.items() if name.startswith("INPUT")}
    return inputs, {name: array for name, array in arrays.items() if name.startswith("OUTPUT")}
