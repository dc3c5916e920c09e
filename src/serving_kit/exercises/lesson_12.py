"""Lesson 12, package and publish: check a download, check a release, run a demo; and the quiz."""

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from serving_kit.exercises._answers import NotYet, call, describe
from serving_kit.exercises._processes import Machine
from serving_kit.exercises._quiz import mark_quiz
from serving_kit.language import _
from serving_kit.paths import BACKENDS

HINTS = {
    1: (
        _("A damaged file exists, too. What do you have to compute of its bytes, and compare?"),
        _(
            "Path(folder).rglob('*') goes through all depths. It returns folders, too: is_file() "
            "tells them apart. path.relative_to(folder).as_posix() is the name as the dict has it."
        ),
        _(
            "Make a dict of what is in the folder, name -> hashlib.sha256(bytes).hexdigest(). The "
            "three lists then are comparisons of two dicts."
        ),
    ),
    2: (
        _(
            "Try your function with arrays of your own: one with NaN in it, one with another "
            "shape, one that is too small everywhere, two of uint8."
        ),
        _(
            "NumPy stretches shapes that do not fit; uint8 has no negative numbers; a difference "
            "may be negative; every comparison with NaN is False."
        ),
        _(
            "First compare the shapes. Then make both float, take the largest absolute difference, "
            "and return whether it is <= the tolerance times the largest absolute value of `own`."
        ),
    ),
    3: (
        _(
            "There are two waits: for is_ready(), and for the end of either process. In both, "
            "look, and sleep(0.5) before you look again."
        ),
        _(
            "While you wait for is_ready(), also look whether Triton is still there (poll() is "
            "None), and count the seconds that you have slept."
        ),
        _(
            "Keep the processes in a list. Loop while all(p.poll() is None for p in processes). In "
            "the end, terminate() and wait() for each whose poll() is None."
        ),
    ),
}

# 12.1: a check of a download.


def exercise_1(find_damage: Callable) -> str:
    """Check a function that compares a folder with the sums of its files."""
    with tempfile.TemporaryDirectory(prefix="serving-kit-exercise-") as name:
        folder = Path(name)
        for path, data in _files().items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        sums = {path: hashlib.sha256(data).hexdigest() for path, data in _files().items()}

        def look(case: str, damaged=(), missing=(), unlisted=()) -> None:
            expected = {
                _("damaged"): damaged,
                _("missing"): missing,
                _("not in the dict"): unlisted,
            }
            _compare(call(find_damage, folder, dict(sums)), case, expected)

        look(_("when no file was touched"))
        _flip(folder / "model.py")
        look(_("when one bit of a file was flipped"), ["model.py"])
        (folder / "photo.jpg").unlink()
        look(_("when a file is gone, too"), ["model.py"], ["photo.jpg"])
        extra = ["oneflow_backend/added.py", "run.sh"]
        for path in extra:
            (folder / path).write_text("print('mine')\n")
        look(_("when somebody has added two files"), ["model.py"], ["photo.jpg"], extra)
    return _("Damaged, missing, added: nothing in the folder gets past you.")


def _files() -> dict[str, bytes]:
    """Return some files: the backend's, and a photo."""
    backend = BACKENDS / "oneflow"
    found = {
        path.relative_to(backend).as_posix(): path.read_bytes()
        for path in sorted(backend.rglob("*.py"))
    }
    return found | {"photo.jpg": bytes(range(256))}


