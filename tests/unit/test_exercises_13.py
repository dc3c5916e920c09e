"""The checks of lesson 13's exercises: right answers pass, usual mistakes get their hint."""

import math

import pytest

# 13.1


def servers_needed(rate, seconds, utilization):
    return math.ceil(rate * seconds / utilization) + 1


def test_enough_servers(verdict):
    assert verdict("13.1", servers_needed).startswith("Right!")


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda r, s, u: None, "returned None; let it return one number"),
        (lambda r, s, u: servers_needed(r, s, u) - 1, "you found 8: none is to spare"),
        (lambda r, s, u: r * s / u, "there are no parts of servers, and one is to spare"),
        (lambda r, s, u: r * s / u + 1, "there are no parts of servers."),
        (lambda r, s, u: math.ceil(r * s), "the queue would grow; use the utilization"),
        (lambda r, s, u: round(r * s), "the queue would grow; use the utilization"),
        (lambda r, s, u: math.ceil(r * s) + 1, ": what about the utilization?"),
        (lambda r, s, u: math.ceil(r * s * u) + 1, "so divide by the utilization"),
        (lambda r, s, u: 1000, "compare with section 7"),
    ],
)
def test_hints_on_the_number_of_servers(verdict, answer, hint):
    assert hint in verdict("13.1", answer)


# 13.2


def grew(before, after):
    return after - before if after >= before else after


def servers_wanted(
    before, after, target, *, grew=grew, tolerance=0.1, least=2, most=6, rounded=math.ceil
):
    queue = sum(grew(b[0], a[0]) for b, a in zip(before, after, strict=True))
    compute = sum(grew(b[1], a[1]) for b, a in zip(before, after, strict=True))
    ratio = queue / compute if compute else 0
    if abs(ratio / target - 1) <= tolerance:
        return len(after)
    return min(max(rounded(len(after) * ratio / target), least), most)


def with_(**changes):
    return lambda *arguments: servers_wanted(*arguments, **changes)


def mean_of_ratios(before, after, target):
    if before[0][0]:
        return servers_wanted(before, after, target)
    ratio = sum(queue / compute for queue, compute in after) / len(after)
    return min(max(math.ceil(len(after) * ratio / target), 2), 6)


def test_servers_by_their_counters(verdict):
    assert verdict("13.2", servers_wanted).startswith("Right!")


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (with_(grew=lambda b, a: a, most=9999), "counted since the start, not from what has grown"),
        (with_(grew=lambda b, a: a - b), "the third server was started again, so it counted from"),
        (
            with_(tolerance=0),
            "the ratio is 1.05, and the target 1: expected 4 servers, you found 5",
        ),
        (with_(least=1), "two servers must stay: expected 2 servers, you found 1; never less than"),
        (with_(most=100), "you found 45; never more than 6"),
        (with_(rounded=lambda number: number), "round up, as there are no parts of servers"),
        (with_(rounded=round), "you found 5"),
        (mean_of_ratios, "that is the mean of the servers' ratios"),
        (lambda b, a, t: servers_wanted(b, a, 1), "with a target of 0.5"),
        (lambda b, a, t: 1 / 0, "your function raised ZeroDivisionError"),
    ],
)
def test_hints_on_scaling(verdict, answer, hint):
    assert hint in verdict("13.2", answer)


# 13.3


def deliver(request, is_json, servers, *, tries=2, careful=True, again=(500, 503), patient=False):
    status = 503
    for send in servers[:tries]:
        try:
            status = send(request)
        except ConnectionRefusedError:
            continue
        except ConnectionResetError:
            if is_json and careful:
                return 503
            continue
        except TimeoutError:
            if not patient:
                return 503
            continue
        if (is_json and careful) or status not in again:
            return status
    return status


def delivering(**changes):
    return lambda *arguments: deliver(*arguments, **changes)


def test_what_is_sent_again(verdict):
    assert verdict("13.3", deliver).startswith("Right!")


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda request, is_json, servers: servers[0](request), "raised ConnectionRefusedError"),
        (delivering(careful=False), "JSON ends the first server; sent again, it ends the next one"),
        (delivering(tries=9), "you tried server 1, 2, 3; expected server 1, 2."),
        (delivering(tries=1), "refuses the connection: you tried server 1; expected server 1, 2"),
        (delivering(patient=True), "may still work: you tried server 1, 2; expected server 1."),
        (delivering(again=()), "lost its process (500): you tried server 1; expected server 1, 2"),
        (delivering(again=(400, 500, 503)), "no server will like it better: you tried server 1, 2"),
        (lambda request, is_json, servers: None, "you tried server none; expected server 1"),
        (lambda *a: deliver(*a) and None, "the client gets None; expected 200"),
        (lambda *a: deliver(*a) == 200, "the client gets True; expected 200"),
    ],
)
def test_hints_on_sending_again(verdict, answer, hint):
    assert hint in verdict("13.3", answer)
