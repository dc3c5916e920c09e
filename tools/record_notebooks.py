"""Run the notebooks from their first cell to their last and save them with their outputs.

``make notebooks`` runs this on all of them, in order; arguments name some. Code cells get the
counts 1 to n, metadata is made the same for all, so that a change of a notebook in git is a
change of what it says.
"""

import os
import re
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from oneflow_backend import openblas

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python", "version": "3.10"},
}
CELL_SECONDS = 300
#: What a terminal has overwritten: the earlier states of a progress bar.
OVERWRITTEN = re.compile(r"[^\n]*\r(?=[^\n])")


def record(path: Path) -> None:
    """Execute one notebook in its own folder and save it in place, unless a cell fails."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=CELL_SECONDS, resources={"metadata": {"path": str(path.parent)}}
    )
    client.execute()
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        # Times of day, and who ran it, have no place in the repository.
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = settle(cell.outputs)
    nbformat.validate(notebook)
    nbformat.write(notebook, path)


def settle(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Return outputs as a reader sees them: streams in one piece, progress bars at their end."""
    settled = []
    for output in outputs:
        last = settled[-1] if settled else None
        if last and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            settled.append(output)
    for output in settled:
        if output.output_type == "stream":
            output.text = OVERWRITTEN.sub("", output.text)
    return settled


def main() -> None:
    """Record the notebooks given as arguments, or all."""
    # ipykernel copies what C++ prints into the outputs, but not under pytest, which is what
    # nbval compares with; this makes recording the same.
    os.environ["PYTEST_CURRENT_TEST"] = "recording"
    os.environ.update(openblas.environment())
    paths = [Path(name).resolve() for name in sys.argv[1:]] or sorted(NOTEBOOKS.glob("*.ipynb"))
    for path in paths:
        began = time.monotonic()
        record(path)
        print(f"{path.name}: {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
