"""Which steps of a project are done, and what is missing in the next one."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from serving_kit.projects.checks import Missing, finish, graphs, served
from serving_kit.projects.project import Project


@dataclass(frozen=True)
class Step:
    """One step of a project, and how far it is."""

    number: int
    name: str
    #: "to do" stands behind a step that is missing: it was not looked at.
    state: Literal["done", "missing", "to do"]
    #: Of one that is done, what was found; of the others, what to do.
    sentence: str


#: Name and check of each step, and what to do when its turn comes.
STEPS: tuple[tuple[str, Callable[[Project], str], str], ...] = (
    ("exported", graphs.exported, "python export.py 1"),
    ("equal", graphs.equal, "the saved graph is compared with eager mode"),
    ("configured", served.configured, "fill in config.pbtxt"),
    ("served", served.served, "served responses are compared with eager mode"),
    ("batch", served.batch, "rows together are compared with rows alone"),
    ("load-tested", finish.load_tested, "python load_test.py, while the model is served"),
    ("version 2", finish.second_version, "python export.py 2, and serve it"),
    ("packaged", finish.packaged, "python package.py"),
)


def progress(folder: str | Path) -> list[Step]:
    """Go through the steps of a project, up to the first that is missing.

    The network and its graphs are run, and a Triton is started, unless that was done since the
    files were changed.

    Raises:
        ProjectError: the folder is no project.
    """
    project, steps = Project(Path(folder)), []
    is_missing = False
    for number, (name, check, hint) in enumerate(STEPS, start=1):
        if is_missing:
            steps.append(Step(number, name, "to do", hint))
            continue
        try:
            steps.append(Step(number, name, "done", check(project)))
        except Missing as missing:
            is_missing = True
            steps.append(Step(number, name, "missing", str(missing)))
    return steps


def is_complete(steps: list[Step]) -> bool:
    """Tell whether all steps are done."""
    return all(step.state == "done" for step in steps)


def to_text(steps: list[Step]) -> str:
    """Return a line for each step, and one that counts them."""
    lines = [f"{s.number}  {s.name:12} {s.state:8} {s.sentence}" for s in steps]
    done = sum(step.state == "done" for step in steps)
    return "\n".join([*lines, f"{done} of {len(steps)} steps are done"])
