"""Make the files of a project: few, short, and the learner's own from then on."""

import re
from pathlib import Path

from serving_kit.errors import ProjectError
from serving_kit.files import replaced_folder

TEMPLATES = Path(__file__).parent / "templates"
#: The networks that ship with the lesson.
KINDS = ("classifier", "text", "pair")
NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
PLACEHOLDER = "@NAME@"
#: What belongs into the model's folder of the repository.
OF_THE_MODEL = ("config.pbtxt", "labels.txt")


def new_project(name: str, kind: str = "classifier", folder: str | Path = ".") -> Path:
    """Make a project: a network with its training, and what takes it to a server.

    Args:
        name: of the project, its folder and the served model.
        kind: which network it begins with, one of ``KINDS``.
        folder: where the project's folder is made.

    Returns:
        The project's folder.

    Raises:
        ProjectError: the name is none for a model, is taken, or there is no such network.
    """
    if kind not in KINDS:
        raise ProjectError(f"there is no network {kind!r}; choose one of {', '.join(KINDS)}")
    if not NAME.fullmatch(name):
        raise ProjectError(
            f"{name!r} cannot be the name of a project: use a letter from a to z, then up to 39 "
            "more letters, digits or underscores, such as my_model"
        )
    project = Path(folder) / name
    if project.exists() or project.is_symlink():
        raise ProjectError(
            f"{project} exists already, and nothing is ever overwritten; choose another name, or "
            "move it away"
        )
    try:
        with replaced_folder(project) as partial:
            for template in (TEMPLATES / "common", TEMPLATES / kind):
                _copy(template, partial, name)
    except OSError as error:
        raise ProjectError(
            f"{project} cannot be made ({error.strerror}); choose a folder that you may write to"
        ) from None
    return project


def _copy(template: Path, project: Path, name: str) -> None:
    for source in sorted(path for path in template.iterdir() if path.is_file()):
        belongs = project / "model_repository" / name if source.name in OF_THE_MODEL else project
        belongs.mkdir(parents=True, exist_ok=True)
        text = source.read_text(encoding="utf-8").replace(PLACEHOLDER, name)
        (belongs / source.name).write_text(text, encoding="utf-8")
