"""The checks of lesson 09's exercises: right answers pass, wrong ones get a sentence that helps."""

import math

import pytest

from serving_kit.paths import MODEL_REPOSITORY

WEIGHTS = """
input [
  {
    name: "WEIGHTS"
    data_type: TYPE_FP32
    dims: [ 1, 26 ]
  }
]
"""
CONFIG = (
    (MODEL_REPOSITORY / "stylize_jpeg" / "config.pbtxt")
    .read_text()
    .replace("stylize_jpeg", "blend_jpeg")
    .replace("fast_neural_style", "multi_style")
    .replace(
        'value: "image" }\n      output_map { key: "OUTPUT_0"',
        'value: "image" }\n      input_map { key: "INPUT_1" value: "WEIGHTS" }\n'
        '      output_map { key: "OUTPUT_0"',
    )
) + WEIGHTS


# 09.1


def instances(milliseconds, per_second, rounded=math.ceil, scale=1000):
    return {step: rounded(per_second * ms / scale) for step, ms in milliseconds.items()}


def test_instances(verdict):
    assert verdict("09.1", instances).startswith("Right!")


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda ms, n: dict.fromkeys(ms, 1), "of 90 ms each, fast_neural_style gets 1, which can"),
        (lambda ms, n: instances(ms, n, math.floor), "preprocess gets 0: nothing would be done"),
        (
            lambda ms, n: instances(ms, n, lambda x: max(1, math.floor(x))),
            "fast_neural_style gets 2, which can do 22.2 a second: the queue grows forever",
        ),
        (
            lambda ms, n: dict.fromkeys(ms, math.ceil(n * max(ms.values()) / 1000)),
            "preprocess gets 6; 1 can keep up",
        ),
        (lambda ms, n: instances(ms, n, scale=1), "preprocess gets 100; 1 can keep up"),
        (lambda ms, n: instances(ms, n, float), "gets 0.1; instances come in whole numbers"),
        (lambda ms, n: list(instances(ms, n).values()), "it returned a list; expected a dict"),
        (lambda ms, n: {"preprocess": 1}, "it returned ['preprocess']; expected a dict"),
    ],
)
def test_hints_on_instances(verdict, answer, hint):
    assert hint in verdict("09.1", answer)


# 09.2


def test_an_ensemble_for_blends(verdict):
    assert verdict("09.2", CONFIG).startswith("Right!")
    assert verdict("09.2", CONFIG.replace("[ 1, 26 ]", "[ 26 ]")).startswith("Right!")
    without_name = CONFIG.replace('name: "blend_jpeg"\n', "")
    assert verdict("09.2", without_name).startswith("Right!")


@pytest.mark.parametrize(
    ("right", "wrong", "hint"),
    [
        ("multi_style", "fast_neural_style", "its steps are preprocess, fast_neural_style, postp"),
        (WEIGHTS, "", "its input is PICTURE; expected PICTURE and WEIGHTS"),
        ('name: "JPEG"', 'name: "PAINTED"', "its output is PAINTED; expected JPEG"),
        ("[ 1, 26 ]", "[ 1, 25 ]", 'make check would say: the tensor "WEIGHTS" is'),
        ('key: "INPUT_1"', 'key: "INPUT_2"', 'multi_style has no input "INPUT_2"'),
        ('key: "INPUT_1" value: "WEIGHTS"', 'key: "INPUT_1" value: "image"', "make check would"),
        ('{ key: "IMAGE" value: "painted"', '{ key: "IMAGE" value: "pained"', '"pained"'),
        ("ensemble_scheduling {", "ensemble_scheduling", "Triton cannot read it: config.pbtxt:"),
    ],
)  # fmt: skip
def test_hints_on_the_ensemble(verdict, right, wrong, hint):
    assert right in CONFIG
    told = verdict("09.2", CONFIG.replace(right, wrong))
    assert told.startswith("Not yet: ") and hint in told


# 09.3


def execute(requests, paint, pb_utils, *, bad=ValueError, code="INVALID_ARG", name="JPEG"):
    responses = []
    for request in requests:
        picture = pb_utils.get_input_tensor_by_name(request, "PICTURE").as_numpy()
        try:
            outputs, error = [pb_utils.Tensor(name, paint(picture))], None
        except bad as mistake:
            kind = getattr(pb_utils.TritonError, code)
            outputs, error = [], pb_utils.TritonError(str(mistake), kind)
        except RuntimeError as fault:
            outputs, error = [], pb_utils.TritonError(repr(fault))
        responses.append(pb_utils.InferenceResponse(outputs, error))
    return responses


def test_one_response_for_each_request(verdict):
    assert verdict("09.3", execute).startswith("Right!")


def skips_the_bad(requests, paint, pb_utils):
    return [r for r in execute(requests, paint, pb_utils) if not r.error]


def says_only_that_it_failed(requests, paint, pb_utils):
    def quiet(picture):
        try:
            return paint(picture)
        except ValueError:
            raise ValueError("bad picture") from None

    return execute(requests, quiet, pb_utils)


def has_no_error(requests, paint, pb_utils):
    return [
        pb_utils.InferenceResponse(r.outputs.values())
        for r in execute(*[requests, paint, pb_utils])
    ]


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (
            lambda *a: execute(*a, bad=()),
            "a bad picture among 3 requests, and `execute` raised: Triton fails all 3 of them",
        ),
        (lambda *a: execute(*a, bad=Exception), "a fault of ours got a 400"),
        (lambda *a: execute(*a, code="INTERNAL"), "a bad picture got a 500"),
        (lambda *a: execute(*a, name="PAINTED"), "place 0 has no tensor JPEG"),
        (lambda *a: execute(*a)[::-1], "the picture at place 0 got the painting of another one"),
        (lambda *a: execute(*a)[:1], "3 requests, and it returned a list of 1;"),
        (skips_the_bad, "3 requests, and it returned a list of 2;"),
        (says_only_that_it_failed, "the visitor reads 'bad picture'"),
        (has_no_error, "the request at place 1 failed, but its response has no error"),
        (lambda *a: None, "it returned None; return a list with"),
        (lambda *a: ["JPEG"], "a response is a str"),
        (
            lambda requests, paint, pb: [pb.InferenceResponse([], "bad") for _ in requests],
            "an error is a str; let it be a TritonError",
        ),
        (
            lambda requests, paint, pb: [
                pb.InferenceResponse([], pb.TritonError("no")) for _ in requests
            ],
            "the good picture at place 0 got an error, 'no'",
        ),
    ],
)
def test_hints_on_a_batch(verdict, answer, hint):
    assert hint in verdict("09.3", answer)


def test_a_fault_of_ours_that_spoils_the_batch_is_told(verdict):
    def forgets_faults(requests, paint, pb_utils):
        def passing(picture):
            try:
                return paint(picture)
            except RuntimeError as fault:
                raise KeyboardInterrupt from fault

        try:
            return execute(requests, passing, pb_utils)
        except KeyboardInterrupt as interrupt:
            raise interrupt.__cause__ from None

    told = verdict("09.3", forgets_faults)
    assert "a fault of ours among 5 requests, and `execute` raised" in told
