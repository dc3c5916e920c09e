"""The models that the kit serves, exported when they are missing or out of date.

``python -m serving_kit.models MODEL STYLE DEVICE VERSION_FOLDER`` exports one; ``repository_for``
runs this in a process of its own: OneFlow may abort its process, and prints lines of its own.
"""

import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from oneflow_backend import openblas
from oneflow_backend.graph_folder import GraphFolderError, read_graph_folder
from serving_kit.errors import ExportError, ServingKitError
from serving_kit.paths import BUILD, MODEL_REPOSITORY, WEIGHTS
from serving_kit.stylenet.styles import (
    ALL_STYLES,
    DEFAULT_STYLE,
    ONE_STYLE,
    SIZE,
    STYLES,
    style_index,
)

EXPORT_SECONDS = 600

#: The source of each layout: OneFlow 0.9.0's own layers are slow on a CPU.
LAYOUTS = {"cpu": ("cpu_network.py", "cpu_layers.py"), "gpu": ("network.py",)}


def repository_for(
    style: str | int = DEFAULT_STYLE,
    *,
    models: Iterable[str] | None = None,
    device: str | None = None,
) -> Path:
    """Return a model repository whose fast_neural_style paints in one style; export it if needed.

    The default style lives in ``model_repository/``, which learners edit and serve, beside
    multi_style; every other style gets a repository of its own in ``build/``, so that trying a
    style changes nothing.

    Args:
        style: of fast_neural_style; a name or its number.
        models: those that must be there; all of the repository when left out.
        device: ``"cpu"`` or ``"gpu"``, what the layout is optimized for (either runs on both);
            when left out, where ``TritonServer(mode="auto")`` would serve.

    Raises:
        StyleError: there is no such style.
        ExportError: the export failed; existing models are unchanged.
    """
    name = STYLES[style_index(style)]
    if device is None:
        from serving_kit.server import choose

        device = choose().device
    if name == DEFAULT_STYLE:
        repository, had = MODEL_REPOSITORY, (ONE_STYLE, ALL_STYLES)
    else:
        repository, had = BUILD / "styles" / name, (ONE_STYLE,)
        for config in ("config.pbtxt", "configs/cpu.pbtxt"):
            copy = repository / ONE_STYLE / config
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(MODEL_REPOSITORY / ONE_STYLE / config, copy)
    for model in had if models is None else models:
        version = repository / model / "1"
        if not _is_current(version, _source(model, name, device)):
            _export_in_child(model, name, device, version)
    return repository


def _export_in_child(model: str, style: str, device: str, version: Path) -> None:
    """Export in a child process; pass on its one sentence when it fails."""
    child = subprocess.run(
        [sys.executable, "-m", __name__, model, style, device, str(version)],
        env={**os.environ, **openblas.environment(), "GLOG_minloglevel": "3"},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=EXPORT_SECONDS,
        check=False,
    )
    if child.returncode:
        last_lines = "\n".join(child.stderr.strip().splitlines()[-8:])
        raise ExportError(
            f"exporting {model} ended with exit code {child.returncode}:\n{last_lines}"
        )


def _source(model: str, style: str, device: str) -> str:
    """Return what tells one export from another: style, layout, weights, network, exporter."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    layout = LAYOUTS["cpu" if model == ALL_STYLES else device]
    sources = [here / "stylenet" / name for name in (*layout, "weights.py")]
    for file in (WEIGHTS, *sources, *sorted((here / "export").glob("*.py"))):
        digest.update(file.read_bytes())
    what = "all styles" if model == ALL_STYLES else f"style {style}"
    return f"StyleNet, {what}, {layout[0]}, {digest.hexdigest()[:16]}"


def _is_current(version: Path, source: str) -> bool:
    """Tell whether a version was exported from this very source, and is still whole."""
    try:
        record = json.loads((version / "export.json").read_text())
        read_graph_folder(version / "model")
    except (OSError, json.JSONDecodeError, GraphFolderError):
        return False
    oneflow = importlib.metadata.version("oneflow")
    return (record.get("source"), record.get("oneflow")) == (source, oneflow)


def export_model(model: str, style: str, device: str, version: Path) -> None:
    """Export a model as ``version``; see ``export.export_version``."""
    import numpy as np

    from serving_kit.export.version import export_version
    from serving_kit.stylenet.cpu_network import load_multi_style, load_stylenet_cpu
    from serving_kit.stylenet.network import load_stylenet

    random = np.random.default_rng(0)
    inputs = [random.uniform(0, 255, (1, 3, SIZE, SIZE)).astype(np.float32)]
    if model == ALL_STYLES:
        network = load_multi_style((SIZE, SIZE))
        inputs.append(random.dirichlet(np.ones(len(STYLES)), 1).astype(np.float32))
    elif device == "cpu":
        network = load_stylenet_cpu(style, (SIZE, SIZE))
    else:
        network = load_stylenet(style)
    export_version(network, inputs, version, source=_source(model, style, device))


if __name__ == "__main__":
    try:
        export_model(*sys.argv[1:4], Path(sys.argv[4]))
    except ServingKitError as error:
        sys.exit(str(error))
