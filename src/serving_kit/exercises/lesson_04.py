"""Lesson 04, save and inspect a graph: the size of a line, an export, a version in one step."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import oneflow as flow

from oneflow_backend.graph_folder import GraphFolderError
from oneflow_backend.saved_graph import SavedGraph
from serving_kit.exercises._answers import NotYet, call, first_line, one_number, with_more
from serving_kit.exercises._quiz import mark_quiz
from serving_kit.language import _
from serving_kit.stylenet.network import load_stylenet

#: What a graph takes and returns, and the megabits a second of the line.
LINES = [
    ([("float32", (1, 3, 256, 256))], [("float32", (1, 3, 256, 256))], 100),
    ([("uint8", (1, 512, 512, 3))], [("float32", (1, 1000))], 1000),
    ([("int64", (1, 128)), ("float32", (1, 128))], [("float32", (1, 128, 30522))], 1000),
    ([("int64", (1, 4096)), ("float32", (1, 4096))], [("float32", (1, 2))], 10),
]

HINTS = {
    1: (
        _("How many bits has one number of a type? The line's speed is in bits, not in bytes."),
        _(
            "np.dtype(dtype).itemsize is the bytes of one number. Add up all inputs; add up all "
            "outputs. Both directions move at once, so the larger of the two sums is the limit."
        ),
        _(
            "bits = sum(8 * np.dtype(dtype).itemsize * np.prod(shape) for dtype, shape in inputs); "
            "the same for outputs; return megabits * 1e6 / max(of the two)"
        ),
    ),
    2: (
        _("Section 2 of the lesson met both errors that stand in the way."),
        _(
            "A graph is compiled by its first call. A folder is made with mkdir; its parents, too, "
            "if it is told so."
        ),
        _("graph(example), then folder.parent.mkdir(parents=True, exist_ok=True), then flow.save."),
    ),
    3: (
        _(
            "Three things are wrong with the first try: what else lies in a model's folder, how "
            "texts are sorted, and when the new folder becomes visible."
        ),
        _(
            "Compare int(path.name) of those whose name.isdecimal(). Let save write to a temporary "
            "folder in model whose name is not a number; rename it when it is complete."
        ),
        _(
            'with tempfile.TemporaryDirectory(dir=model, prefix=".partial-") as scratch: make '
            '"new" in it, save to "new" / "model", then rename "new" to model / str(version).'
        ),
    ),
}

QUIZ_KEY = "cbdacdbc"
QUIZ_WHY = (
    _("lesson 00 serves a folder of a model repository; no Python of yours is needed."),
    _("lesson 01 counts the numbers that differ between two styles, and names their layers."),
    _("lesson 02, section 5, says what zero_grad() forgets."),
    _("lesson 03, section 2: when does build run?"),
    _("lesson 03, section 6: a value that Python reads while tracing becomes a constant."),
    _("lesson 03, section 7, saves exactly such a graph and prints its inputs and outputs."),
    _("lesson 04, section 8: which folder holds the computation as well as the numbers?"),
    _("lesson 04, section 7: which changes of a file did nobody notice?"),
)


def exercise_quiz(letters: str) -> str:
    """Mark the quiz about lessons 00 to 04."""
    return mark_quiz(letters, QUIZ_KEY, QUIZ_WHY)


def exercise_1(requests_per_second: Callable) -> str:
    """Check how many requests a second a function says that a line carries."""
    for inputs, outputs, megabits in LINES:
        found = one_number(call(requests_per_second, inputs, outputs, megabits))
        expected = megabits * 1e6 / max(_bits(inputs), _bits(outputs))
        if not np.isclose(found, expected, rtol=1e-3):
            told = _(
                "for the inputs {inputs}, the outputs {outputs} and {megabits} Mbit/s it says "
                "{found:.1f}, expected {expected:.1f}."
            ).format(
                inputs=inputs, outputs=outputs, megabits=megabits, found=found, expected=expected
            )
            raise NotYet(with_more(told, _why(found, inputs, outputs, megabits)))
    return _("A painting is as large as its photo: 16 of each fill 100 Mbit/s.")


def _bits(tensors: list[tuple[str, tuple[int, ...]]]) -> int:
    return sum(8 * np.dtype(dtype).itemsize * int(np.prod(shape)) for dtype, shape in tensors)


def _why(found: float, inputs: list, outputs: list, megabits: float) -> str:
    """Return the mistake that explains a number of requests a second, if one is known."""
    line, numbers = megabits * 1e6, sum(int(np.prod(shape)) for _type, shape in inputs)
    mistakes = [
        (line / numbers, _("A number is not a bit: how many bytes has each, and how many bits?")),
        (line / numbers / 8, _("A number takes more than one byte: look at the type.")),
        (
            8 * line / max(_bits(inputs), _bits(outputs)),
            _("The line's speed is in bits, not bytes."),
        ),
        (line / (_bits(inputs) + _bits(outputs)), _("Both directions move at the same time.")),
        (line / _bits(inputs), _("Here the outputs are the larger part, and the limit.")),
        (line / _bits(outputs), _("Here the inputs are the larger part, and the limit.")),
        (line / _bits(inputs[:1]), _("There is more than one input.")),
    ]
    return next((why for value, why in mistakes if np.isclose(found, value, 1e-3)), "")


def exercise_2(export: Callable) -> str:
    """Check a function that saves a module as a graph: load it without its class, compare."""
    model = load_stylenet("red_ember")
    example = np.random.default_rng(4).uniform(0, 255, (1, 3, 64, 64)).astype(np.float32)
    with flow.no_grad():
        expected = model(flow.tensor(example)).numpy()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "new_model" / "1" / "model"
        _call_export(export, model, flow.tensor(example), folder)
        try:
            with SavedGraph(folder) as saved:
                (found,) = saved(example)
        except (GraphFolderError, ValueError) as error:
            raise NotYet(
                _("the folder holds no graph that runs: {error}").format(
                    error=_told(error, scratch)
                )
            ) from error
    if not np.allclose(found, expected, atol=0.01):
        raise NotYet(_("the saved graph runs, but its results are not those of the given module."))
    return _("Saved, loaded without its class, and the results are the module's own.")


def _call_export(export: Callable, model, example: flow.Tensor, folder: Path) -> None:
    """Call the learner's export, with a word more on the two errors that everyone meets."""
    try:
        _call_outside(str(folder.parents[2]), export, model, example, folder)
    except NotYet as hint:
        cause = hint.__cause__
        if "must be compiled first" in str(cause):
            raise NotYet(
                _("{hint} What makes OneFlow compile a graph?").format(hint=hint)
            ) from None
        if isinstance(cause, FileNotFoundError):
            raise NotYet(
                _("{hint}: is there a folder for it to lie in?").format(hint=hint)
            ) from None
        raise
    if not folder.exists():
        raise NotYet(_("nothing lies in the folder that your function was given."))


