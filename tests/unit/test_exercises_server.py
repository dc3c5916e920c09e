"""The checks of the server lessons' exercises, which run answers against a real Triton."""

import contextlib
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import pytest
import tritonclient.http as httpclient

from serving_kit.client.inference import infer
from serving_kit.exercises import lesson_06, lesson_07
from serving_kit.exercises._answers import NotYet
from serving_kit.exercises._in_time import call_in_time

NUMBERS = ["06.1", "06.2", "07.1", "07.2"]


@pytest.fixture(scope="module")
def one_server():
    with lesson_07._quick_server() as server:
        yield server


@pytest.fixture
def quick(one_server, monkeypatch):
    """Let the checks take a server that runs already: starting one takes seconds."""
    monkeypatch.setattr(lesson_07, "_quick_server", lambda: contextlib.nullcontext(one_server))


@pytest.mark.parametrize("number", NUMBERS)
def test_anything_else_than_a_function_is_told_so(verdict, number):
    assert "this is None, but a function is asked for" in verdict(number, None)


@pytest.mark.parametrize("number", NUMBERS)
def test_an_error_of_the_function_is_named(quick, verdict, number):
    def answer(*_):
        return {}["style"]

    assert verdict(number, answer) == "Not yet: your function raised KeyError: 'style'"


def test_a_function_that_does_not_return_is_left_to_itself():
    end = threading.Event()
    with pytest.raises(NotYet, match="still at work after 0 seconds"):
        call_in_time(end.wait, seconds=0.2)
    end.set()


# 06.1


def status(url, path="health/ready"):
    try:
        with urlopen(f"http://{url}/v2/{path}") as answer:
            return answer.status
    except URLError as error:
        return getattr(error, "code", 0)


def wait_until_ready(url, seconds, is_ready=lambda url: status(url) == 200):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if is_ready(url):
            return True
        time.sleep(0.1)
    return False


def test_waiting_until_ready(verdict):
    assert verdict("06.1", wait_until_ready).startswith("Right!")


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda url, seconds: urlopen(f"http://{url}/v2/health/ready"), "Connection refused"),
        (lambda url, seconds: True, "says True where nobody listens"),
        (lambda url, seconds: None, "returned None; let it return True or False"),
        (lambda url, seconds: status(url) == 200, "does it ask again after the first failure?"),
        (
            lambda url, seconds: wait_until_ready(
                url, seconds, lambda url: status(url, "health/live") == 200
            ),
            "answers 400 at /v2/health/ready",
        ),
        (
            lambda url, seconds: wait_until_ready(url, seconds, lambda url: status(url) > 0),
            "look at the status",
        ),
    ],
)
def test_hints_on_waiting(verdict, answer, hint):
    assert hint in verdict("06.1", answer)


def test_waiting_for_ever_is_told(verdict, monkeypatch):
    monkeypatch.setattr(lesson_06, "NOTICE_SECONDS", 2)
    end = threading.Event()
    told = verdict("06.1", lambda url, seconds: end.wait())
    end.set()
    assert told == "Not yet: your function is still at work after 2 seconds. It was given 1."


# 06.2


def mean_milliseconds(before, after, part="success", unit=1e6):
    first, last = (s["model_stats"][0]["inference_stats"][part] for s in (before, after))
    count = last["count"] - first["count"]
    return (last["ns"] - first["ns"]) / count / unit if count else 0.0


def test_the_mean_time_of_a_request(verdict):
    assert verdict("06.2", mean_milliseconds).startswith("Right!")


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda before, after: mean_milliseconds(lesson_06._statistics(0, 0), after), "in between"),
        (lambda before, after: 2 * mean_milliseconds(before, after), "how many were they?"),
        (lambda before, after: mean_milliseconds(before, after, unit=1), "that is nanoseconds"),
        (lambda before, after: mean_milliseconds(before, after, unit=1e9), "that is seconds"),
        (lambda before, after: mean_milliseconds(before, after, "compute_infer"), "model's part"),
        (lambda before, after: 7, "you found 7 for two requests"),
        (lambda before, after: "150", "returned a str"),
        (lambda before, after: 150, "without a request in between, let it return 0"),
    ],
)
def test_hints_on_the_mean_time(verdict, answer, hint):
    assert hint in verdict("06.2", answer)


