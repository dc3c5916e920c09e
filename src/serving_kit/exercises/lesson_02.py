"""Lesson 02, train a new style: choosing what is trained, and one step of training."""

from collections.abc import Callable

import numpy as np
import oneflow as flow
from oneflow import nn

from serving_kit.exercises._answers import NotYet, call, describe
from serving_kit.stylenet.network import load_stylenet


def exercise_1(only_colours: Callable) -> str:
    """Check a function that leaves nothing trainable but the norm of the last layer."""
    model = load_stylenet()
    call(only_colours, model)
    wanted = {"paint.norm.gamma", "paint.norm.beta"}
    names = {name for name, _ in model.named_parameters()}
    found = {name for name, p in model.named_parameters() if p.requires_grad}
    if found == names:
        raise NotYet("every parameter is still trainable; p.requires_grad_(False) freezes one.")
    if not found:
        raise NotYet("nothing is trainable now; the last norm should be.")
    if found & wanted == wanted:
        if extra := found - wanted:
            raise NotYet(f"{len(extra)} more are trainable than asked for, {min(extra)} for one.")
        return "Six numbers are left: brightness and contrast of red, green and blue."
    raise NotYet(f"{min(wanted - found)} is frozen; freeze the others, not this one.")


def exercise_2(train_step: Callable) -> str:
    """Check one step of training: twice, on one number whose gradient is known."""
    model = nn.Linear(1, 1, bias=False)
    model.load_state_dict({"weight": flow.tensor([[0.0]])})
    rate, xs, ys = 0.1, np.array([[1.0], [2.0]], np.float32), np.array([[3.0], [6.0]], np.float32)
    optimizer = flow.optim.SGD(model.parameters(), lr=rate)
    weight = summed = 0.0
    for step in ("first", "second"):
        expected_loss = np.mean((weight * xs - ys) ** 2)
        gradient = np.mean(2 * (weight * xs - ys) * xs)
        summed += gradient
        loss = call(train_step, model, optimizer, flow.tensor(xs), flow.tensor(ys))
        found = model.weight.item()
        if np.isclose(found, weight):
            raise NotYet("the weight did not move: do backward() and optimizer.step() both run?")
        if step == "second" and np.isclose(found, weight - rate * summed, atol=1e-4):
            raise NotYet("the second step also took the first step's gradient: what forgets it?")
        weight -= rate * gradient
        if not np.isclose(found, weight, atol=1e-4):
            raise NotYet(
                f"the {step} step led to {found:.2f}, expected {weight:.2f}; the loss is the mean "
                "of the squared differences."
            )
        if not isinstance(loss, float):
            raise NotYet(f"the step is right; return the loss as a float, not {describe(loss)}.")
        if not np.isclose(loss, expected_loss, atol=1e-3):
            raise NotYet(f"the step is right, but the loss is {loss:.2f}, not {expected_loss:.2f}.")
    return "Forget, backward, step: every training loop is this."
