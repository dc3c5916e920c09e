"""Lesson 10, roll out a new version: a version policy, canaries, and a roll-out by program."""

import hashlib
import itertools
from collections.abc import Callable

from serving_kit.exercises._answers import NotYet, call, describe
from serving_kit.exercises._configs import parsed
from serving_kit.exercises._rollout import NEW, OLD, Model, trials
from serving_kit.language import _

#: Versions in the folder, and those that are to be served.
IN_FOLDER, WANTED = (1, 2, 3, 4), {2, 4}
CLIENTS = 2000
PERCENTAGES = (0, 5, 20, 50, 100)
#: With a fair choice, the share of 2,000 clients strays by 1 of 100; this is five times as much.
TOLERANCE = 5

HINTS = {
    1: (
        _(
            "Which versions are to be served in the end? Do the clients that name none need a line "
            "of their own?"
        ),
        _("Two versions that are not the latest two: one of the three kinds of policy lists them."),
        _("version_policy { specific { versions: [ ..., ... ] } }"),
    ),
    2: (
        _("Turn the client's name into a number that is always the same for it."),
        _("zlib.crc32(client.encode()) % 100 gives each client a fixed place between 0 and 99."),
        _(
            "The new version is for the places below percent. As percent grows, places are added, "
            "and none is lost."
        ),
    ),
    3: (
        _(
            "Until you have decided, both versions are served; and the counters of the old one "
            "have grown since long before."
        ),
        _(
            "Look at both versions' counters before and after model.wait(), and compare "
            "differences. A version that cannot be loaded raises an error: then the old one stays."
        ),
        _(
            "mean = seconds / requests, both as differences; go back if failures grew or mean(new) "
            "> 2 * mean(old). At the end model.serve(kept) and return kept."
        ),
    ),
}


def exercise_1(policy: str) -> str:
    """Check the lines of config.pbtxt that say which versions are served."""
    config = parsed(policy)
    kind = config.version_policy.WhichOneof("policy_choice")
    if not kind:
        raise NotYet(_("there is no version_policy in it, so Triton serves version 4 alone."))
    if kind == "latest":
        number = max(config.version_policy.latest.num_versions, 1)
        served = {*IN_FOLDER[-number:]}
    else:
        chosen = config.version_policy.specific.versions
        served = {*IN_FOLDER} if kind == "all" else {*chosen}
    if unknown := served - {*IN_FOLDER}:
        raise NotYet(
            _("there is no version {version}; Triton would refuse the whole order.").format(
                version=min(unknown)
            )
        )
    if served != WANTED:
        raise NotYet(
            _("this serves {served}: {reason}").format(
                served=_listed(served), reason=_what_is_wrong(served)
            )
        )
    return _("A request that names no version gets 4, and one that names 2 still gets it.")


def _what_is_wrong(served: set[int]) -> str:
    if 3 in served:
        return _("version 3 was a mistake, and any client could name it.")
    if 2 not in served:
        return _("clients that name version 2 get an error.")
    if 4 not in served:
        return _("clients that name no version get an old one.")
    return _("version 1 is not needed any more, and takes memory.")


def _listed(versions: set[int]) -> str:
    if not versions:
        return _("nothing")
    numbers = _(" and ").join(map(str, sorted(versions)))
    return _("version {numbers}").format(numbers=numbers)


def exercise_2(version_for: Callable) -> str:
    """Check a function that sends a share of the clients to the new version."""
    names = [hashlib.sha256(str(i).encode()).hexdigest()[:12] for i in range(CLIENTS)]
    chosen = {}
    for percent in PERCENTAGES:
        versions = [call(version_for, name, percent) for name in names]
        _check_versions(versions)
        if versions != [call(version_for, name, percent) for name in names]:
            raise NotYet(
                _(
                    "asked again, some clients get another version; a client that comes back has "
                    "to find what it found before, so take the choice from its name, not from "
                    "chance."
                )
            )
        chosen[percent] = {
            name for name, version in zip(names, versions, strict=True) if version == NEW
        }
    if "hash" in getattr(getattr(version_for, "__code__", None), "co_names", ()):
        raise NotYet(
            _(
                "hash() of a text differs from one Python process to the next, and clients are "
                "served by many; zlib.crc32 and hashlib do not."
            )
        )
    _check_shares(chosen)
    return _("The same clients, in every process, and nobody is moved back as the share grows.")


def _check_versions(versions: list) -> None:
    for version in versions:
        if version in (1, 2):
            raise NotYet(
                _('it returned the number {version}; Triton takes the text "{version}".').format(
                    version=version
                )
            )
        if version not in (OLD, NEW):
            what = f'"{version}"' if isinstance(version, str) else describe(version)
            raise NotYet(
                _('it returned {what}; let it return "{old}" or "{new}".').format(
                    what=what, old=OLD, new=NEW
                )
            )


def _check_shares(chosen: dict[int, set]) -> None:
    for percent, names in chosen.items():
        share = 100 * len(names) / CLIENTS
        wrong_end = percent in (0, 100) and share != percent
        if wrong_end or abs(share - percent) > TOLERANCE:
            clients = percent * CLIENTS // 100
            expected = (
                _("about {clients}").format(clients=clients) if 0 < percent < 100 else clients
            )
            raise NotYet(
                _(
                    "told {percent} percent, it sends {clients} of {all} clients to version {new}; "
                    "expected {expected}."
                ).format(
                    percent=percent, clients=len(names), all=CLIENTS, new=NEW, expected=expected
                )
            )
    for fewer, more in itertools.pairwise(PERCENTAGES):
        if back := len(chosen[fewer] - chosen[more]):
            raise NotYet(
                _(
                    "when {fewer} percent become {more}, {back} clients go back to version {old}; "
                    "a client that has the new one keeps it."
                ).format(fewer=fewer, more=more, back=back, old=OLD)
            )


def exercise_3(roll_out: Callable) -> str:
    """Check a function that rolls a version out and takes it back if it is worse."""
    for model in trials():
        kept = call(roll_out, model, OLD, NEW)
        _check_way(model)
        _check_end(model, kept)
    return _("Beside, not instead; measured, and taken back in time.")


def _check_way(model: Model) -> None:
    """Look at what requests met on the way."""
    if model.missing:
        raise NotYet(
            _("{about}: {missing}; serve both until you have decided.").format(
                about=model.about, missing=model.missing
            )
        )
    if model.loads and not model.tried:
        raise NotYet(
            _("{about}: it decides before any client has used version {new}.").format(
                about=model.about, new=NEW
            )
        )


def _check_end(model: Model, kept: object) -> None:
    """Look at what is served at the end."""
    if kept not in (OLD, NEW):
        what = f'"{kept}"' if isinstance(kept, str) else describe(kept)
        raise NotYet(
            _('{about}: it returned {what}; let it return "{old}" or "{new}".').format(
                about=model.about, what=what, old=OLD, new=NEW
            )
        )
    if kept != model.kept:
        raise NotYet(
            _(
                "{about}, and it keeps version {kept}; expected {expected}. Compare what the "
                "counters grew by while you waited."
            ).format(about=model.about, kept=kept, expected=model.kept)
        )
    if model.served != (kept,):
        served = _(" and ").join(model.served)
        raise NotYet(
            _("{about}: it returned version {kept}, but served at the end is {served}.").format(
                about=model.about, kept=kept, served=served
            )
        )
