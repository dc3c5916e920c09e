"""The exercises' checks: right answers pass, usual mistakes get the hint that fits them."""

import re
import subprocess
import sys

import numpy as np
import pytest
from oneflow import nn

from serving_kit import exercises
from serving_kit.exercises._answers import NotYet
from serving_kit.exercises._quiz import mark_quiz

KINDS = exercises._kinds()
NUMBERS = list(KINDS)
TEXTS = [number for number, kind in KINDS.items() if kind == "str"]
FUNCTIONS = [number for number, kind in KINDS.items() if kind == "Callable"]
WITH_HINTS = [number for number in NUMBERS if not number.endswith("quiz")]
#: Those that call the function only once a server runs: see tests/integration.
WITH_SERVER = ["07.2"]


def test_an_unknown_number_is_told_the_known_ones(verdict):
    assert verdict("99.1", None) == (
        f"Not yet: there is no exercise '99.1'; there are {', '.join(NUMBERS)}."
    )


@pytest.mark.parametrize("number", FUNCTIONS)
def test_anything_else_than_a_function_is_told_so(verdict, number):
    assert "this is None, but a function is asked for" in verdict(number, None)
    assert "this is an int, but a function" in verdict(number, 990)


@pytest.mark.parametrize("number", TEXTS)
def test_anything_else_than_a_text_is_told_so(verdict, number):
    assert "this is None, but text is asked for" in verdict(number, None)
    assert "this is a function, but text" in verdict(number, lambda: "")


def test_what_is_of_a_wrong_kind_is_told_before_oneflow_is_imported():
    program = (
        "import sys; from serving_kit import exercises; exercises.check('03.1', None)\n"
        "assert 'oneflow' not in sys.modules and 'tritonclient' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "this is None, but a function" in done.stdout


@pytest.mark.parametrize("number", [n for n in FUNCTIONS if n not in WITH_SERVER])
def test_an_error_of_the_function_is_named(verdict, number):
    def answer(*_):
        return {}["style"]

    line = answer.__code__.co_firstlineno + 1
    where = f'in line {line}, `return {{}}["style"]`'
    assert verdict(number, answer) == f"Not yet: {where}, your function raised KeyError: 'style'"


def test_the_last_line_of_the_learner_s_own_code_is_told(verdict):
    def answer(model):
        return helper(model)

    def helper(model):
        return np.zeros(3).reshape(2, 2)

    line = helper.__code__.co_firstlineno + 1
    told = verdict("01.1", answer)
    assert f"in line {line}, `return np.zeros(3).reshape(2, 2)`, your function raised" in told


# Hints


@pytest.mark.parametrize("number", WITH_HINTS)
def test_hints_come_in_steps_and_then_from_the_first(number, capsys, monkeypatch):
    monkeypatch.setattr(exercises, "_given", {})
    exercises.hint(number)
    first = capsys.readouterr().out
    steps = int(re.fullmatch(rf"{number}  Hint 1 of (\d): .+\n", first)[1])
    assert 2 <= steps <= 4
    for step in range(2, steps + 1):
        exercises.hint(number)
        assert capsys.readouterr().out.startswith(f"{number}  Hint {step} of {steps}: ")
    exercises.hint(number)
    assert capsys.readouterr().out == first


def test_a_hint_for_an_unknown_number(capsys):
    exercises.hint("99.1")
    assert capsys.readouterr().out == (
        f"99.1  there is no exercise '99.1'; there are {', '.join(WITH_HINTS)}.\n"
    )


# Quizzes


@pytest.mark.parametrize(
    ("letters", "told"),
    [
        ("", "give 2 letters, one for each question; these are 0."),
        ("x", "'x' is none of the letters a, b, c and d."),
        ("ab", "1 of 2 are right.\nquestion 1: look at a."),
        ("cd", "0 of 2 are right.\nquestion 1: look at a.\nquestion 2: look at b."),
    ],
)
def test_a_quiz_says_what_to_look_at_again(letters, told):
    with pytest.raises(NotYet) as caught:
        mark_quiz(letters, key="bb", why=("look at a.", "look at b."))
    assert str(caught.value) == told


@pytest.mark.parametrize("letters", ["bb", "B, b"])
def test_a_quiz_that_is_right(letters):
    assert mark_quiz(letters, key="bb", why=("", "")) == "All 2 of them."


# 01.1


def numbers(model, wanted):
    return sum(p.numel() for name, p in model.named_parameters() if wanted(name))


def test_counting_the_numbers_of_a_style(verdict):
    told = verdict("01.1", lambda model: numbers(model, lambda name: "norm" in name))
    assert told == "Right! 990 numbers make a style, of 141354."


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda model: numbers(model, lambda name: True), "which of them do all styles share?"),
        (lambda model: numbers(model, lambda name: "conv" in name), "that all styles share"),
        (lambda model: numbers(model, lambda name: "gamma" in name), "that is half of it"),
        (lambda model: len([n for n, _ in model.named_parameters() if "norm" in n]), "tensors"),
        (lambda model: 7, "you found 7"),
        (lambda model: 990, "a ConvNorm alone is not"),
        (lambda model: print, "returned a builtin_function_or_method"),
        (lambda model: None, "returned None"),
        (lambda model: "990", "returned a str"),
    ],
)
def test_hints_on_counting(verdict, answer, hint):
    assert hint in verdict("01.1", answer)


