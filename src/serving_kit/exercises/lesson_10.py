"""Lesson 10, roll out a new version: a version policy, canaries, and a roll-out by program."""

import hashlib
import itertools
from collections.abc import Callable

from serving_kit.errors import ConfigError
from serving_kit.exercises._answers import NotYet, call, describe
from serving_kit.exercises._rollout import NEW, OLD, Model, trials
from serving_kit.repository.config import CONFIG
from serving_kit.repository.config_text import parse_config

#: Versions in the folder, and those that are to be served.
IN_FOLDER, WANTED = (1, 2, 3, 4), {2, 4}
CLIENTS = 2000
PERCENTAGES = (0, 5, 20, 50, 100)
#: With a fair choice, the share of 2,000 clients strays by 1 of 100; this is five times as much.
TOLERANCE = 5

HINTS = {
    1: (
        "Which versions are to be served in the end? Do the clients that name none need a line of "
        "their own?",
        "Two versions that are not the latest two: one of the three kinds of policy lists them.",
        "version_policy { specific { versions: [ ..., ... ] } }",
    ),
    2: (
        "Turn the client's name into a number that is always the same for it.",
        "zlib.crc32(client.encode()) % 100 gives each client a fixed place between 0 and 99.",
        "The new version is for the places below percent. As percent grows, places are added, and "
        "none is lost.",
    ),
    3: (
        "Until you have decided, both versions are served; and the counters of the old one have "
        "grown since long before.",
        "Look at both versions' counters before and after model.wait(), and compare differences. "
        "A version that cannot be loaded raises an error: then the old one stays.",
        "mean = seconds / requests, both as differences; go back if failures grew or mean(new) > "
        "2 * mean(old). At the end model.serve(kept) and return kept.",
    ),
}


def exercise_1(policy: str) -> str:
    """Check the lines of config.pbtxt that say which versions are served."""
    try:
        config = parse_config(policy, CONFIG)
    except ConfigError as error:
        line = f" in line {error.line}" if error.line else ""
        raise NotYet(f"Triton could not read this{line}: {error.sentence}.") from None
    kind = config.version_policy.WhichOneof("policy_choice")
    if not kind:
        raise NotYet("there is no version_policy in it, so Triton serves version 4 alone.")
    if kind == "latest":
        number = max(config.version_policy.latest.num_versions, 1)
        served = {*IN_FOLDER[-number:]}
    else:
        chosen = config.version_policy.specific.versions
        served = {*IN_FOLDER} if kind == "all" else {*chosen}
    if unknown := served - {*IN_FOLDER}:
        raise NotYet(f"there is no version {min(unknown)}; Triton would refuse the whole order.")
    if served != WANTED:
        raise NotYet(f"this serves {_listed(served)}: {_what_is_wrong(served)}")
    return "A request that names no version gets 4, and one that names 2 still gets it."


def _what_is_wrong(served: set[int]) -> str:
    if 3 in served:
        return "version 3 was a mistake, and any client could name it."
    if 2 not in served:
        return "clients that name version 2 get an error."
    if 4 not in served:
        return "clients that name no version get an old one."
    return "version 1 is not needed any more, and takes memory."


def _listed(versions: set[int]) -> str:
    return "version " + " and ".join(map(str, sorted(versions))) if versions else "nothing"


def exercise_2(version_for: Callable) -> str:
    """Check a function that sends a share of the clients to the new version."""
    names = [hashlib.sha256(str(i).encode()).hexdigest()[:12] for i in range(CLIENTS)]
    chosen = {}
    for percent in PERCENTAGES:
        versions = [call(version_for, name, percent) for name in names]
        _check_versions(versions)
        if versions != [call(version_for, name, percent) for name in names]:
            raise NotYet(
                "asked again, some clients get another version; a client that comes back has to "
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
                "a client that has the new one keeps it."
            )


def exercise_3(roll_out: Callable) -> str:
    """Check a function that rolls a version out and takes it back if it is worse."""
    for model in trials():
        kept = call(roll_out, model, OLD, NEW)
        _check_way(model)
        _check_end(model, kept)
    return "Beside, not instead; measured, and taken back in time."


def _check_way(model: Model) -> None:
    """Look at what requests met on the way."""
    if model.missing:
        raise NotYet(f"{model.about}: {model.missing}; serve both until you have decided.")
    if model.loads and not model.tried:
        raise NotYet(f"{model.about}: it decides before any client has used version {NEW}.")


def _check_end(model: Model, kept: object) -> None:
    """Look at what is served at the end."""
    if kept not in (OLD, NEW):
        what = f'"{kept}"' if isinstance(kept, str) else describe(kept)
        raise NotYet(f'{model.about}: it returned {what}; let it return "{OLD}" or "{NEW}".')
    if kept != model.kept:
        raise NotYet(
            f"{model.about}, and it keeps version {kept}; expected {model.kept}. Compare what the "
            "counters grew by while you waited."
        )
    if model.served != (kept,):
        raise NotYet(
            f"{model.about}: it returned version {kept}, but served at the end is "
            f"{' and '.join(model.served)}."
        )
