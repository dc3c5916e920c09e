"""A page that lists what a learner did, once all steps of a project are done."""

import html
import string
from pathlib import Path

from serving_kit.errors import ProjectError
from serving_kit.files import write_file
from serving_kit.projects.progress import is_complete, progress
from serving_kit.projects.project import Project

PAGE = Path(__file__).parent / "templates" / "certificate.html"
FILE = "certificate.html"
#: What somebody can do after each step, in their order.
SKILLS = (
    "trace an eager network into a static graph and save it with flow.save",
    "show by numbers that the saved graph gives what eager mode gives",
    "write a model's config.pbtxt, and find its mistakes before the server does",
    "serve it with Triton, and send requests over HTTP and gRPC",
    "decide by measurement whether rows may be computed together",
    "put load on a server, and choose the number of instances by what it does",
    "roll out a second version beside the first",
    "pack all that another machine needs to serve it",
)


def certificate(folder: str | Path, learner: str = "") -> str:
    """Write ``certificate.html`` into a project whose steps are all done.

    Args:
        folder: the project's.
        learner: the name to put on it.

    Returns:
        The same as text, and where the file is.

    Raises:
        ProjectError: a step is missing.
    """
    project, steps = Project(Path(folder)), progress(folder)
    if not is_complete(steps):
        step = next(step for step in steps if step.state == "missing")
        raise ProjectError(
            f"{project.name} is not complete: step {step.number}, {step.name}, is missing: "
            f"{step.sentence}"
        )
    can = f"{learner.strip() or 'I'} can"
    lines = [f"{can}:", *(f"  - {skill}" for skill in SKILLS)]
    rows = "\n".join(
        f"<li>{html.escape(skill)}<small>{html.escape(step.sentence)}</small></li>"
        for skill, step in zip(SKILLS, steps, strict=True)
    )
    page = string.Template(PAGE.read_text(encoding="utf-8")).substitute(
        can=html.escape(can), project=html.escape(project.name), rows=rows
    )
    file = project.folder / FILE
    try:
        write_file(file, page)
    except OSError as error:
        raise ProjectError(
            f"{file.name} cannot be written ({error.strerror}); make {project.name} a folder that "
            "you may write to"
        ) from None
    return "\n".join([*lines, f"written to {project.name}/{FILE}"])