def _call_outside(scratch: str, function: Callable, *arguments: object) -> object:
    """Call a learner's function; its error is told without the folder of this trial."""
    try:
        return call(function, *arguments)
    except NotYet as hint:
        raise NotYet(_told(hint, scratch)) from hint.__cause__


def _told(error: Exception, scratch: str) -> str:
    """Return an error's message without the folder of this trial."""
    return str(error).replace(f"{scratch}/", "")


class _Save:
    """Writes a graph slowly, as flow.save does, and looks what a server could see meanwhile."""

    def __init__(self, model: Path, error: Exception | None = None):
        self.model, self.error = model, error
        self.before = _versions(model)
        self.seen, self.folder, self.inode = set(), None, None

    def __call__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.folder.mkdir()
        (self.folder / "model.mlir").write_text("module {")
        self.inode = (self.folder / "model.mlir").stat().st_ino
        self.seen = _versions(self.model) - self.before
        if self.error:
            raise self.error
        (self.folder / "model.mlir").write_text("module {\n}\n")


def _versions(model: Path) -> set[str]:
    return {path.name for path in model.iterdir() if path.name.isdecimal()}


def exercise_3(publish: Callable) -> str:
    """Check a function that publishes a version in one step: also if saving fails."""
    _check_published(publish, ["1", "2", "10"], 11)
    _check_published(publish, [], 1)
    _check_failure(publish)
    return _("Complete or not there at all: that is what a server can rely on.")


