"""A notebook cell that is run again stops the server that it started before.

The variable that held it gets the new one, so the old one could no longer be stopped: it would run
until the kernel ends.
"""

import sys
import threading
import weakref
from dataclasses import dataclass
from typing import Protocol


class Stoppable(Protocol):
    """A server whose ``stop`` may be called any number of times."""

    def stop(self) -> None:
        """Stop it."""


@dataclass(frozen=True)
class Run:
    """One run of one cell: ``cell`` names the cell, ``message`` this run of it."""

    cell: str
    message: str


_started: "list[tuple[Run, weakref.ref[Stoppable]]]" = []


def begin(server: Stoppable) -> None:
    """Note that a server is about to start here; stop what an earlier run of the cell started.

    Several servers may start in one run of a cell. Outside of notebooks this does nothing, nor in
    a thread: such servers belong to the one that started them, as replicas do.
    """
    run = _current_run()
    if not run:
        return
    earlier = [each for started, each in _started if _is_earlier(started, run)]
    _started[:] = [
        (started, each)
        for started, each in _started
        if each() is not None and not _is_earlier(started, run)
    ]
    for reference in earlier:
        if (other := reference()) is not None:
            other.stop()
    _started.append((run, weakref.ref(server)))


def _is_earlier(started: Run, run: Run) -> bool:
    return started.cell == run.cell and started.message != run.message


def _current_run() -> Run | None:
    """Return which cell runs; None where no kernel runs this.

    JupyterLab and VS Code say the cell's identity; of others its text must do.
    """
    ipython = sys.modules.get("IPython")
    shell = ipython and ipython.get_ipython()
    if not hasattr(shell, "get_parent") or threading.current_thread() != threading.main_thread():
        return None
    request = shell.get_parent()
    cell = request["metadata"].get("cellId") or request["content"]["code"]
    return Run(cell, request["header"]["msg_id"])
