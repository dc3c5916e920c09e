"""Lesson 02, train a new style: what is trained, one step of training, the best checkpoint."""

from collections.abc import Callable

import numpy as np
import oneflow as flow
from oneflow import nn

from serving_kit.exercises._answers import NotYet, call, describe
from serving_kit.language import _
from serving_kit.stylenet.network import load_stylenet

HINTS = {
    1: (
        _("Section 2 freezes everything but the norms. What is in the names of the last layer?"),
        _("Go through model.named_parameters() and set each one: frozen, or trainable."),
        _('parameter.requires_grad_(name.startswith("paint.norm")) does both.'),
    ),
    2: (
        _("Section 5 has three lines between the loss and the next step."),
        _("zero_grad() discards the old gradients, backward() computes new ones, step() moves."),
        _("loss is a tensor; loss.item() is its value as a Python float."),
    ),
    3: (
        _("Keep two things: the smallest distance so far, and the state dict that belongs to it."),
        _(
            "Begin with infinity as the smallest distance. nan < smallest is False, as it should "
            "be."
        ),
        _(
            "state_dict() holds the model's own tensors, which the next step changes. Keep copies: "
            "{name: tensor.detach().clone() for name, tensor in model.state_dict().items()}."
        ),
    ),
}


def exercise_1(only_colours: Callable) -> str:
    """Check a function that leaves nothing trainable but the norm of the last layer."""
    model = load_stylenet()
    call(only_colours, model)
    wanted = {"paint.norm.gamma", "paint.norm.beta"}
    names = set(dict(model.named_parameters()))
    found = {name for name, p in model.named_parameters() if p.requires_grad}
    if found == names:
        raise NotYet(_("every parameter is still trainable; p.requires_grad_(False) freezes one."))
    if not found:
        raise NotYet(_("nothing is trainable now; the last norm should be."))
    if found & wanted == wanted:
        if extra := found - wanted:
            raise NotYet(
                _("{extra} more are trainable than asked for, {name} for one.").format(
                    extra=len(extra), name=min(extra)
                )
            )
        return _("Six numbers are left: brightness and contrast of red, green and blue.")
    raise NotYet(
        _("{name} is frozen; freeze the others, not this one.").format(name=min(wanted - found))
    )


def exercise_2(train_step: Callable) -> str:
    """Check one step of training: twice, on one number whose gradient is known."""
    model = nn.Linear(1, 1, bias=False)
    model.load_state_dict({"weight": flow.tensor([[0.0]])})
    rate, xs, ys = 0.1, np.array([[1.0], [2.0]], np.float32), np.array([[3.0], [6.0]], np.float32)
    optimizer = flow.optim.SGD(model.parameters(), lr=rate)
    weight = summed = 0.0
    for number, step in enumerate((_("first"), _("second")), 1):
        expected_loss = np.mean((weight * xs - ys) ** 2)
        gradient = np.mean(2 * (weight * xs - ys) * xs)
        summed += gradient
        loss = call(train_step, model, optimizer, flow.tensor(xs), flow.tensor(ys))
        found = model.weight.item()
        if np.isclose(found, weight):
            raise NotYet(_("the weight did not move: do backward() and optimizer.step() both run?"))
        if number == 2 and np.isclose(found, weight - rate * summed, atol=1e-4):
            raise NotYet(_("the second step also took the first step's gradient: what forgets it?"))
        weight -= rate * gradient
        if not np.isclose(found, weight, atol=1e-4):
            raise NotYet(
                _(
                    "the {step} step led to {found:.2f}, expected {weight:.2f}; the loss is the "
                    "mean of the squared differences."
                ).format(step=step, found=found, weight=weight)
            )
        if not isinstance(loss, float):
            raise NotYet(
                _("the step is right; return the loss as a float, not {what}.").format(
                    what=describe(loss)
                )
            )
        if not np.isclose(loss, expected_loss, atol=1e-3):
            raise NotYet(
                _("the step is right, but the loss is {loss:.2f}, not {expected_loss:.2f}.").format(
                    loss=loss, expected_loss=expected_loss
                )
            )
    return _("Forget, backward, step: every training loop is this.")


def exercise_3(train_and_keep: Callable) -> str:
    """Check a function that trains and returns the state dict with the smallest distance."""
    nan = float("nan")
    for distances in ([5.0, 2.0, 3.0, 4.0], [6.0, 3.0, nan, nan], [nan, 4.0, 1.0, 6.0]):
        run = _Training(distances)
        found = call(train_and_keep, run.model, run.step, run.distance, len(distances))
        _check_kept(found, run)
    return _("The best checkpoint is kept, whatever the steps after it do.")


class _Training:
    """A training whose course is known: after step n the weight is n, the distance as given."""

    def __init__(self, distances: list[float]):
        self.model = nn.Linear(1, 1, bias=False)
        self.distances, self.steps, self.measured = distances, 0, 0
        self.set(0.0)

    def set(self, weight: float) -> None:
        self.model.load_state_dict({"weight": flow.tensor([[weight]])})

    def step(self, model: nn.Module) -> None:
        self.steps += 1
        self.set(float(self.steps))

    def distance(self, model: nn.Module) -> float:
        self.measured += 1
        return self.distances[min(self.steps, len(self.distances)) - 1]


def _check_kept(found: object, run: _Training) -> None:
    """Compare the state dict that was kept with that of the best step."""
    if not isinstance(found, dict) or "weight" not in found:
        raise NotYet(
            _("it returned {what}; let it return a state dict.").format(what=describe(found))
        )
    if run.steps != len(run.distances):
        raise NotYet(
            _("step was called {steps} times, not {expected}.").format(
                steps=run.steps, expected=len(run.distances)
            )
        )
    if not run.measured:
        raise NotYet(_("distance was never called; how do you know which step is the best?"))
    kept, best = _value(found), 1 + int(np.nanargmin(run.distances))
    run.set(-1.0)
    if _value(found) != kept:
        raise NotYet(
            _(
                "what you return changes when the model trains on: a state dict holds the model's "
                "own tensors. Keep copies of them."
            )
        )
    if kept == best:
        return
    if np.isnan(run.distances[int(kept) - 1]):
        told = _(
            "the distances were {distances}; you return the state after step {kept:.0f}, where it "
            "is nan: nothing is smaller than nan."
        )
    elif kept == len(run.distances):
        told = _(
            "the distances were {distances}; you return the state after step {kept:.0f}, the last "
            "one. After step {best} the distance was smallest."
        )
    else:
        told = _(
            "the distances were {distances}; you return the state after step {kept:.0f}. After "
            "step {best} the distance was smallest."
        )
    raise NotYet(told.format(distances=run.distances, kept=kept, best=best))


def _value(state: dict) -> float:
    """Return the weight in a state dict, of tensors or of arrays."""
    return float(state["weight"].item())
