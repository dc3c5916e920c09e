"""Lesson 10, roll out a new version: choosing who meets it first, and noticing that it fails."""

import hashlib
import itertools
import re
from collections.abc import Callable, Iterable

from serving_kit.exercises._answers import NotYet, call, describe

OLD, NEW = "1", "2"
CLIENTS = 2000
PERCENTAGES = (0, 5, 20, 50, 100)
#: With a fair choice, the share of 2,000 clients strays by 1 of 100; this is five times as much.
TOLERANCE = 5

FAILURES, RESTARTS = "nv_inference_request_failure", "oneflow_worker_restarts_total"
REASONS = ("OTHER", "BACKEND", "CANCELED", "REJECTED")
_SERIES = re.compile(r"^(\w+)\{(.+)\} (\S+)$", re.M)
_LABEL = re.compile(r'(\w+)="([^"]*)"')

#: What Triton counted, as (model, version): (failures, restarts). ``lazy`` was loaded later.
BEFORE = {("painter", "1"): (3, 2), ("painter", "2"): (0, 0), ("sketcher", "1"): (5, 7)}


def exercise_1(version_for: Callable) -> str:
    """Check a function that sends a share of the clients to the new version."""
    names = [hashlib.sha256(str(i).encode()).hexdigest()[:12] for i in range(CLIENTS)]
    chosen = {}
    for percent in PERCENTAGES:
        versions = [call(version_for, name, percent) for name in names]
        _check_versions(versions)
        if versions != [call(version_for, name, percent) for name in names]:
            raise NotYet(
                "asked again, some clients get another version; a client that comes back shall "
                "find what it found before, so take the choice from its name, not from chance."
            )
        chosen[percent] = {
            name for name, version in zip(names, versions, strict=True) if version == NEW
        }
    if "hash" in getattr(getattr(version_for, "__code__", None), "co_names", ()):
        raise NotYet(
            "hash() of a text differs from one Python process to the next, and clients are served "
            "by many; zlib.crc32 and hashlib do not."
        )
    _check_shares(chosen)
    return "The same clients, in every process, and nobody is moved back as the share grows."


def _check_versions(versions: list) -> None:
    for version in versions:
        if version in (1, 2):
            raise NotYet(f'it returned the number {version}; Triton takes the text "{version}".')
        if version not in (OLD, NEW):
            what = f'"{version}"' if isinstance(version, str) else describe(version)
            raise NotYet(f'it returned {what}; let it return "{OLD}" or "{NEW}".')


def _check_shares(chosen: dict[int, set]) -> None:
    for percent, names in chosen.items():
        share = 100 * len(names) / CLIENTS
        wrong_end = percent in (0, 100) and share != percent
        if wrong_end or abs(share - percent) > TOLERANCE:
            about = "about " if 0 < percent < 100 else ""
            raise NotYet(
                f"told {percent} percent, it sends {len(names)} of {CLIENTS} clients to version "
                f"{NEW}; expected {about}{percent * CLIENTS // 100}."
            )
    for fewer, more in itertools.pairwise(PERCENTAGES):
        if back := len(chosen[fewer] - chosen[more]):
            raise NotYet(
                f"when {fewer} percent become {more}, {back} clients go back to version {OLD}; "
                "who has the new one shall keep it."
            )


def exercise_2(alerts: Callable) -> str:
    """Check a function that finds, in two looks at the metrics, which versions need somebody."""
    for after, due, hint in _trials():
        found = _pairs(call(alerts, metrics_text(BEFORE), metrics_text(after)))
        if found != due:
            raise NotYet(f"{hint}; you found {_listed(found)}, expected {_listed(due)}.")
    return "It looks at what grew, whoever came, went or started anew in between."


def _trials() -> Iterable[tuple[dict, set, str]]:
    """Return what was counted at the second look, who is due, and what the trial is about."""
    yield BEFORE, set(), "nothing happened between the two looks"
    failed = BEFORE | {("painter", "2"): (1, 0)}
    yield failed, {("painter", "2")}, "a request of painter 2 failed"
    restarted = BEFORE | {("sketcher", "1"): (5, 8)}
    yield restarted, {("sketcher", "1")}, "a worker of sketcher 1 was replaced, no request failed"
    came = BEFORE | {("lazy", "1"): (2, 0), ("lazy", "2"): (0, 0)}
    yield came, {("lazy", "1")}, "lazy was loaded in between, and two requests to version 1 failed"
    went = {("painter", "1"): (3, 2)}
    yield went, set(), "painter 2 and sketcher 1 were unloaded"
    anew = {("painter", "1"): (1, 0), ("painter", "2"): (0, 0), ("sketcher", "1"): (0, 0)}
    yield anew, {("painter", "1")}, "the server was started anew, so its counters began at 0"


def _pairs(found: object) -> set[tuple[str, str]]:
    if not isinstance(found, list | tuple | set | frozenset):
        raise NotYet(
            f"your function returned {describe(found)}; let it return a set of (model, version)."
        )
    for pair in found:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise NotYet(
                f'among what it returned is {describe(pair)}; expected pairs like ("painter", "1").'
            )
    return {(str(model), str(version)) for model, version in found}


def _listed(pairs: set[tuple[str, str]]) -> str:
    return ", ".join(" ".join(pair) for pair in sorted(pairs)) or "nothing"


def metrics_text(counted: dict[tuple[str, str], tuple[int, int]] | None = None) -> str:
    """Return metrics in the form of Triton's, for (model, version): (failures, restarts)."""
    counted = BEFORE if counted is None else counted
    lines = [f"# HELP {FAILURES} Number of failed inference requests", f"# TYPE {FAILURES} counter"]
    for (model, version), (failures, _) in counted.items():
        for i, reason in enumerate(REASONS):  # all of one kind, but for the first failure
            number = (min(failures, 1), max(failures - 1, 0), 0, 0)[i]
            labels = f'model="{model}",reason="{reason}",version="{version}"'
            lines.append(f"{FAILURES}{{{labels}}} {number}")
    lines += [f"# HELP {RESTARTS} OneFlow processes that died", f"# TYPE {RESTARTS} counter"]
    for (model, version), (_, restarts) in counted.items():
        lines.append(f'{RESTARTS}{{model="{model}",version="{version}"}} {restarts}')
    return "\n".join(lines) + "\n"


def series(text: str) -> dict[tuple[str, tuple], float]:
    """Return the value of each series in a text of metrics, by name and labels."""
    return {
        (name, tuple(_LABEL.findall(labels))): float(value)
        for name, labels, value in _SERIES.findall(text)
    }
