"""The checks of lesson 07's exercises and quiz that need no server."""

import random
import time

import numpy as np
import pytest
import tritonclient.http as httpclient
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from serving_kit.exercises import _retries, lesson_07

# 07.1


def make_inputs(arrays, kind=np_to_triton_dtype, shape=np.shape, filled=True, binary=True):
    inputs = []
    for name, array in arrays.items():
        tensor = httpclient.InferInput(name, list(shape(array)), kind(array.dtype))
        if filled:
            tensor.set_data_from_numpy(array, binary_data=binary)
        inputs.append(tensor)
    return inputs


@pytest.mark.parametrize("binary", [True, False])
def test_inputs_for_any_model(verdict, binary):
    assert verdict("07.1", lambda arrays: make_inputs(arrays, binary=binary)).startswith("Right!")


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda arrays: make_inputs(arrays, filled=False), "no numbers in it yet"),
        (
            lambda arrays: make_inputs(arrays, lambda dtype: "FP32", filled=False),
            "no numbers in it yet",
        ),
        (
            lambda arrays: make_inputs({n: a.astype(np.float32) for n, a in arrays.items()}),
            "INPUT_1 is sent as FP32, but the array is int64",
        ),
        (lambda arrays: make_inputs(arrays, lambda dtype: "FP32"), "got unexpected datatype INT64"),
        (
            lambda arrays: make_inputs({n: a[None] for n, a in arrays.items()}),
            "INPUT_0 has the shape [1, 2, 3]; the array has [2, 3]",
        ),
        (
            lambda arrays: make_inputs({n: a[::-1].copy() for n, a in arrays.items()}),
            "INPUT_0 holds other numbers",
        ),
        (lambda arrays: make_inputs(arrays)[:2], "its inputs are INPUT_0, INPUT_1; expected"),
        (lambda arrays: make_inputs(arrays) * 2, "each once"),
        (lambda arrays: list(arrays), "the list has a str in it"),
        (lambda arrays: None, "returned None"),
    ],
)
def test_hints_on_inputs(verdict, answer, hint):
    assert hint in verdict("07.1", answer)


# 07.3


def doubling(attempt):
    return random.uniform(0, min(2.0, 0.1 * 2**attempt))


def retry_within(
    send,
    seconds,
    sleep,
    clock,
    *,
    pause=doubling,
    passing=("500", "502", "503", "504"),
    ends=lambda now, pause, end: now + pause > end,
):
    began, attempt = clock(), 0
    while True:
        try:
            return send()
        except (InferenceServerException, OSError) as error:
            wait = pause(attempt)
            may_succeed = isinstance(error, OSError) or error.status() in passing
            if not may_succeed or ends(clock(), wait, began + seconds):
                raise
        sleep(wait)
        attempt += 1


def test_a_patient_client(verdict):
    assert verdict("07.3", retry_within).startswith("Right!")


def keeps_asking(send, seconds, sleep, clock):
    while True:
        try:
            return send()
        except Exception:
            sleep(1)


def swallows(send, seconds, sleep, clock):
    try:
        return retry_within(send, seconds, sleep, clock)
    except (InferenceServerException, OSError):
        return None


def swallows_the_last(send, seconds, sleep, clock):
    try:
        return retry_within(send, seconds, sleep, clock)
    except OSError:
        return None


def raises_the_first(send, seconds, sleep, clock):
    errors = []

    def noting():
        try:
            return send()
        except Exception as error:
            errors.append(error)
            raise

    try:
        return retry_within(noting, seconds, sleep, clock)
    except Exception:
        raise errors[0] from None


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda send, *_: send() and None, "it returned None; let it return what send() returned"),
        (lambda send, *_: [send(), send()][0], "the first attempt succeeded, and yet it went on"),
        (keeps_asking, "an error that will come again ([400] unexpected shape"),
        (swallows, "was swallowed; raise it"),
        (swallows_the_last, "the server never came back, and it returned None"),
        (raises_the_first, "it raised an earlier error"),
        (lambda send, *_: send(), "away for 3 of 10 seconds ([Errno 111] Connection refused)"),
        (
            lambda *a: retry_within(*a, passing=()),
            "away for 3 of 10 seconds ([503] the server is overloaded)",
        ),
        (
            lambda *a: retry_within(*a, pause=lambda attempt: 0.001),
            "are a flood; make the pauses longer",
        ),
        (
            lambda *a: retry_within(*a, pause=lambda attempt: 1, ends=lambda *_: False),
            "300 attempts in 306.0 s; it was given 10. What does `clock` say?",
        ),
        (
            lambda *a: retry_within(
                *a, pause=lambda attempt: 0.3 + 2**attempt, ends=lambda now, _, end: now > end
            ),
            "its last attempt began after",
        ),
        (
            lambda *a: retry_within(*a, pause=lambda attempt: min(2.0, 0.1 * 2**attempt)),
            "its first pause is always 0.1 s",
        ),
        (
            lambda *a: retry_within(*a, pause=lambda attempt: random.uniform(0.1, 0.5)),
            "its pauses do not grow",
        ),
        (
            lambda *a: retry_within(
                *a, ends=lambda now, pause, end: now + pause > end - 6.9, pause=lambda n: 0.25
            ),
            "gave up after",
        ),
        (lambda *a: retry_within(*a, pause=lambda n: random.uniform(5, 6)), "1 pauses in 10 s"),
    ],
)
def test_hints_on_patience(verdict, answer, hint):
    assert hint in verdict("07.3", answer)


def test_another_clock_than_the_one_given_is_told(verdict, monkeypatch):
    monkeypatch.setattr(_retries, "MAX_REAL_SECONDS", 0.05)

    def impatient(send, seconds, sleep, clock):
        return retry_within(send, seconds, lambda pause: time.sleep(pause / 100), clock)

    assert "without a pause: call the `sleep` that it is given" in verdict("07.3", impatient)


def test_a_pause_in_vain_is_told(verdict):
    def too_late(send, seconds, sleep, clock):
        end = clock() + seconds
        attempt = 0
        while True:
            try:
                return send()
            except (InferenceServerException, OSError) as error:
                if not isinstance(error, OSError) and error.status() != "503":
                    raise
                sleep(doubling(attempt))
                attempt += 1
                if clock() > end:
                    raise

    assert "it made its last pause in vain" in verdict("07.3", too_late)


# The quiz


def test_the_quiz(verdict):
    assert len(lesson_07.QUIZ_KEY) == len(lesson_07.QUIZ_WHY) == 8
    assert verdict("07.quiz", lesson_07.QUIZ_KEY) == "Right! All 8 of them."


def test_the_quiz_s_sentences_belong_to_their_questions(capsys):
    from serving_kit import exercises

    exercises.check("07.quiz", "a" * 8)
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "07.quiz  Not yet: 2 of 8 are right."
    assert "question 6: an HTTP client belongs to one thread (lesson 07, section 6)." in told
