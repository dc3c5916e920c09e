"""The checks of lesson 08's exercises; the second runs answers against a real Triton."""

import contextlib
import re
import shutil
from urllib.request import urlopen

import pytest

from serving_kit.exercises import lesson_08


@pytest.fixture(scope="module")
def one_server():
    with lesson_08._empty_server() as server:
        yield server


@pytest.fixture
def quick(one_server, monkeypatch):
    """Let the check take a server that runs already: starting one takes seconds."""
    monkeypatch.setattr(lesson_08, "_empty_server", lambda: contextlib.nullcontext(one_server))
    yield
    shutil.rmtree(one_server.model_repository / lesson_08.SLOW, ignore_errors=True)


# 08.1


def totals(text, name, model):
    found = re.findall(rf'^{name}\{{model="{model}",version="(\d+)"\}} (\S+)$', text, re.M)
    return {int(version): float(number) for version, number in found}


def averages(before, after, model, versions=(1, 2)):
    """Return rows and runs of some versions between two texts."""
    return [
        sum(totals(after, name, model)[v] - totals(before, name, model)[v] for v in versions)
        for name in ("nv_inference_count", "nv_inference_exec_count")
    ]


def average_batch(before, after, model, **more):
    rows, runs = averages(before, after, model, **more)
    return rows / runs if runs else 0.0


NOTHING = lesson_08._metrics(painter=[(0, 0)], finder=[(0, 0), (0, 0)])


def test_the_average_batch(verdict):
    assert verdict("08.1", average_batch).startswith("Right!")


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (None, "this is None, but a function is asked for"),
        (lambda *_: {}["finder"], "raised KeyError: 'finder'"),
        (lambda *_: "8", "returned a str; let it return one number"),
        (lambda *_: 7, "you found 7 for 240 rows in 30 runs: expected 8."),
        (
            lambda before, after, model: average_batch(before, after, "painter", versions=(1,)),
            "that is the painter's, which comes first",
        ),
        (
            lambda before, after, model: average_batch(NOTHING, after, "painter", versions=(1,)),
            "that is the painter's since the server started",
        ),
        (lambda before, after, model: average_batch(NOTHING, after, model), "in between?"),
        (lambda *texts: average_batch(*texts, versions=(1,)), "that is version 1 alone"),
        (lambda *texts: average_batch(*texts, versions=(2,)), "that is version 2 alone"),
        (
            lambda *texts: sum(average_batch(*texts, versions=(v,)) for v in (1, 2)) / 2,
            "the average of two averages",
        ),
        (lambda *texts: 1 / average_batch(*texts), "that is runs through rows"),
        (lambda *texts: averages(*texts)[0], "in how many runs?"),
        (lambda *texts: average_batch(*texts) or 1.0, "without a run in between, let it return 0"),
    ],
)
def test_hints_on_the_average_batch(verdict, answer, hint):
    assert hint in verdict("08.1", answer)


def test_the_made_up_metrics_have_the_form_of_tritons(quick, one_server):
    lesson_08._load(one_server, "")
    real = urlopen(one_server.metrics_url).read().decode().splitlines()
    made_up = lesson_08._metrics(slow=[(0, 0)]).splitlines()
    assert [line for line in made_up if line[0] != "#"]
    for line in made_up:
        if not line.startswith("# HELP"):
            assert line in real


# 08.2


def policy(size=100, seconds=0.5, action="REJECT"):
    return f"""
    dynamic_batching {{
      default_queue_policy {{
        max_queue_size: {size}
        default_timeout_microseconds: {int(seconds * 1e6)}
        timeout_action: {action}
      }}
    }}
    """


def test_a_queue_that_refuses(verdict):
    assert re.match(r"Right! [1-7] of 8 were answered, [1-7] were told", verdict("08.2", policy()))


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        ("dynamic_batching { }", "all 8 requests were answered, the last after 1.6 s; nobody"),
        (policy(seconds=0), "nobody is refused who has waited for half a second"),
        (policy(seconds=500), "the limit of time is 500 s, expected 0.5."),
        (policy(action="DELAY"), "with DELAY, who has waited too long waits on"),
        (policy(size=0), "the time is right; as many as like may wait, expected 100."),
        (policy(size=4), "the time is right; 4 may wait, expected 100."),
        ("dynamic_batching {", "Triton cannot load this: "),
        ("max_queue_size: 100", 'has no field named "max_queue_size"'),
        ("sequence_batching { }", "Triton loads it, but answers: [400]"),
    ],
)
def test_hints_on_a_queue_that_refuses(quick, verdict, answer, hint):
    assert hint in verdict("08.2", answer)


def test_only_a_text_can_be_a_policy(verdict):
    assert verdict("08.2", policy) == (
        "Not yet: this is a function, but a text is asked for: lines of config.pbtxt."
    )
