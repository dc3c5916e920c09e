"""Run the notebooks from their first cell to their last and save them with their outputs.

``make notebooks`` runs this on all of them, in order; arguments name some. Code cells get the
counts 1 to n, cells are numbered, and metadata but the cells' tags is made the same for all, so
that a change of a notebook in git is a change of what it says.
"""

import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbconvert.preprocessors import CoalesceStreamsPreprocessor

from oneflow_backend import openblas

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python", "version": "3.10"},
}
CELL_SECONDS = 300


def record(path: Path) -> None:
    """Execute one notebook in its own folder and save it in place, unless a cell fails."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        record_timing=False,  # times of day have no place in the repository
        resources={"metadata": {"path": str(path.parent)}},
    ).execute()
    # Streams in one piece, and progress bars at their end.
    notebook, _ = CoalesceStreamsPreprocessor().preprocess(notebook, {})
    notebook.metadata = nbformat.from_dict(METADATA)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
        cell.metadata = {"tags": cell.metadata.tags} if cell.metadata.get("tags") else {}
    nbformat.validate(notebook)
    nbformat.write(notebook, path)


def main() -> None:
    """Record the notebooks given as arguments, or all."""
    # ipykernel copies what C++ prints into the outputs, but not under pytest, which is what
    # nbval compares with; this makes recording the same.
    os.environ["PYTEST_CURRENT_TEST"] = "recording"
    os.environ["SERVING_KIT_LANGUAGE"] = "en"  # the Chinese lessons have the same outputs
    os.environ.update(openblas.environment())
    paths = [Path(name).resolve() for name in sys.argv[1:]] or sorted(NOTEBOOKS.glob("*.ipynb"))
    for path in paths:
        began = time.monotonic()
        record(path)
        print(f"{path.name}: {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
