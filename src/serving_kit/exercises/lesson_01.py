"""Lesson 01, run a model eagerly: counting a style's numbers, and blending two styles."""

from collections.abc import Callable

import numpy as np
import oneflow as flow

from serving_kit.exercises._answers import NotYet, call, describe
from serving_kit.stylenet.network import ConvNorm, load_stylenet


def exercise_1(style_numbers: Callable) -> str:
    """Check a function that counts the numbers in a module's instance norms."""
    model = load_stylenet()
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    norms = {name: size for name, size in sizes.items() if ".norm." in name}
    every, expected = sum(sizes.values()), sum(norms.values())
    found = call(style_numbers, model)
    if isinstance(found, flow.Tensor | str | None) or not np.isscalar(found):
        raise NotYet(f"your function returned {describe(found)}; let it return one number.")
    hints = {
        every: "that is every number of the network; which of them do all styles share?",
        every - expected: "those are the numbers that all styles share.",
        expected // 2: "that is half of it: a norm has a scale and a shift, gamma and beta.",
        len(norms): "that is how many tensors there are, not the numbers in them.",
    }
    if found != expected:
        hint = hints.get(found, "look once more at the names.")
        raise NotYet(f"you found {found}: {hint}")
    if call(style_numbers, ConvNorm(3, 5, 1)) != 10:
        raise NotYet("StyleNet is right, but a ConvNorm alone is not: count in the module given.")
    return f"{expected} numbers make a style, of {every}."


def exercise_2(blend: Callable) -> str:
    """Check a function that blends two state dicts."""
    one, other = (load_stylenet(style).state_dict() for style in ("starry_night", "red_ember"))
    before = {name: tensor.numpy().copy() for name, tensor in one.items()}
    for share in (0.25, 0.0, 1.0):
        found = call(blend, one, other, share)
        if not isinstance(found, dict):
            raise NotYet(f"blend returned {describe(found)}; let it return a dict, name to tensor.")
        if missing := set(one) - set(found):
            raise NotYet(f"{len(missing)} of {len(one)} tensors are missing: {min(missing)}.")
        if any(not np.array_equal(one[name].numpy(), before[name]) for name in one):
            raise NotYet("blend changed the first style itself; make new tensors, without +=.")
        _check_share(found, one, other, share)
    return "Every share from 0 to 1 is a style of its own."


def _check_share(found: dict, one: dict, other: dict, share: float) -> None:
    """Compare a blend with the straight line from one style to the other."""
    for name in one:
        start, end = one[name].numpy(), other[name].numpy()
        if not isinstance(found[name], flow.Tensor):
            raise NotYet(f"{name} is {describe(found[name])}; let it be a tensor.")
        here = found[name].numpy()
        if here.shape != start.shape:
            raise NotYet(f"{name} has the shape {here.shape}, but should have {start.shape}.")
        if np.allclose(here, start + share * (end - start), atol=1e-5):
            continue
        if np.allclose(here, end + share * (start - end), atol=1e-5):
            raise NotYet(f"share {share} gives what {1 - share} should: the two are exchanged.")
        raise NotYet(
            f"with share {share}, {name} is not {share} of the way from one style to the other."
        )
