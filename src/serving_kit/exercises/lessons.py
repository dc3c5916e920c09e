"""What a lesson needs of an earlier one, so that every lesson can be run alone."""

from pathlib import Path

from serving_kit.errors import ServingKitError
from serving_kit.paths import ROOT

NOTEBOOKS = ROOT / "notebooks"
LESSON_SECONDS = 600


def made_by(lesson: str, path: str | Path) -> Path:
    """Return what a lesson makes; if it is not there yet, run that lesson first, unseen.

    Args:
        lesson: the notebook's name without its ending, ``"02_train_new_style"`` for example.
        path: the file or folder that it makes.

    Raises:
        ServingKitError: the lesson did not run to its end, or did not make it.
    """
    path = Path(path)
    if not path.exists():
        _run(lesson)
    if not path.exists():
        raise ServingKitError(
            f"lesson {lesson} ran, but there is no {path}; open notebooks/{lesson}.ipynb and see "
            "that it saves it"
        )
    return path


def _run(lesson: str) -> None:
    """Run all cells of a lesson; its notebook file stays as it is."""
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    notebook = nbformat.read(NOTEBOOKS / f"{lesson}.ipynb", as_version=4)
    client = NotebookClient(
        notebook, timeout=LESSON_SECONDS, resources={"metadata": {"path": str(NOTEBOOKS)}}
    )
    try:
        client.execute()
    except CellExecutionError as error:
        raise ServingKitError(
            f"lesson {lesson}, which makes what is needed here, ended with {error.ename}: "
            f"{error.evalue}; open notebooks/{lesson}.ipynb and run it"
        ) from None
