"""Lesson 09, build a pipeline: sizing its steps, an ensemble for blends, one response a request."""

import math
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from serving_kit.errors import ConfigError
from serving_kit.exercises._answers import NotYet, call, describe
from serving_kit.language import _
from serving_kit.paths import MODEL_REPOSITORY
from serving_kit.repository import checks
from serving_kit.repository.config import CONFIG, CPU_CONFIG
from serving_kit.repository.config_text import parse_config

HINTS = {
    1: (
        _("An instance that needs 90 ms for a request can do about 11 of them in a second."),
        _(
            "25 requests a second of 90 ms each are 25 * 90 = 2,250 ms of work in each second. How "
            "many instances have 1,000 ms each?"
        ),
        _("math.ceil(per_second * ms / 1000) for each step."),
    ),
    2: (
        _(
            "Start from CONFIG of section 3. Which model is exchanged, and what does it need that "
            "the other one did not?"
        ),
        _(
            "A second entry in `input`, with the dims [ 1, 26 ], and a second input_map in the "
            "step of multi_style."
        ),
        _(
            'input_map { key: "INPUT_1" value: "WEIGHTS" }: the key is the name in the model, the '
            "value the name in the ensemble."
        ),
    ),
    3: (
        _("What happens to the third request if the second one raises?"),
        _("try and except belong inside the loop, and every turn appends exactly one response."),
        _(
            "except ValueError: InferenceResponse([], TritonError(str(error), INVALID_ARG)), and "
            "except Exception the same without a code, which means INTERNAL."
        ),
    ),
}
NAME = "blend_jpeg"
STEPS = ("preprocess", "multi_style", "postprocess")
INPUTS, OUTPUTS = {"PICTURE", "WEIGHTS"}, {"JPEG"}


def exercise_1(instances: Callable) -> str:
    """Check a function that says how many instances each step of a pipeline needs."""
    milliseconds = {"preprocess": 4.0, "fast_neural_style": 90.0, "postprocess": 210.0}
    for per_second in (25, 2, 110):
        expected = {step: math.ceil(per_second * ms / 1000) for step, ms in milliseconds.items()}
        found = call(instances, dict(milliseconds), per_second)
        if not isinstance(found, dict) or set(found) != set(milliseconds):
            what = sorted(found) if isinstance(found, dict) else describe(found)
            raise NotYet(
                _("it returned {what}; expected a dict with the steps as keys.").format(what=what)
            )
        for step, number in found.items():
            _check_number(step, number, expected[step], milliseconds[step], per_second)
    return _("And the slowest step gets the most instances, not every step the same number.")


def _check_number(step: str, found: object, wanted: int, ms: float, per_second: int) -> None:
    if found == wanted:
        return
    said = _("for {per_second} requests a second of {ms:g} ms each, {step} gets {found!r}").format(
        per_second=per_second, ms=ms, step=step, found=found
    )
    if not isinstance(found, int | float | np.number) or found != int(found):
        raise NotYet(_("{said}; instances come in whole numbers.").format(said=said))
    if found == 0:
        raise NotYet(_("{said}: nothing would be done.").format(said=said))
    if found < wanted:
        can = found * 1000 / ms
        raise NotYet(
            _("{said}, which can do {can:.1f} a second: the queue grows forever.").format(
                said=said, can=can
            )
        )
    raise NotYet(_("{said}; {wanted} can keep up.").format(said=said, wanted=wanted))


def exercise_2(text: str) -> str:
    """Check the config.pbtxt of an ensemble through multi_style, as make check does."""
    try:
        config = parse_config(text, Path(CONFIG))
    except ConfigError as error:
        raise NotYet(_("Triton cannot read it: {error}.").format(error=error)) from None
    names = [step.model_name for step in config.ensemble_scheduling.step]
    if sorted(names) != sorted(STEPS):
        steps = ", ".join(names) or _("none")
        raise NotYet(
            _("its steps are {steps}; expected {expected}.").format(
                steps=steps, expected=_list(STEPS)
            )
        )
    for kind, wanted in (("input", INPUTS), ("output", OUTPUTS)):
        found = {tensor.name for tensor in getattr(config, kind)}
        if found != wanted:
            tensors = _list(sorted(found)) or _("not there")
            raise NotYet(
                _("its {kind} is {tensors}; expected {expected}.").format(
                    kind=kind, tensors=tensors, expected=_list(sorted(wanted))
                )
            )
    for finding in _findings(text):
        raise NotYet(_("make check would say: {message}.").format(message=finding.message))
    return _(
        "Any of 26 styles, and any blend of them, in one request; the next load will serve it."
    )


def _findings(text: str) -> list[checks.Finding]:
    """Return what is wrong with the ensemble, in a repository with the models of its steps."""
    with tempfile.TemporaryDirectory(prefix="serving-kit-exercise-") as folder:
        for model in STEPS:
            for config in (CONFIG, CPU_CONFIG):
                source, copy = MODEL_REPOSITORY / model / config, Path(folder, model, config)
                if source.exists():
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source, copy)
        (Path(folder) / NAME / "1").mkdir(parents=True)
        (Path(folder) / NAME / CONFIG).write_text(text)
        findings = checks.check(folder)
    return [found for found in findings if (found.model, found.severity) == (NAME, "error")]


