"""The exercises of lessons 01 and 02 on sizes and checkpoints; and lesson 01's slider."""

import re

import numpy as np
import oneflow as flow
import pytest
from notebook_parts import LESSONS, prose, read

# 01.3


def search(milliseconds, limit, first=12, last=1028, fits=lambda took, limit: took <= limit):
    low, high = first, last
    while high - low > 4:
        middle = (low + high) // 8 * 4
        low, high = (middle, high) if fits(milliseconds(middle), limit) else (low, middle)
    return low if low >= 16 else 0


def test_finding_the_largest_size(verdict):
    assert verdict("01.3", search) == (
        "Right! At most 8 measurements, where trying every size takes 253."
    )


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda ms, limit: [s for s in range(16, 1025, 4) if ms(s) <= limit][-1], "than 10 times"),
        (lambda ms, limit: str(search(ms, limit)), "returned a str; let it return the size"),
        (lambda ms, limit: search(ms, limit) + 4, "you return 176, which takes 102.2 ms of 100"),
        (lambda ms, limit: search(ms, limit) - 4, "you return 168, but 172 fits, too: 97.6 ms"),
        (lambda ms, limit: search(ms, limit) + 1, "you return 173; sizes are multiples of 4"),
        (lambda ms, limit: ms(30), "ValueError: sizes are multiples of 4 from 16 to 1024"),
        (
            lambda ms, limit: search(ms, limit, fits=lambda took, limit: took < limit),
            "you return 252, but 256 takes the limit of 32.768 ms exactly",
        ),
        (lambda ms, limit: search(ms, limit, first=16), "even 16 takes 0.8 ms; return 0"),
        (lambda ms, limit: search(ms, limit, last=1024), "you return 1020, but 1024 fits"),
    ],
)
def test_feedback_on_the_largest_size(verdict, answer, told):
    assert told in verdict("01.3", answer)


# 02.3


def train_and_keep(model, step, distance, steps, *, copy=flow.Tensor.clone, first=np.inf, times=1):
    best, smallest = None, first
    for _ in range(steps * times):
        step(model)
        here = distance(model)
        if not here >= smallest if np.isnan(first) else here < smallest:
            best = {name: copy(tensor.detach()) for name, tensor in model.state_dict().items()}
            smallest = here
    return best


def train(model, step, distance, steps):
    for _ in range(steps):
        step(model)
    return model.state_dict()


def train_and_copy(*arguments):
    return {name: tensor.clone() for name, tensor in train(*arguments).items()}


def test_keeping_the_best_checkpoint(verdict):
    assert verdict("02.3", train_and_keep).startswith("Right!")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda *a: None, "it returned None; let it return a state dict"),
        (lambda model, *a: model.state_dict(), "step was called 0 times, not 4"),
        (lambda *a: train_and_keep(*a, times=2), "step was called 8 times, not 4"),
        (train, "distance was never called"),
        (lambda *a: train_and_keep(*a, copy=lambda one: one), "Keep copies of them"),
        (
            lambda model, step, distance, steps: (
                train_and_copy(model, step, distance, steps) | dict.fromkeys([distance(model)])
            ),
            "after step 4, the last one. After step 2 the distance was smallest",
        ),
        (lambda *a: train_and_keep(*a, first=np.nan), "where it is nan: nothing is smaller"),
    ],
)
def test_feedback_on_checkpoints(verdict, answer, told):
    assert told in verdict("02.3", answer)


# The slider


def test_the_slider_of_lesson_01_paints_a_blend():
    (lesson,) = (path for path in LESSONS if path.name.startswith("01"))
    (cell,) = re.findall(r"```python\n(.+?)```", prose(read(lesson)), re.S)
    painted = []
    names = {"paint": painted.append, "show": lambda alt, **pictures: None}
    exec(cell, names)
    slider = names["blend"].widget.children[0]
    assert (slider.min, slider.max, slider.step) == (0, 1, 0.1)
    slider.value = 0.3
    assert painted[-1] == {"starry_night": 0.7, "red_ember": 0.3}
