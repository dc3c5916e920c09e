"""Triton's python backend runs models in processes of its own; one that died is replaced.

Triton does not do that, and goes on saying that it is ready.
"""

import contextlib
import os
import threading
import time
from pathlib import Path

from .web import request

#: How often the python backend's processes are looked at (0.5 ms): one that dies before its first
#: look is not known, and not replaced. And how long one is dead that Triton does not know of.
LOOK_SECONDS, DEAD_SECONDS = 0.25, 1
LOAD_SECONDS = 600
STUB = "triton_python_backend_stub"


class Stubs:
    """The python backend's processes of one Triton, which are replaced when they died."""

    def __init__(self, triton: int, control: dict, log):
        self._triton = triton
        self._control = control
        self._log = log
        self._models: dict[int, str] = {}
        self._dead_since: dict[int, float] = {}
        self._reloaded: set[int] = set()

    def look(self) -> None:
        """Load a model again whose process is dead for some time.

        Not at once: a process that Triton ends itself, as it unloads a model, is dead for a
        moment before Triton has taken note of it.
        """
        now, children = time.monotonic(), self._children()
        self._reloaded &= set(children)  # the number of one that is gone may be given again
        dead = filter(self._is_dead_stub, children)
        self._dead_since = {pid: self._dead_since.get(pid, now) for pid in dead}
        for pid, since in self._dead_since.items():
            if now - since >= DEAD_SECONDS and pid not in self._reloaded:
                self._reloaded.add(pid)
                model = self._models[pid]
                threading.Thread(target=self._reload, args=(model,), daemon=True).start()

    def _children(self) -> list[int]:
        pids = []
        for thread in Path(f"/proc/{self._triton}/task").iterdir():
            with contextlib.suppress(OSError):  # a thread that ended just now
                pids += map(int, (thread / "children").read_text().split())
        return pids

    def _is_dead_stub(self, pid: int) -> bool:
        """Tell whether a child is a stub that died; note the model of one that lives."""
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if Path(os.fsdecode(command[0])).name == STUB:
                # Its first argument is <repository>/<model>/<version>/model.py.
                self._models[pid] = Path(os.fsdecode(command[1])).parts[-3]
            # The command line of a dead process is empty.
            return command == [b""] and pid in self._models
        return False

    def _reload(self, model: str) -> None:
        self._say(f"the process that serves {model} died; loading {model} again")
        try:
            # Triton takes a model that it has loaded for a good one: load alone does nothing.
            for action in ("unload", "load"):
                status, text = self._post(f"/v2/repository/models/{model}/{action}")
                if status != 200:
                    self._say(f"{model} cannot be loaded again: {text}")
                    return
        except OSError as error:
            self._say(f"{model} cannot be loaded again: {error}")
            return
        for pid in self._children():
            self._is_dead_stub(pid)  # the new one is known from now on
        self._say(f"{model} is loaded again")

    def _post(self, path: str) -> tuple[int, str]:
        name, value = self._control["header"]
        status, body = request(
            self._control["address"], self._control["port"], path, "{}", {name: value}, LOAD_SECONDS
        )
        return status, body.decode(errors="replace")

    def _say(self, text: str) -> None:
        # In the manner of Triton's own lines, at the end of its log.
        self._log.write(f"W supervisor: {text}\n".encode())
        self._log.flush()
