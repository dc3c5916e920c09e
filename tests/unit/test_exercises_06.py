"""The checks of lesson 06's exercises: right answers pass, wrong ones are told why."""

import threading
import time
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from serving_kit.exercises import lesson_06
from serving_kit.exercises._answers import NotYet
from serving_kit.exercises._in_time import call_in_time


def test_a_function_that_does_not_return_is_left_to_itself():
    end = threading.Event()
    with pytest.raises(NotYet, match="still at work after 0 seconds"):
        call_in_time(end.wait, seconds=0.2)
    end.set()


# 06.1


def mean_milliseconds(before, after, part="success", unit=1e6):
    first, last = (s["model_stats"][0]["inference_stats"][part] for s in (before, after))
    count = last["count"] - first["count"]
    return (last["ns"] - first["ns"]) / count / unit if count else 0.0


def test_the_mean_time_of_a_request(verdict):
    assert verdict("06.1", mean_milliseconds).startswith("Right!")


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda before, after: mean_milliseconds(lesson_06.statistics(0, 0), after), "in between"),
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
    assert hint in verdict("06.1", answer)


def test_a_division_by_zero_is_named(verdict):
    def answer(before, after):
        count = lambda s: s["model_stats"][0]["inference_stats"]["success"]["count"]  # noqa: E731
        return mean_milliseconds(before, after) + 0 / (count(after) - count(before))

    assert "ZeroDivisionError" in verdict("06.1", answer)


# 06.2


def first_aid(live, ready, model, probe):
    if live != 200:
        return "restart"
    return "nothing" if probe == 200 else "load"


def test_first_aid(verdict):
    assert verdict("06.2", first_aid).startswith("Right! ")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda *_: "restart", "returned 'restart'; expected \"nothing\": all is well"),
        (lambda *_: "nothing", 'expected "restart": the server does not respond at all'),
        (lambda live, *_: "nothing" if live else "restart", 'expected "load": the model was'),
        (
            lambda live, ready, *rest: "restart" if ready != 200 else "nothing",
            "another model is broken",
        ),
        (
            lambda live, ready, model, probe: first_aid(live, ready, model, model),
            "the process that serves the model died, which only the probe sees",
        ),
        (
            lambda live, ready, model, probe: (
                "restart" if ready == model == 400 else first_aid(live, ready, model, probe)
            ),
            "a server that has to load a broken model does not even start",
        ),
        (lambda *_: None, "your function returned None; expected"),
    ],
)
def test_first_aid_that_harms(verdict, answer, told):
    assert told in verdict("06.2", answer)


# 06.3


def is_ready(url, seconds=None, path="health/ready"):
    with urlopen(f"http://{url}/v2/{path}", timeout=seconds):
        return True


def wait_until_ready(url, seconds, ask=is_ready, caught=OSError):
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        try:
            return ask(url, left)
        except caught:
            time.sleep(0.05)
    return False


def endless(url, left):
    return is_ready(url)


def once(url, seconds):
    try:
        return is_ready(url, seconds)
    except OSError:
        return False


def any_response(url, seconds):
    try:
        return is_ready(url, seconds)
    except URLError as error:
        return hasattr(error, "code")
    except OSError:
        return False


def test_waiting_for_a_server(verdict):
    began = time.monotonic()
    told = verdict("06.3", wait_until_ready)
    assert (
        told
        == "Right! It waits for a server that comes, and for no other longer than it was told to."
    )
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (is_ready, "Connection refused>"),
        (lambda url, seconds: True, "nobody listens, and your function says True"),
        (lambda url, seconds: None, "returned None; let it return True or False"),
        (
            lambda url, seconds: wait_until_ready(url, seconds, caught=(URLError, TimeoutError)),
            "without response (here, a server closes the connection without a response)",
        ),
        (
            lambda url, seconds: wait_until_ready(
                url, seconds, lambda url, left: is_ready(url, left, "health/live")
            ),
            "is live but responds with 400 at /v2/health/ready, and your function says True",
        ),
        (any_response, "responds with 400 at /v2/health/ready, and your function says True"),
        (once, "does it ask again after the first failure?"),
    ],
)
def test_waiting_in_a_wrong_way(verdict, answer, told):
    assert told in verdict("06.3", answer)


def test_a_request_without_a_timeout_is_noticed(verdict, monkeypatch):
    monkeypatch.setattr(lesson_06, "NOTICE_SECONDS", 0.3)
    told = verdict("06.3", lambda url, seconds: wait_until_ready(url, seconds, endless))
    assert told.startswith("Not yet: a server accepts the connection and says nothing: ")
    assert told.endswith("It was given 0.2; how long may each single attempt take?")


def test_waiting_for_ever_is_noticed(verdict, monkeypatch):
    monkeypatch.setattr(lesson_06, "NOTICE_SECONDS", 0.1)
    end = threading.Event()
    told = verdict("06.3", lambda url, seconds: end.wait())
    end.set()
    assert told.startswith("Not yet: nobody listens: your function is still at work after 0 sec")
