"""Lesson 12, package and publish: a zip whose bytes depend on nothing else, and what is damaged."""

import hashlib
import io
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from serving_kit.exercises._answers import NotYet, call, describe
from serving_kit.paths import BACKENDS, ROOT

FILES = ROOT / "demo.zip-builder" / "files"
SUMS = "SHA256SUMS"
A_DAY = 24 * 60 * 60


def exercise_1(pack: Callable) -> str:
    """Check a function that packs a dict of names and bytes into the bytes of a zip file."""
    content = _demo()
    data = call(pack, dict(content))
    entries = _entries(data, content)
    again = call(pack, dict(reversed(content.items())))
    if [entry.filename for entry in _entries(again, content)] != [e.filename for e in entries]:
        raise NotYet(
            "the same dict in another order gave other bytes: the files are in the zip in the "
            "order in which they came."
        )
    for entry in entries:
        if _seconds_from_now(entry.date_time) < A_DAY:
            year, month, day, hour, minute, second = entry.date_time
            raise NotYet(
                f"{entry.filename} bears the time {year}-{month:02}-{day:02} {hour:02}:{minute:02}:"
                f"{second:02}: tomorrow the bytes will be others. Give it one that never changes."
            )
    for entry in entries:
        mode, script = entry.external_attr >> 16, entry.filename.endswith(".sh")
        if mode & 0o777 != (0o755 if script else 0o644):
            raise NotYet(
                f"the mode of {entry.filename} is {mode & 0o777:o}; {'755' if script else '644'} "
                f"lets everybody read it{' and run it' if script else ', and nobody run it'}."
            )
    if len(data) > sum(map(len, content.values())):
        raise NotYet(
            "the zip is larger than its files: they are stored, not compressed. A ZipInfo has a "
            "compress_type of its own, whatever the ZipFile was opened with."
        )
    if again != data:
        raise NotYet(
            "names, times and modes are right, but the bytes were others at a second call."
        )
    return f"{len(content)} real files of demo.zip, in any order and on any day: the same bytes."


def _demo() -> dict[str, bytes]:
    """Return some files that go into demo.zip, scripts among them."""
    folders = {"": FILES, "backends/oneflow/": BACKENDS / "oneflow"}
    return {
        f"{prefix}{path.relative_to(folder).as_posix()}": path.read_bytes()
        for prefix, folder in folders.items()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def _entries(data: object, content: dict[str, bytes]) -> list[zipfile.ZipInfo]:
    """Return what a zip says of its files, which are those that it shall have."""
    if not isinstance(data, bytes):
        raise NotYet(f"it returned {describe(data)}; the bytes of a zip file are asked for.")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            entries = packed.infolist()
            found = {entry.filename: packed.read(entry) for entry in entries}
    except zipfile.BadZipFile as error:
        raise NotYet(
            f"its {len(data):,} bytes are no zip file ({error}). Were they taken before the "
            "ZipFile was closed?"
        ) from None
    for name, expected in content.items():
        if found.get(name) != expected:
            said = "is not in the zip" if name not in found else "has other bytes in the zip"
            raise NotYet(f"{name} {said}.")
    if len(entries) != len(content):
        raise NotYet(f"the zip has {len(entries)} entries for {len(content)} files.")
    return entries


def _seconds_from_now(date_time: tuple[int, ...]) -> float:
    return abs(time.time() - time.mktime((*date_time, 0, 0, -1)))


def exercise_2(find_damage: Callable) -> str:
    """Check a function that compares a folder with its SHA256SUMS."""
    with tempfile.TemporaryDirectory(prefix="serving-kit-exercise-") as name:
        folder = Path(name)
        for path, data in (_demo() | {"my photo  (2).jpg": b"two blanks"}).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        _write_sums(folder)
        _compare(find_damage, folder, "none was touched", [], [])
        flipped = ["backends/oneflow/model.py", "styles.jpg"]
        for path in flipped:
            data = bytearray((folder / path).read_bytes())
            data[len(data) // 2] ^= 1
            (folder / path).write_bytes(data)
        _compare(find_damage, folder, "one bit of two of them was flipped", flipped, [])
        gone = ["my photo  (2).jpg", "tools/check_files.sh"]
        for path in gone:
            (folder / path).unlink()
        case = "one bit of two was flipped, and two are gone"
        _compare(find_damage, folder, case, flipped, gone)
    return "What is damaged and what is missing, to the last bit, of the real files of demo.zip."


def _write_sums(folder: Path) -> None:
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}\n"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    (folder / SUMS).write_text("".join(lines))


def _compare(
    find_damage: Callable, folder: Path, case: str, damaged: list[str], missing: list[str]
) -> None:
    """Call a learner's function on a folder; any difference becomes a hint."""
    found = call(find_damage, folder)
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise NotYet(f"it returned {describe(found)}; two lists are asked for: damaged, missing.")
    wanted = {"damaged": damaged, "missing": missing}
    for (kind, names), told in zip(wanted.items(), found, strict=True):
        if not isinstance(told, list | tuple | set) or not all(isinstance(n, str) for n in told):
            raise NotYet(f"{kind} shall be a list of names, as {SUMS} has them.")
        if sorted(told) != names:
            raise NotYet(f"{case}: {kind} are {_list(told)}; expected {_list(names)}.")


def _list(names: list[str]) -> str:
    """Return names for a sentence, the first three of many."""
    shown = [repr(name) for name in sorted(names)[:3]]
    return ", ".join(shown) + (f" and {len(names) - 3} more" if len(names) > 3 else "") or "none"
