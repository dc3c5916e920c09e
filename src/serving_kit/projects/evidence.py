"""Keep what a check found for as long as the files that it looked at stay as they are."""

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path

from serving_kit.files import write_file


def fingerprint(folder: Path, paths: Iterable[Path]) -> str:
    """Return a text that changes when a file, or one in a folder, is written, added or removed.

    Args:
        folder: what the paths lie in; moved or copied as a whole, it has the same fingerprint.
        paths: files and folders; those that do not exist are left out.
    """
    digest = hashlib.sha256()
    for path in sorted(paths):
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts:
                status, name = file.stat(), file.relative_to(folder)
                digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def kept(file: Path, key: str, find: Callable[[], dict]) -> dict:
    """Return what was found before with this key, or find it now and keep it.

    Args:
        file: where it is kept, as JSON.
        key: a fingerprint of all that it depends on.
        find: makes it; if it raises, nothing is kept.
    """
    try:
        before = json.loads(file.read_text(encoding="utf-8"))
        if before["key"] == key:
            return before["found"]
    except (OSError, ValueError, KeyError, TypeError):
        pass  # there is none yet, or somebody has edited it
    found = find()
    write_file(file, json.dumps({"key": key, "found": found}, indent=2) + "\n")
    return found