@contextlib.contextmanager
def _repository(versions: list[str]) -> Iterator[Path]:
    """Yield the folder of a model as it lies in a repository, with these versions."""
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch) / "model_repository" / "painter"
        for name in ("configs", *versions):
            (model / name / "model").mkdir(parents=True)
        (model / "config.pbtxt").write_text('backend: "oneflow"')
        yield model


def _check_published(publish: Callable, versions: list[str], expected: int) -> None:
    with _repository(versions) as model:
        before, save = _everything(model), _Save(model)
        found = _call_outside(str(model.parents[1]), publish, save, model)
        listed = ", ".join(versions) or _("none")
        new = _versions(model) - save.before
        if not save.folder:
            raise NotYet(_("it never called save."))
        if new != {str(expected)}:
            made = ", ".join(sorted(new)) or _("nothing")
            told = _(
                "there were the versions {listed}; new is {made}, expected {expected}."
            ).format(listed=listed, made=made, expected=expected)
            raise NotYet(with_more(told, _("Compare numbers, not texts.") if new == {"3"} else ""))
        if save.seen:
            raise NotYet(
                _(
                    "version {expected} was visible while save was still writing: a server that "
                    "looked then found half a model."
                ).format(expected=expected)
            )
        if not (model / str(expected) / "model/model.mlir").exists():
            raise NotYet(
                _("version {expected} is there, but no model/model.mlir in it.").format(
                    expected=expected
                )
            )
        _check_renamed(save, model / str(expected) / "model/model.mlir")
        _check_nothing_else(before, model, f"{model.name}/{expected}")
        if found != expected:
            raise NotYet(
                _("all is in its place, but it returned {found!r}, expected {expected}.").format(
                    found=found, expected=expected
                )
            )


def _check_renamed(save: _Save, file: Path) -> None:
    elsewhere = not save.folder.resolve().is_relative_to(save.model.parent.resolve())
    if elsewhere or file.stat().st_ino != save.inode:
        raise NotYet(
            _(
                "the files were copied, or may be where the temporary folder is on another file "
                "system: that takes time, and a server can see it. Rename a folder that lies "
                "beside."
            )
        )


def _check_failure(publish: Callable) -> None:
    error = OSError("No space left on device")
    with _repository(["1"]) as model:
        before = _everything(model)
        try:
            publish(_Save(model, error), model)
        except Exception as raised:
            if raised is not error:
                raise NotYet(
                    _("save raised {error}, but publish raised {raised}.").format(
                        error=first_line(error), raised=first_line(raised)
                    )
                ) from raised
        else:
            raise NotYet(_("save failed, and publish did not say so: let its error through."))
        _check_nothing_else(before, model, None)


def _everything(model: Path) -> set[str]:
    """Return what is in a model's folder and beside it."""
    repository = model.parent
    paths = [*repository.iterdir(), *model.iterdir()]
    return {str(path.relative_to(repository)) for path in paths}


def _check_nothing_else(before: set[str], model: Path, new: str | None) -> None:
    left = _everything(model) - before - {new}
    if left:
        told = (
            _("it worked, but it left something behind: {left}.")
            if new
            else _("save failed, and publish left something behind: {left}.")
        )
        raise NotYet(told.format(left=", ".join(sorted(left))))