# 01.2


def blend(one, other, share):
    return {name: one[name] + share * (other[name] - one[name]) for name in one}


def blend_in_place(one, other, share):
    for name in one:
        one[name] += share * (other[name] - one[name])
    return one


def test_blending_two_styles(verdict):
    assert verdict("01.2", blend).startswith("Right!")


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda one, other, share: blend(other, one, share), "the two are exchanged"),
        (lambda one, other, share: blend(one, other, share**2), "not 0.25 of the way"),
        (lambda one, other, share: one, "not 0.25 of the way"),
        (lambda one, other, share: {}, "54 of 54 tensors are missing"),
        (lambda one, other, share: list(one), "returned a list"),
        (lambda one, other, share: {n: t.numpy() for n, t in one.items()}, "is a ndarray"),
        (lambda one, other, share: {n: t.sum() for n, t in one.items()}, "has the shape ()"),
    ],
)
def test_hints_on_blending(verdict, answer, hint):
    assert hint in verdict("01.2", answer)


def test_a_blend_that_changes_its_input_is_noticed(verdict):
    # OneFlow refuses to change a parameter in place, so the hint may be its own words.
    told = verdict("01.2", blend_in_place)
    assert "changed the first style itself" in told or "your function raised" in told


# 02.1


def freeze(model, keep):
    for name, p in model.named_parameters():
        p.requires_grad_(keep(name))


def test_freezing_all_but_the_colours(verdict):
    assert verdict("02.1", lambda model: freeze(model, lambda n: "paint.norm" in n)).startswith(
        "Right!"
    )


@pytest.mark.parametrize(
    ("keep", "hint"),
    [
        (lambda name: True, "every parameter is still trainable"),
        (lambda name: False, "nothing is trainable"),
        (lambda name: "norm" in name, "34 more are trainable than asked for"),
        (lambda name: "paint" in name, "1 more are trainable than asked for, paint.conv.weight"),
        (lambda name: name == "paint.norm.gamma", "paint.norm.beta is frozen"),
    ],
)
def test_hints_on_freezing(verdict, keep, hint):
    assert hint in verdict("02.1", lambda model: freeze(model, keep))


# 02.2


def train_step(model, optimizer, x, y, *, forget=True, step=True, result=float, loss=nn.MSELoss):
    value = loss()(model(x), y)
    if forget:
        optimizer.zero_grad()
    value.backward()
    if step:
        optimizer.step()
    return result(value.item())


def test_a_training_step(verdict):
    assert verdict("02.2", train_step).startswith("Right!")


@pytest.mark.parametrize(
    ("mistake", "hint"),
    [
        ({"forget": False}, "also took the first step's gradient"),
        ({"step": False}, "the weight did not move"),
        ({"loss": nn.L1Loss}, "the first step led to 0.15, expected 1.50"),
        ({"result": lambda value: None}, "return the loss as a float, not None"),
        ({"result": lambda value: value / 2}, "the loss is 11.25, not 22.50"),
    ],
)
def test_hints_on_a_training_step(verdict, mistake, hint):
    assert hint in verdict("02.2", lambda *arguments: train_step(*arguments, **mistake))