def _list(names: tuple[str, ...] | list[str]) -> str:
    if len(names) < 2:
        return "".join(names)
    return _("{names} and {last}").format(names=", ".join(names[:-1]), last=names[-1])


class _BadPicture(ValueError):
    """What ``paint`` raises for the visitor's mistake."""


class _Fault(RuntimeError):
    """What ``paint`` raises for ours."""


class _TritonError(SimpleNamespace):
    """Stands in for pb_utils.TritonError, with its codes."""

    UNKNOWN, INTERNAL, NOT_FOUND, INVALID_ARG, UNAVAILABLE, UNSUPPORTED = range(6)

    def __init__(self, message: str, code: int = INTERNAL):
        super().__init__(message=message, code=code)


class _Response(SimpleNamespace):
    """Stands in for pb_utils.InferenceResponse."""

    def __init__(self, output_tensors: tuple = (), error: _TritonError | None = None):
        super().__init__(outputs={tensor.name: tensor for tensor in output_tensors}, error=error)


class _Tensor(SimpleNamespace):
    """Stands in for pb_utils.Tensor."""

    def __init__(self, name: str, array: np.ndarray):
        super().__init__(name=name, as_numpy=lambda: array)


_PB_UTILS = SimpleNamespace(
    get_input_tensor_by_name=lambda request, name: request[name],
    InferenceResponse=_Response,
    Tensor=_Tensor,
    TritonError=_TritonError,
    TritonModelException=type("TritonModelException", (Exception,), {}),
)
GOOD, BAD, FAULTY = 1, 2, 3
#: Several of each: what is good stands before, between and behind.
BATCH = (GOOD, BAD, GOOD, FAULTY, GOOD)


def exercise_3(execute: Callable) -> str:
    """Check a python model's execute on a batch with a bad picture and a fault of ours."""
    _run(execute, (GOOD,))
    _run(execute, (GOOD, BAD, GOOD))
    _run(execute, BATCH)
    return _("Five requests, five responses: three paintings, a 400 and a 500.")


def _paint(picture: np.ndarray) -> np.ndarray:
    if picture[0] == BAD:
        raise _BadPicture("the picture is empty; expected a JPEG, PNG or WebP")
    if picture[0] == FAULTY:
        raise _Fault("no layer of that name")
    return picture + 100


def _run(execute: Callable, batch: tuple[int, ...]) -> None:
    requests = [
        {"PICTURE": _Tensor("PICTURE", np.array([kind, place], np.uint8))}
        for place, kind in enumerate(batch)
    ]
    try:
        found = call(execute, requests, _paint, _PB_UTILS)
    except NotYet as hint:
        if isinstance(hint.__cause__, _BadPicture | _Fault):
            what = (
                _("a bad picture")
                if isinstance(hint.__cause__, _BadPicture)
                else _("a fault of ours")
            )
            raise NotYet(
                _(
                    "{what} among {requests} requests, and `execute` raised: Triton fails all "
                    "{requests} of them with a 500."
                ).format(what=what, requests=len(batch))
            ) from None
        raise
    if not isinstance(found, list) or len(found) != len(batch):
        what = (
            _("a list of {found}").format(found=len(found))
            if isinstance(found, list)
            else describe(found)
        )
        raise NotYet(
            _(
                "{requests} requests, and it returned {what}; return a list with a response for "
                "each."
            ).format(requests=len(batch), what=what)
        )
    for place, (kind, response) in enumerate(zip(batch, found, strict=True)):
        if not isinstance(response, _Response):
            raise NotYet(
                _("a response is {what}; let it be an InferenceResponse.").format(
                    what=describe(response)
                )
            )
        _check_response(kind, place, response)


def _check_response(kind: int, place: int, response: _Response) -> None:
    error = response.error
    if error is not None and not isinstance(error, _TritonError):
        raise NotYet(_("an error is {what}; let it be a TritonError.").format(what=describe(error)))
    if kind == GOOD:
        if error:
            raise NotYet(
                _("the good picture at place {place} got an error, {message!r}.").format(
                    place=place, message=error.message
                )
            )
        jpeg = response.outputs.get("JPEG")
        if jpeg is None:
            raise NotYet(
                _("the response to the good picture at place {place} has no tensor JPEG.").format(
                    place=place
                )
            )
        if not np.array_equal(jpeg.as_numpy(), [GOOD + 100, place + 100]):
            raise NotYet(
                _("the picture at place {place} got the painting of another one.").format(
                    place=place
                )
            )
    elif not error:
        raise NotYet(
            _("the request at place {place} failed, but its response has no error.").format(
                place=place
            )
        )
    elif kind == BAD and error.code != _TritonError.INVALID_ARG:
        raise NotYet(_("a bad picture got a 500, which says that it was our mistake."))
    elif kind == BAD and "the picture is empty" not in error.message:
        raise NotYet(
            _("the visitor reads {message!r}, not what is wrong with the picture.").format(
                message=error.message
            )
        )
    elif kind == FAULTY and error.code == _TritonError.INVALID_ARG:
        raise NotYet(_("a fault of ours got a 400, which says that the picture was to blame."))
