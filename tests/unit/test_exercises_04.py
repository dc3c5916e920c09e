"""Lesson 04's checks: right answers pass, usual mistakes get the hint that fits them."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import oneflow as flow
import pytest
from oneflow import nn

from serving_kit.exercises import lesson_04
from serving_kit.exercises._answers import NotYet

# 04.1


def bits(tensors):
    return sum(8 * np.dtype(dtype).itemsize * np.prod(shape) for dtype, shape in tensors)


def numbers(tensors):
    return sum(np.prod(shape) for _, shape in tensors)


def test_the_size_of_a_line(verdict):
    told = verdict("04.1", lambda i, o, megabits: megabits * 1e6 / max(bits(i), bits(o)))
    assert told.startswith("Right! A painting is as large as its photo: 16 of each")


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda i, o, mb: mb * 1e6 / numbers(i), "says 508.6, expected 15.9. A number is not a"),
        (lambda i, o, mb: mb * 1e6 / numbers(i) / 8, "takes more than one byte: look at the type"),
        (lambda i, o, mb: mb * 1e6 / max(bits(i), bits(o)) * 8, "is in bits, not bytes"),
        (lambda i, o, mb: mb * 1e6 / (bits(i) + bits(o)), "Both directions move at the same time"),
        (
            lambda i, o, mb: mb * 1e6 / min(bits(i), bits(o)),
            "Here the inputs are the larger part, and the",
        ),
        (lambda i, o, mb: mb * 1e6 / bits(i), "Here the outputs are the larger part, and the"),
        (lambda i, o, mb: mb * 1e6 / bits(o), "Here the inputs are the larger part, and the"),
        (lambda i, o, mb: mb * 1e6 / max(bits(i[:1]), bits(o)), "There is more than one input"),
        (lambda i, o, mb: 16, "says 16.0, expected 15.9."),
        (lambda i, o, mb: None, "returned None; let it return one number"),
    ],
)
def test_hints_on_the_size_of_a_line(verdict, answer, hint):
    assert hint in verdict("04.1", answer)


# 04.2


class AnyGraph(nn.Graph):
    def __init__(self, module):
        super().__init__()
        self.module = module

    def build(self, x):
        return self.module(x)


def export(
    module, example, folder, *, parent=True, compiled=True, what=lambda module, graph: graph
):
    graph = AnyGraph(module)
    if compiled:
        graph(example)
    if parent:
        folder.parent.mkdir(parents=True)
    flow.save(what(module, graph), str(folder))


@pytest.mark.parametrize(
    ("mistake", "hint"),
    [
        ({"compiled": False}, "graph must be compiled first. What makes OneFlow compile a graph?"),
        ({"parent": False}, "'new_model/1/model': is there a folder for it to lie in?"),
        ({"what": lambda module, _: module.state_dict()}, "this folder holds a state dict"),
    ],
)
def test_hints_on_exporting(verdict, mistake, hint):
    told = verdict("04.2", lambda *arguments: export(*arguments, **mistake))
    assert hint in told
    assert "/tmp" not in told


def test_an_export_of_something_else_is_noticed(verdict):
    from serving_kit.stylenet.network import load_stylenet

    def other_model(module, example, folder):
        export(load_stylenet("starry_night"), example, folder)

    assert "results are not those of the given module" in verdict("04.2", other_model)


def test_an_export_that_saved_nothing_is_noticed(verdict):
    assert "nothing lies in the folder" in verdict("04.2", lambda *arguments: None)


# 04.3


def next_number(model):
    return max((int(p.name) for p in model.iterdir() if p.name.isdecimal()), default=0) + 1


def publish(save, model, *, where=lambda model: model, move=Path.rename, version=next_number):
    number = version(model)
    with tempfile.TemporaryDirectory(dir=where(model), prefix=".partial-") as scratch:
        new = Path(scratch) / "new"
        new.mkdir()
        save(new / "model")
        move(new, model / str(number))
    return number


def in_place(save, model, version=next_number):
    folder = model / str(version(model))
    folder.mkdir()
    save(folder / "model")
    return int(folder.name)


def left_behind(save, model):
    """A temporary folder that nothing removes if save fails, or even if not."""
    scratch = Path(tempfile.mkdtemp(dir=model, prefix=".partial-"))
    save(scratch / "model")
    number = next_number(model)
    (model / str(number)).mkdir()
    (scratch / "model").rename(model / str(number) / "model")
    return number


def only_if_it_works(save, model):
    number = next_number(model)
    new = model / "new"
    new.mkdir()
    save(new / "model")
    new.rename(model / str(number))
    return number


def swallows(save, model):
    try:
        return publish(save, model)
    except OSError:
        return None


def replaces_the_error(save, model):
    try:
        return publish(save, model)
    except OSError:
        raise RuntimeError("failed") from None


def largest_text(model):
    return int(max(path.name for path in model.iterdir() if path.name.isdecimal())) + 1


def test_a_version_in_one_step(verdict):
    assert verdict("04.3", publish).startswith("Right! Complete or not there at all")


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda save, model: None, "it never called save"),
        (lambda save, model: int("configs"), "raised ValueError: invalid literal"),
        (
            lambda *a: publish(*a, version=largest_text),
            "there were the versions 1, 2, 10; new is 3, expected 11. Compare numbers, not texts.",
        ),
        (in_place, "version 11 was visible while save was still writing"),
        (lambda *a: publish(*a, move=lambda a, b: None), "new is nothing, expected 11"),
        (
            lambda *a: publish(*a, move=lambda new, to: (new / "model").rename(to)),
            "version 11 is there, but no model/model.mlir in it",
        ),
        (lambda *a: publish(*a, move=shutil.copytree), "the files were copied"),
        (lambda *a: publish(*a, where=lambda model: None), "on another file system"),
        (left_behind, "it worked, but it left something behind: painter/.partial-"),
        (only_if_it_works, "save failed, and publish left something behind: painter/new."),
        (lambda *a: publish(*a) and None, "all is in its place, but it returned None, expected 11"),
        (
            lambda *a: publish(*a, version=lambda model: len(list(model.glob("[0-9]*"))) + 8),
            "there were the versions none; new is 8, expected 1.",
        ),
        (swallows, "save failed, and publish did not say so"),
        (replaces_the_error, "No space left on device, but publish raised RuntimeError: failed"),
    ],
)
def test_hints_on_a_version_in_one_step(verdict, answer, hint):
    told = verdict("04.3", answer)
    assert hint in told
    assert "/tmp" not in told


# The quiz


def test_the_quiz_says_for_each_wrong_letter_what_to_look_at():
    with pytest.raises(NotYet, match=r"^1 of 8 are right\.\nquestion 1: .*\n.*\nquestion 3: "):
        lesson_04.exercise_quiz("a" * 8)
    assert lesson_04.exercise_quiz(lesson_04.QUIZ_KEY) == "All 8 of them."
