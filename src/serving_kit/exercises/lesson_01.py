"""Lesson 01, run a model eagerly: a style's numbers, blending two, a size that fits the time."""

from collections.abc import Callable

import numpy as np
import oneflow as flow

from serving_kit.exercises._answers import NotYet, call, describe
from serving_kit.language import _
from serving_kit.stylenet.network import ConvNorm, load_stylenet

HINTS = {
    1: (
        _("The names of the parameters say where they belong. Print a few of them."),
        _("Section 5 says which tensors differ between two styles: those of the instance norms."),
        _('Count a parameter only if "norm" is in its name.'),
    ),
    2: (
        _("A blend has a tensor for each name in one, and the same names are in other."),
        _(
            "At share 0 it is the tensor of one, at share 1 that of other, between on a straight "
            "line."
        ),
        _("Build a new dict: {name: one[name] + share * (...) for name in one}."),
    ),
    3: (
        _("If a size fits, every smaller one does. What does one measurement in the middle tell?"),
        _(
            "Keep two sizes: the largest known to fit, and the smallest known not to. Measure "
            "between."
        ),
        _(
            "Begin with fits = 12, too_large = 1028, and go on while too_large - fits > 4; the "
            "middle that is a multiple of 4 is (fits + too_large) // 8 * 4. If fits is still 12, "
            "return 0."
        ),
    ),
}
#: Exercise 3: the sizes that a service may accept, and how often a size may be measured.
SIZES = range(16, 1025, 4)
MEASUREMENTS = 10


def exercise_1(style_numbers: Callable) -> str:
    """Check a function that counts the numbers in a module's instance norms."""
    model = load_stylenet()
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    norms = {name: size for name, size in sizes.items() if ".norm." in name}
    every, expected = sum(sizes.values()), sum(norms.values())
    found = call(style_numbers, model)
    if isinstance(found, flow.Tensor | str | None) or not np.isscalar(found):
        raise NotYet(
            _("your function returned {what}; let it return one number.").format(
                what=describe(found)
            )
        )
    hints = {
        every: _("that is every number of the network; which of them do all styles share?"),
        every - expected: _("those are the numbers that all styles share."),
        expected // 2: _("that is half of it: a norm has a scale and a shift, gamma and beta."),
        len(norms): _("that is how many tensors there are, not the numbers in them."),
    }
    if found != expected:
        hint = hints.get(found, _("look once more at the names."))
        raise NotYet(_("you found {found}: {hint}").format(found=found, hint=hint))
    if call(style_numbers, ConvNorm(3, 5, 1)) != 10:
        raise NotYet(
            _("StyleNet is right, but a ConvNorm alone is not: count in the module given.")
        )
    return _("{numbers} numbers make a style, of {every}.").format(numbers=expected, every=every)


def exercise_2(blend: Callable) -> str:
    """Check a function that blends two state dicts."""
    one, other = (load_stylenet(style).state_dict() for style in ("starry_night", "red_ember"))
    before = {name: tensor.numpy().copy() for name, tensor in one.items()}
    for share in (0.25, 0.0, 1.0):
        found = call(blend, one, other, share)
        if not isinstance(found, dict):
            raise NotYet(
                _("blend returned {what}; let it return a dict, name to tensor.").format(
                    what=describe(found)
                )
            )
        if missing := set(one) - set(found):
            raise NotYet(
                _("{missing} of {all} tensors are missing: {name}.").format(
                    missing=len(missing), all=len(one), name=min(missing)
                )
            )
        if any(not np.array_equal(one[name].numpy(), before[name]) for name in one):
            raise NotYet(_("blend changed the first style itself; make new tensors, without +=."))
        _check_share(found, one, other, share)
    return _("Every share from 0 to 1 is a style of its own.")


def _check_share(found: dict, one: dict, other: dict, share: float) -> None:
    """Compare a blend with the straight line from one style to the other."""
    for name in one:
        start, end = one[name].numpy(), other[name].numpy()
        if not isinstance(found[name], flow.Tensor):
            raise NotYet(
                _("{name} is {what}; let it be a tensor.").format(
                    name=name, what=describe(found[name])
                )
            )
        here = found[name].numpy()
        if here.shape != start.shape:
            raise NotYet(
                _("{name} has the shape {found}, but should have {expected}.").format(
                    name=name, found=here.shape, expected=start.shape
                )
            )
        if np.allclose(here, start + share * (end - start), atol=1e-5):
            continue
        if np.allclose(here, end + share * (start - end), atol=1e-5):
            raise NotYet(
                _("share {share} gives what {opposite} should: the two are exchanged.").format(
                    share=share, opposite=1 - share
                )
            )
        raise NotYet(
            _(
                "with share {share}, {name} is not {share} of the way from one style to the other."
            ).format(share=share, name=name)
        )


def exercise_3(largest_size: Callable) -> str:
    """Check a function that finds the largest size of a picture that a time limit allows."""
    most = 0
    for microseconds, limit in ((3.3, 100), (0.5, 32.768), (3.3, 0.8), (0.05, 60), (9.1, 2.5)):
        clock = _Clock(microseconds)
        try:
            found = call(largest_size, clock, limit)
        except NotYet:
            if clock.measured <= MEASUREMENTS:
                raise
            raise NotYet(
                _(
                    "with a limit of {limit} ms you measure more than {times} times. There are "
                    "{sizes} sizes; which of them does one measurement rule out?"
                ).format(limit=limit, times=MEASUREMENTS, sizes=len(SIZES))
            ) from None
        _check_size(found, clock, limit)
        most = max(most, clock.measured)
    return _("At most {most} measurements, where trying every size takes {sizes}.").format(
        most=most, sizes=len(SIZES)
    )


class _Clock:
    """Says how long a picture takes, as a measurement would, and how often it was asked."""

    def __init__(self, microseconds: float):
        self.microseconds, self.measured = microseconds, 0

    def __call__(self, size: int) -> float:
        self.measured += 1
        if self.measured > MEASUREMENTS:
            raise RuntimeError("too many measurements")
        if size not in SIZES:
            raise ValueError(
                _("sizes are multiples of 4 from 16 to 1024, and {size} is not").format(size=size)
            )
        return self.of(size)

    def of(self, size: int) -> float:
        return self.microseconds * size**2 / 1000


def _check_size(found: object, clock: _Clock, limit: float) -> None:
    """Compare a size with the largest that takes no longer than the limit."""
    expected = max((size for size in SIZES if clock.of(size) <= limit), default=0)
    if not isinstance(found, int | np.integer):
        raise NotYet(
            _("your function returned {what}; let it return the size, an int.").format(
                what=describe(found)
            )
        )
    if found == expected:
        return
    if not expected:
        raise NotYet(
            _(
                "with a limit of {limit} ms you return {found}, but even 16 takes {took:.1f} ms; "
                "return 0."
            ).format(limit=limit, found=found, took=clock.of(16))
        )
    if found not in SIZES:
        raise NotYet(
            _("you return {found}; sizes are multiples of 4 from 16 to 1024.").format(found=found)
        )
    if found > expected:
        raise NotYet(
            _("you return {found}, which takes {took:.1f} ms of {limit} ms.").format(
                found=found, took=clock.of(found), limit=limit
            )
        )
    if clock.of(expected) == limit:
        raise NotYet(
            _("you return {found}, but {expected} takes the limit of {limit} ms exactly.").format(
                found=found, expected=expected, limit=limit
            )
        )
    raise NotYet(
        _("you return {found}, but {expected} fits, too: {took:.1f} ms.").format(
            found=found, expected=expected, took=clock.of(expected)
        )
    )
