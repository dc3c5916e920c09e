"""Write files and folders so that a reader sees either the complete new content or the old."""

import contextlib
import ctypes
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Of Linux's renameat2(2).
AT_FDCWD = -100
RENAME_EXCHANGE = 2


def write_file(path: str | Path, text: str) -> None:
    """Write a text file, in UTF-8, so that it appears completely or not at all.

    A link stays a link, and a file keeps its mode; folders that are missing are made.

    Raises:
        OSError: the file cannot be written; the old content is unchanged.
    """
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=target.parent) as folder:
        partial = Path(folder) / target.name
        partial.write_text(text, encoding="utf-8")
        if target.exists():
            partial.chmod(target.stat().st_mode)
        partial.replace(target)


@contextlib.contextmanager
def replaced_folder(target: Path) -> Iterator[Path]:
    """Write a folder so that it appears completely or not at all.

    Yields an empty folder beside ``target``. When the block succeeds, it replaces
    ``target`` in one step; when it fails or is interrupted, it is removed and ``target`` is as it
    was. The next writer removes what a killed one left; writers wait for each other.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}.partial-"
    lock = os.open(target.parent, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left_over in target.parent.glob(f"{prefix}*"):
            shutil.rmtree(left_over)
        partial = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
        partial.chmod(0o755)  # mkdtemp's 0700 would keep a server of another user out
        try:
            yield partial
            if target.exists():
                _exchange(partial, target)
            else:
                partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    finally:
        os.close(lock)


def _exchange(one: Path, other: Path) -> None:
    """Exchange two folders' names in one step (Linux's renameat2, which Python does not have)."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other)
    if libc.renameat2(*names, RENAME_EXCHANGE) == 0:
        return
    # A file system without it (some network shares): two steps, the old folder kept until then.
    aside = one.with_name(f"{one.name}-old")
    other.rename(aside)
    one.rename(other)
    aside.rename(one)
