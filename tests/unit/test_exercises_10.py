"""The checks of lesson 10's exercises: right answers pass, usual mistakes get their feedback."""

import random
import zlib

import pytest
from tritonclient.utils import InferenceServerException

# 10.1


def policy(text):
    return f"version_policy {{ {text} }}"


def test_a_policy_that_serves_two_versions(verdict):
    assert verdict("10.1", policy("specific { versions: [ 2, 4 ] }")).startswith("Right!")
    assert verdict("10.1", policy("specific { versions: [ 4, 2 ] }")).startswith("Right!")


@pytest.mark.parametrize(
    ("answer", "feedback"),
    [
        ("", "there is no version_policy in it, so Triton serves version 4 alone"),
        (policy("latest { }"), "this serves version 4: clients that name version 2 get an error"),
        (policy("latest { num_versions: 2 }"), "this serves version 3 and 4: version 3 was a mis"),
        (policy("all { }"), "this serves version 1 and 2 and 3 and 4: version 3 was a mistake"),
        (policy("specific { versions: [ 1, 2, 4 ] }"), "version 1 is not needed any more"),
        (policy("specific { versions: [ 1, 2 ] }"), "clients that name no version get an old one"),
        (policy("specific { }"), "this serves nothing: clients that name version 2 get an error"),
        (policy("specific { versions: [ 2, 5 ] }"), "there is no version 5; Triton would refuse"),
        ("version_policy {", "Triton could not read this in line 1: "),
    ],
)
def test_feedback_on_a_policy(verdict, answer, feedback):
    assert feedback in verdict("10.1", answer)


# 10.2


def version_for(client, percent):
    return "2" if zlib.crc32(client.encode()) % 100 < percent else "1"


def test_a_share_of_the_clients(verdict):
    assert verdict("10.2", version_for).startswith("Right!")
    assert verdict("10.2", lambda c, p: "12"[int(c[:8], 16) / 2**32 < p / 100])[:6] == "Right!"


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda c, p: "2" if random.randrange(100) < p else "1", "a client that comes back has to"),
        (lambda c, p: "2" if hash(c) % 100 < p else "1", "hash() of a text differs"),
        (lambda c, p: int(version_for(c, p)), 'returned the number 1; Triton takes the text "1"'),
        (lambda c, p: None, 'it returned None; let it return "1" or "2"'),
        (lambda c, p: "new", 'it returned "new"'),
        (lambda c, p: "1", "told 20 percent, it sends 0 of 2000 clients to version 2; expected ab"),
        (lambda c, p: version_for(c, p + 1), "told 0 percent, it sends"),
        (lambda c, p: version_for(c, 100 - p), "told 0 percent, it sends 2000 of 2000"),
        (lambda c, p: version_for(f"{c}{p}", p), "a client that has the new one keeps it"),
    ],
)
def test_feedback_on_a_share(verdict, answer, hint):
    assert hint in verdict("10.2", answer)


# 10.3


def differences(model, versions):
    """Wait, and return by how much each version's counters grew."""
    first = {version: model.count(version) for version in versions}
    model.wait()
    return {
        version: [after - before for after, before in zip(model.count(version), old, strict=True)]
        for version, old in first.items()
    }


def totals(model, versions):
    model.wait()
    return {version: model.count(version) for version in versions}


def roll_out(model, old, new, *, look=differences, is_bad=None, last=True):
    try:
        model.serve(old, new)
    except InferenceServerException:
        return old
    grew = look(model, (old, new))
    mean = {version: seconds / requests for version, (requests, _, seconds) in grew.items()}
    bad = grew[new][1] > 0 or mean[new] > 2 * mean[old] if is_bad is None else is_bad(grew, mean)
    kept = old if bad else new
    if last:
        model.serve(kept)
    return kept


def instead(model, old, new):
    model.serve(new)
    model.wait()
    return old if model.count(new)[1] else new


def test_a_roll_out(verdict):
    assert verdict("10.3", roll_out).startswith("Right!")


@pytest.mark.parametrize(
    ("answer", "feedback"),
    [
        (instead, "version 1 was taken away before clients had tried version 2; serve both until"),
        (lambda m, *v: m.serve(), "no version was served"),
        (lambda m, old, new: m.serve(old, new) or new, "decides before any client has used"),
        (lambda m, *v: m.serve(1, 2), "InferenceServerException: there is no version 1"),
        (lambda m, *v: m.count(v[1]), "version 2 has no counters: it is not served"),
        (lambda *a: roll_out(*a, last=False), "returned version 2, but served at the end is 1 and"),
        (lambda *a: roll_out(*a) and None, 'it returned None; let it return "1" or "2"'),
        (lambda *a: roll_out(*a) and "new", 'it returned "new"; let it return'),
        (
            lambda *a: roll_out(*a, is_bad=lambda grew, mean: mean["2"] > 2 * mean["1"]),
            "3 of 50 requests to the new version fail, and it keeps version 2; expected 1",
        ),
        (
            lambda *a: roll_out(*a, is_bad=lambda grew, mean: grew["2"][1] > 0),
            "three times as long as the old one does now, and it keeps version 2",
        ),
        (
            lambda *a: roll_out(
                *a, is_bad=lambda g, mean: g["2"][1] or mean["2"] > mean["1"] * 1.5
            ),
            "takes 1.8 times as long as the old one, and it keeps version 1; expected 2",
        ),
        (lambda *a: roll_out(*a, look=totals), "three times as long as the old one does now"),
        (
            lambda m, old, new: m.serve(old, new) or roll_out(m, old, new),
            "InferenceServerException: version 2 is at UNAVAILABLE state",
        ),
    ],
)
def test_feedback_on_a_roll_out(verdict, answer, feedback):
    assert feedback in verdict("10.3", answer)


def test_a_slow_warm_up_does_not_count(verdict):
    def answer(model, old, new):
        def look(model, versions):
            grew = differences(model, versions)
            return grew | {new: model.count(new)}

        return roll_out(model, old, new, look=look)

    assert "only the warm-up of the new version was slow" in verdict("10.3", answer)