def test_a_division_by_zero_is_named(verdict):
    def answer(before, after):
        count = lambda s: s["model_stats"][0]["inference_stats"]["success"]["count"]  # noqa: E731
        return mean_milliseconds(before, after) + 0 / (count(after) - count(before))

    assert "ZeroDivisionError" in verdict("06.2", answer)


def test_the_made_up_statistics_have_the_form_of_tritons(one_server):
    (made_up,) = lesson_06._statistics(1, 1000)["model_stats"]
    with contextlib.closing(httpclient.InferenceServerClient(one_server.url)) as client:
        (real,) = client.get_inference_statistics(lesson_07.MODEL)["model_stats"]
    assert set(made_up) <= set(real)
    for name, counted in made_up["inference_stats"].items():
        assert set(counted) == set(real["inference_stats"][name])


# 07.1


def read_output(headers, body, name, dtype=np.float32, skip=True, shaped=True, only_it=True):
    start = int(headers["Inference-Header-Content-Length"])
    for output in json.loads(body[:start])["outputs"]:
        size = output["parameters"]["binary_data_size"]
        if output["name"] == name:
            end = start + size if only_it else None
            array = np.frombuffer(body[start:end], dtype)
            return array.reshape(output["shape"]) if shaped else array
        start += size if skip else 0
    return None


def test_reading_a_binary_answer(verdict):
    assert verdict("07.1", read_output).startswith("Right!")


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda headers, body, name: np.frombuffer(body, np.float32), "raised ValueError"),
        (lambda headers, body, name: None, "returned None; let it return a NumPy array"),
        (lambda *a: read_output(*a, dtype=np.int32), "came out as int32"),
        (lambda *a: read_output(*a, shaped=False), "OUTPUT_0 has the shape (12,)"),
        (lambda *a: read_output(*a, shaped=False, only_it=False), "it gave both outputs"),
        (lambda h, b, name: read_output(h, b, "OUTPUT_0"), "asked for OUTPUT_1, it gave the other"),
        (lambda *a: read_output(*a, skip=False), "where do they begin?"),
        (lambda *a: read_output(*a) + 1, "other numbers than Triton sent"),
    ],
)
def test_hints_on_reading_a_binary_answer(quick, verdict, answer, hint):
    assert hint in verdict("07.1", answer)


# 07.2


def paint_all(url, pictures):
    with ThreadPoolExecutor(len(pictures)) as pool:
        return list(pool.map(lambda picture: infer(picture, url=url), pictures))


def paint_all_async(url, pictures):
    client = httpclient.InferenceServerClient(url, concurrency=len(pictures))
    requests = []
    for picture in pictures:
        tensor = httpclient.InferInput("INPUT_0", picture.shape, "FP32")
        tensor.set_data_from_numpy(picture)
        requests.append(client.async_infer("fast_neural_style", [tensor]))
    answers = [request.get_result().as_numpy("OUTPUT_0") for request in requests]
    client.close()
    return answers


@pytest.mark.parametrize("answer", [paint_all, paint_all_async])
def test_many_at_once(verdict, answer):
    told = verdict("07.2", answer)
    assert told.startswith("Right! Triton had ")


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda url, pictures: paint_all(url, pictures)[::-1], "not in the order of the pictures"),
        (lambda url, pictures: paint_all(url, pictures[:1] * 4), "does every request have its own"),
        (lambda url, pictures: paint_all(url, pictures)[:2], "it returned 2 answers"),
        (lambda url, pictures: None, "it returned None"),
        (lambda url, pictures: ["a"] * 4, "an answer is a str"),
    ],
)
def test_hints_on_many_at_once(quick, verdict, answer, hint):
    assert hint in verdict("07.2", answer)


def test_triton_may_count_a_moment_after_it_has_answered(quick, verdict, monkeypatch):
    real = httpclient.InferenceServerClient.get_inference_statistics
    looks = []

    def late(client, model):
        found = real(client, model)
        if len(looks) < 2:
            found["model_stats"][0]["batch_stats"] = []
        looks.append(found)
        return found

    monkeypatch.setattr(httpclient.InferenceServerClient, "get_inference_statistics", late)
    assert verdict("07.2", paint_all_async).startswith("Right! Triton had ")
    assert len(looks) == 3


def test_one_after_the_other_is_noticed(verdict):
    told = verdict("07.2", lambda url, pictures: [infer(p, url=url) for p in pictures])
    assert "every answer is right, but Triton never had two requests at once" in told
