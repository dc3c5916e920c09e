"""The checks of lesson 10's exercises: right answers pass, usual mistakes get their hint."""

import random
import re
import zlib
from collections import Counter

import pytest

# 10.1


def version_for(client, percent):
    return "2" if zlib.crc32(client.encode()) % 100 < percent else "1"


def test_a_share_of_the_clients(verdict):
    assert verdict("10.1", version_for).startswith("Right!")
    assert verdict("10.1", lambda c, p: "12"[int(c[:8], 16) / 2**32 < p / 100])[:6] == "Right!"


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda c, p: "2" if random.randrange(100) < p else "1", "a client that comes back shall"),
        (lambda c, p: "2" if hash(c) % 100 < p else "1", "hash() of a text differs"),
        (lambda c, p: int(version_for(c, p)), 'returned the number 1; Triton takes the text "1"'),
        (lambda c, p: None, 'it returned None; let it return "1" or "2"'),
        (lambda c, p: "new", 'it returned "new"'),
        (lambda c, p: "1", "told 20 percent, it sends 0 of 2000 clients to version 2; expected ab"),
        (lambda c, p: version_for(c, p + 1), "told 0 percent, it sends"),
        (lambda c, p: version_for(c, 100 - p), "told 0 percent, it sends 2000 of 2000"),
        (lambda c, p: version_for(f"{c}{p}", p), "who has the new one shall keep it"),
    ],
)
def test_hints_on_a_share(verdict, answer, hint):
    assert hint in verdict("10.1", answer)


# 10.2

FAILURES, RESTARTS = "nv_inference_request_failure", "oneflow_worker_restarts_total"


def totals(text, names=(FAILURES, RESTARTS)):
    found = Counter()
    for name, labels, value in re.findall(r"^(\w+)\{(.+)\} (\S+)$", text, re.M):
        label = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        if name in names:
            found[name, label["model"], label["version"]] += float(value)
    return found


def alerts(before, after, *, names=(FAILURES, RESTARTS), restarted=lambda was, now: now < was):
    first, last = totals(before, names), totals(after, names)
    due = set()
    for key, now in last.items():
        was = 0 if restarted(first[key], now) else first[key]
        if now > was:
            due.add(key[1:])
    return due


def test_who_needs_somebody(verdict):
    assert verdict("10.2", alerts).startswith("Right!")
    assert verdict("10.2", lambda b, a: sorted(alerts(b, a))).startswith("Right!")


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda b, a: set(), "painter 2 failed; you found nothing, expected painter 2"),
        (lambda b, a: alerts("", a), "nothing happened between the two looks; you found painter 1"),
        (lambda b, a: alerts(b, a, names=(FAILURES,)), "a worker of sketcher 1 was replaced"),
        (lambda b, a: alerts(b, a, names=(RESTARTS,)), "a request of painter 2 failed"),
        (lambda b, a: alerts(b, a, restarted=lambda *_: False), "the server was started anew"),
        (lambda b, a: {key for key in alerts(b, a) if f'"{key[0]}"' in b}, "lazy was loaded in"),
        (lambda b, a: alerts(b, a) | ({("painter", "2")} - alerts(a, a) if len(a) < 900 else set()),
         "painter 2 and sketcher 1 were unloaded"),
        (lambda b, a: "painter 2", "your function returned a str; let it return a set"),
        (lambda b, a: ["painter"], 'is a str; expected pairs like ("painter", "1")'),
    ],
)  # fmt: skip
def test_hints_on_who_needs_somebody(verdict, answer, hint):
    assert hint in verdict("10.2", answer)
