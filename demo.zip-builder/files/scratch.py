"""One temporary folder for all that the page writes, from which everything goes again."""

import contextlib
import fcntl
import shutil
import tempfile
import threading
import time
from pathlib import Path

PREFIX = "oneflow-demo-"
LOCK = ".lock"
#: Every so many seconds old files are looked for, by gradio, and here, for what it forgets.
EVERY_SECONDS = 5
#: If all files take more than this, the oldest go first, however young.
MAX_BYTES = 10**9


class Scratch:
    """A temporary folder whose files are removed after a while, and itself at the end.

    If its process is killed, the next page that starts on this machine removes it.

    Args:
        keep_seconds: how long a file stays.
    """

    def __init__(self, keep_seconds: float):
        self.keep_seconds = keep_seconds
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
        self._lock = (self.folder / LOCK).open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)  # the system lets go of it when this process dies
        self._stays = {self.folder / LOCK}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._tidy_until_closed, daemon=True)

    def start(self) -> None:
        """Begin to remove old files; those that are there already stay."""
        self._stays.update(self.folder.rglob("*"))
        self._thread.start()

    def new_folder(self) -> Path:
        """Return a new folder for the files of one request."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    def tidy(self) -> None:
        """Remove what is old, and the oldest of what is too much."""
        files = []
        for path in self.folder.rglob("*"):
            # What is written or read at this moment may come and go meanwhile.
            with contextlib.suppress(OSError):
                if path not in self._stays:
                    status = path.stat()
                    files.append((status.st_mtime, status.st_size, path))
        files.sort(reverse=True, key=lambda file: file[0])
        # gradio goes first, to strike the files that it knows off its list, which else grows.
        kept, oldest = 0, time.time() - self.keep_seconds - 2 * EVERY_SECONDS
        for modified, size, path in files:
            kept += size
            if modified < oldest or kept > MAX_BYTES:
                with contextlib.suppress(OSError):  # a folder goes when the last file has gone
                    path.rmdir() if path.is_dir() else path.unlink()

    def _tidy_until_closed(self) -> None:
        while not self._closed.wait(EVERY_SECONDS):
            self.tidy()

    def close(self) -> None:
        """Remove the folder."""
        self._closed.set()
        # Under another name, so that who still paints cannot write into it meanwhile.
        gone = self.folder.rename(self.folder.with_name(f"{self.folder.name}-gone"))
        shutil.rmtree(gone, ignore_errors=True)
        self._lock.close()


def sweep() -> None:
    """Remove the folders of pages that were killed."""
    for lock in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{LOCK}"):
        with contextlib.suppress(OSError), lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)