def _flip(file: Path) -> None:
    """Flip one bit in the middle; the size stays."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def _compare(found: object, case: str, expected: dict[str, list[str]]) -> None:
    if not isinstance(found, tuple | list) or len(found) != len(expected):
        raise NotYet(
            _("it returned {what}; let it return three lists of names.").format(
                what=describe(found)
            )
        )
    for (kind, names), told in zip(expected.items(), found, strict=True):
        if not isinstance(told, list | tuple | set) or not all(isinstance(n, str) for n in told):
            raise NotYet(
                _("{kind}: let this be a list of names, as the dict has them.").format(kind=kind)
            )
        if sorted(told) != sorted(names):
            raise NotYet(
                _("{case}, you say {kind}: {found}; expected {expected}.").format(
                    case=case, kind=kind, found=_list(told), expected=_list(names)
                )
            )


def _list(names: list[str]) -> str:
    """Return names for a sentence, the first three of many."""
    shown = [repr(name) for name in sorted(names)[:3]]
    if not shown:
        return _("none")
    listed, more = ", ".join(shown), len(names) - len(shown)
    return _("{listed} and {more} more").format(listed=listed, more=more) if more else listed


# 12.2: a check of a release.

TOLERANCE = 0.01


def exercise_2(agrees: Callable) -> str:
    """Check a function that compares what is served with what the graph itself returns."""
    own = np.linspace(-200, 100, 48, dtype=np.float32).reshape(1, 3, 4, 4)
    one_off, low, nothing = own.copy(), own.copy(), own.copy()
    one_off[0, 1, 2, 3] += 50
    low[0, 1, 2, 3] -= 50
    nothing[0, 2, 0, 0] = np.nan
    photo = np.full((4, 4, 3), 200, np.uint8)
    for served, expected, wanted, why in (
        (own, own, True, _("the two are equal.")),
        (own + 1.5, own, True, _("they differ by 1.5, and 0.01 of the largest value, 200, is 2.")),
        (own + 2.5, own, False, _("they differ by 2.5, and 0.01 of the largest value, 200, is 2.")),
        (one_off, own, False, _("one value of 48 is wrong; a mean hides that.")),
        (low, own, False, _("one value is 50 too small: the difference is negative.")),
        (nothing, own, False, _("one value is NaN, and every comparison with NaN is False.")),
        (
            own[:, :1],
            own[:, :1].repeat(3, axis=1),
            False,
            _("a shape is not the same; NumPy stretches one to fit the other."),
        ),
        (
            photo - 1,
            photo,
            True,
            _("pictures of uint8 differ by 1: 199 - 200 is 255 in uint8, -1 in float."),
        ),
        (photo - 100, photo, False, _("pictures of uint8 differ by 100.")),
    ):
        found = call(agrees, served.copy(), expected.copy(), TOLERANCE)
        if not isinstance(found, bool | np.bool_):
            raise NotYet(
                _("it returned {what}; let it return True or False.").format(what=describe(found))
            )
        if found != wanted:
            raise NotYet(
                _("it returned {found}, expected {wanted}: {why}").format(
                    found=found, wanted=wanted, why=why
                )
            )
    return _("Nine releases, and each judged right. The builder's own check works like this.")


# 12.3: a demo of two processes.


def exercise_3(run: Callable) -> str:
    """Check a function that runs Triton and a page, on simulated machines."""
    for case, machine in (
        (_("Triton is ready after 5 s and the page ends later"), Machine(ready=5, page_ends=90)),
        (_("Triton is ready after 20 s and dies at 50 s"), Machine(ready=20, triton_ends=50)),
        (_("Triton dies while it loads its models"), Machine(ready=30, triton_ends=10)),
        (_("Triton is never ready"), Machine()),
    ):
        code = machine.watch(case, run)
        if code != 1 or isinstance(code, bool):
            raise NotYet(
                _("when {case}, it returned {code!r}, expected 1.").format(case=case, code=code)
            )
    return _("Ready before the page, and neither stays without the other.")


def exercise_quiz(letters: str) -> str:
    """Mark the quiz on lessons 08 to 12."""
    return mark_quiz(
        letters,
        key="bcbdadcb",
        why=(
            _(
                "requests wait while cores are idle, so let more of them be computed at once "
                "(lesson 08)."
            ),
            _(
                "joining requests is worth it only where one run of many rows is cheaper than many "
                "runs (lesson 08, section 2)."
            ),
            _("a queue that is always full makes everybody late (lesson 08, on a flood)."),
            _("an ensemble can neither decide nor repeat (lesson 09)."),
            _("the key of the cache has the inputs, but not the parameters (lesson 09)."),
            _("Triton takes the highest version that is loaded (lesson 10)."),
            _("how long do 100 ms take afterwards, of which 80 are norms (lesson 11)?"),
            _(
                "a sum says that nothing has changed since the list was made, and no more (lesson "
                "12, section 6)."
            ),
        ),
    )
