"""The folded solutions of all lessons are right; the server lessons' checks, on a real Triton."""

import contextlib
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
import tritonclient.http as httpclient
from notebook_parts import LESSONS, read, solutions

from serving_kit.client import infer
from serving_kit.exercises import _slow_server, lesson_06, lesson_07, lesson_08


@pytest.fixture(scope="module")
def quick_server():
    with lesson_07.quick_server() as server:
        yield server


@pytest.fixture(scope="module")
def empty_server():
    with lesson_08.empty_server() as server:
        yield server


@pytest.fixture
def shared_servers(quick_server, empty_server, monkeypatch):
    """Let the checks take servers that run already: starting one takes seconds."""
    monkeypatch.setattr(lesson_07, "quick_server", lambda: contextlib.nullcontext(quick_server))
    monkeypatch.setattr(lesson_08, "empty_server", lambda: contextlib.nullcontext(empty_server))
    yield
    shutil.rmtree(empty_server.model_repository / _slow_server.SLOW, ignore_errors=True)


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.name)
def test_the_folded_solutions_are_right(shared_servers, verdict, path):
    """Run each solution as the learner would: in place of the exercise's function."""
    for number, answer in solutions(read(path)):
        assert verdict(number, answer).startswith("Right!")


# 06.1


def test_the_made_up_statistics_have_the_form_of_tritons(quick_server):
    (made_up,) = lesson_06.statistics(1, 1000)["model_stats"]
    with contextlib.closing(httpclient.InferenceServerClient(quick_server.url)) as client:
        (real,) = client.get_inference_statistics(lesson_07.MODEL)["model_stats"]
    assert set(made_up) <= set(real)
    for name, counted in made_up["inference_stats"].items():
        assert set(counted) == set(real["inference_stats"][name])


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


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda url, pictures: paint_all(url, pictures)[::-1], "not in the order of the pictures"),
        (lambda url, pictures: paint_all(url, pictures[:1] * 4), "has every request its own data"),
        (lambda url, pictures: paint_all(url, pictures)[:2], "it returned 2 paintings"),
        (lambda url, pictures: None, "it returned None"),
        (lambda url, pictures: ["a"] * 4, "a painting is a str"),
    ],
)
def test_hints_on_many_at_once(shared_servers, verdict, answer, hint):
    assert hint in verdict("07.2", answer)


def test_triton_may_count_a_moment_after_it_has_answered(shared_servers, verdict, monkeypatch):
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


def test_one_after_the_other_is_noticed(shared_servers, verdict):
    told = verdict("07.2", lambda url, pictures: [infer(p, url=url) for p in pictures])
    assert "every painting is right, but Triton never had two requests at once" in told


def test_an_error_among_many_at_once_is_named(shared_servers, verdict):
    told = verdict("07.2", lambda url, pictures: {}["style"])
    assert told.endswith("your function raised KeyError: 'style'")


# 08.3


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        ("dynamic_batching { }", "all 8 requests were answered, the last after 1.6 s; none"),
        ("dynamic_batching { preferred_batch_size: 9 }", "Triton cannot load this: "),
        ("sequence_batching { }", "Triton loads it, but responds: [400]"),
    ],
)
def test_hints_on_a_queue_that_refuses(shared_servers, verdict, answer, hint):
    assert hint in verdict("08.3", answer)


def test_the_made_up_statistics_of_batches_have_the_form_of_tritons(shared_servers, empty_server):
    lesson_08.load(empty_server, "")
    lesson_08.ask_at_once(empty_server.url, requests=1)
    (made_up,) = [lesson_08.statistics({1: (1, 200)}, queue_ms=0)]
    with contextlib.closing(httpclient.InferenceServerClient(empty_server.url)) as client:
        (real,) = client.get_inference_statistics(_slow_server.SLOW)["model_stats"]
    assert set(made_up) <= set(real)
    assert set(made_up["inference_stats"]) <= set(real["inference_stats"])
    assert set(made_up["batch_stats"][0]) == set(real["batch_stats"][0])
