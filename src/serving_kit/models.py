"""The models that the kit serves, exported when they are missing or out of date.

``python -m serving_kit.models STYLE VERSION_FOLDER`` exports StyleNet; ``repository_for`` runs it
so, in a process of its own: OneFlow may abort its process, and prints lines of its own.
"""

import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from serving_kit.errors import ExportError, ServingKitError
from serving_kit.graph_folder import GraphFolderError, read_graph_folder
from serving_kit.paths import BUILD, MODEL_REPOSITORY, WEIGHTS
from serving_kit.styles import DEFAULT_STYLE, STYLES, style_index

#: Height and width that fast_neural_style takes, as in its config.pbtxt.
SIZE = 256
EXPORT_SECONDS = 600


def repository_for(style: str | int = DEFAULT_STYLE) -> Path:
    """Return a model repository whose fast_neural_style paints in one style, exported if need be.

    The default style lives in ``model_repository/``, which learners edit and serve; every other
    one gets a repository of its own below ``build/``, so that trying a style changes nothing.

    Raises:
        StyleError: there is no such style.
        ExportError: the export failed; what was there before is as it was.
    """
    name = STYLES[style_index(style)]
    repository = MODEL_REPOSITORY
    if name != DEFAULT_STYLE:
        repository = BUILD / "styles" / name
        for config in ("config.pbtxt", "configs/cpu.pbtxt"):
            copy = repository / "fast_neural_style" / config
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(MODEL_REPOSITORY / "fast_neural_style" / config, copy)
    version = repository / "fast_neural_style" / "1"
    if not _is_current(version, name):
        _export_in_child(name, version)
    return repository


def _export_in_child(style: str, version: Path) -> None:
    """Export in a child process; pass on its one sentence when it fails."""
    child = subprocess.run(
        [sys.executable, "-m", __name__, style, str(version)],
        env={**os.environ, "GLOG_minloglevel": "3"},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=EXPORT_SECONDS,
        check=False,
    )
    if child.returncode:
        last_lines = "\n".join(child.stderr.strip().splitlines()[-8:])
        raise ExportError(
            f"exporting {style} ended with exit code {child.returncode}:\n{last_lines}"
        )


def _source(style: str) -> str:
    """Return what tells one export of StyleNet from another: style, weights, network, exporter."""
    digest = hashlib.sha256()
    here = Path(__file__)
    for file in (WEIGHTS, here.with_name("stylenet.py"), here.with_name("export.py")):
        digest.update(file.read_bytes())
    return f"StyleNet, style {style}, {digest.hexdigest()[:16]}"


def _is_current(version: Path, style: str) -> bool:
    """Tell whether a version was exported from this very source, and is still whole."""
    try:
        record = json.loads((version / "export.json").read_text())
        read_graph_folder(version / "model")
    except (OSError, json.JSONDecodeError, GraphFolderError):
        return False
    oneflow = importlib.metadata.version("oneflow")
    return (record.get("source"), record.get("oneflow")) == (_source(style), oneflow)


def export_fast_neural_style(style: str, version: Path) -> None:
    """Export StyleNet, one style folded in, as ``version``; see ``export.export_version``."""
    import numpy as np

    from serving_kit.export import export_version
    from serving_kit.stylenet import load_stylenet

    example = np.random.default_rng(0).uniform(0, 255, (1, 3, SIZE, SIZE)).astype(np.float32)
    export_version(load_stylenet(style), [example], version, source=_source(style))


if __name__ == "__main__":
    try:
        export_fast_neural_style(sys.argv[1], Path(sys.argv[2]))
    except ServingKitError as error:
        sys.exit(str(error))
