"""Triton's python backend runs models in processes of its own; one that died is replaced.

Triton does not do that, and goes on saying that it is ready. A model whose configuration changed
it loads while the old one goes on serving: the model's other instances respond as before, and the
dead one fails a request a second.
"""

import contextlib
import json
import os
import signal
import threading
import time
from pathlib import Path

from .children import children_of
from .web import request

#: How often the python backend's processes are looked at (0.5 ms).
LOOK_SECONDS = 0.25
#: A process that Triton ends itself, as it unloads a model, is dead for a moment before Triton has
#: taken note of it.
DEAD_SECONDS = 0.25
#: Triton fails to load a model whose process dies meanwhile, which takes up to three seconds. For
#: the first message of a process it waits without a limit, and so forever if that dies before.
HANG_SECONDS = 5
LOAD_SECONDS = 600
#: Triton 2.51 keeps a model of which a request failed for a dead process, with all its other
#: processes, also when a new one took its place. They are ended when they did nothing for so long:
#: a client of theirs has given up by then, too.
IDLE_SECONDS = 60
#: What counts as nothing, in ticks of the processor's time.
IDLE_TICKS = os.sysconf("SC_CLK_TCK") // 10
#: A model that cannot be loaded is tried again after this time, and twice, four times ... as long.
PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1, 64
STUB = "triton_python_backend_stub"
#: Statuses of HTTP: the second is that of a part of the API that is closed.
OK, CLOSED = 200, 403


class Stubs:
    """The python backend's processes of one Triton, which are replaced when they died."""

    def __init__(self, triton: int, control: dict, log):
        self._triton = triton
        self._control = control
        self._log = log
        self._models: dict[int, str] = {}
        self._dead_since: dict[int, float] = {}
        self._replaced: set[int] = set()
        #: The models that are being loaded again, and the processes that each had before.
        self._loading: dict[str, set[int]] = {}
        #: The living processes of models that were replaced: their ticks, and since when.
        self._retired: dict[int, tuple[int, float]] = {}
        self._count = 0

    def look(self) -> None:
        """Load a model again whose process died; end a Triton that waits for one forever."""
        now, children = time.monotonic(), set(children_of(self._triton))
        dead = set(filter(self._is_dead, children))
        # The number of a process that is gone may be given again.
        self._replaced &= children
        self._retired = {pid: seen for pid, seen in self._retired.items() if pid in children}
        self._models = {pid: name for pid, name in self._models.items() if pid in children}
        self._dead_since = {pid: self._dead_since.get(pid, now) for pid in dead}
        for pid, since in self._dead_since.items():
            if now - since >= DEAD_SECONDS and pid not in self._replaced:
                self._mend(pid, now)
        for pid in self._replaced - dead:
            self._end_if_idle(pid, now)

    def _is_dead(self, pid: int) -> bool:
        """Tell whether a child of Triton died; note the model of a stub that lives."""
        with contextlib.suppress(OSError):
            program, *arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            # Triton also runs it without arguments, to see whether it can.
            if Path(os.fsdecode(program)).name == STUB and arguments[0]:
                # Its first argument is <repository>/<model>/<version>/model.py.
                self._models[pid] = Path(os.fsdecode(arguments[0])).parts[-3]
            # The command line of a dead process is empty.
            return not program
        return False

    def _mend(self, pid: int, now: float) -> None:
        """Load the model of a dead process again, unless that goes on; see whether Triton waits."""
        model = self._models.get(pid)
        if model and model not in self._loading:
            self._loading[model] = {other for other, name in self._models.items() if name == model}
            threading.Thread(target=self._reload, args=(model,), daemon=True).start()
        elif pid not in self._loading.get(model, ()):
            self._end_triton_if_it_waits(pid, now)

    def _reload(self, model: str) -> None:
        config = self._config_of(model)
        if config is not None:
            self._say(f"the process that serves {model} died; loading {model} again")
            self._load_until_it_is_there(model, config)
            self._replaced |= self._loading[model]
        else:
            self._see_whether_triton_waits(self._loading[model])
        del self._loading[model]

    def _load_until_it_is_there(self, model: str, config: dict) -> None:
        pause = PAUSE_SECONDS
        while why := self._why_not_loaded(model, config):
            self._say(f"{model} cannot be loaded again: {why}")
            if all(map(self._is_dead, self._loading[model])):
                with contextlib.suppress(OSError):  # so that Triton does not call it ready
                    self._request(f"/v2/repository/models/{model}/unload", "{}")
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            if not Path(f"/proc/{self._triton}").exists():
                return
        for pid in children_of(self._triton):
            self._is_dead(pid)  # which notes whose the new ones are: they may die at once
        self._say(f"{model} is loaded again")

    def _end_if_idle(self, pid: int, now: float) -> None:
        ticks = ticks_of(pid)
        before, since = self._retired.setdefault(pid, (ticks, now))
        if ticks - before > IDLE_TICKS:
            self._retired[pid] = ticks, now
        elif now - since >= IDLE_SECONDS:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _config_of(self, model: str) -> dict | None:
        """Return the configuration of a model that is served; None of any other.

        It is empty where Triton was started with that part of its API closed.
        """
        with contextlib.suppress(OSError):
            status, text = self._request(f"/v2/models/{model}/config")
            return json.loads(text) if status == OK else {} if status == CLOSED else None
        return None

    def _why_not_loaded(self, model: str, config: dict) -> str:
        """Load a model again; return why that could not be done, or an empty text.

        Triton loads a model that it has loaded only if the configuration differs. The entry by
        which it does here means nothing to the python backend. Where the configuration is not
        known, the model is unloaded first.
        """
        body, path = "{}", f"/v2/repository/models/{model}"
        if config:
            self._count += 1
            config["cc_model_filenames"] = {"loaded_again": str(self._count)}
            body = json.dumps({"parameters": {"config": json.dumps(config)}})
        try:
            if not config:
                self._request(f"{path}/unload", "{}")
            status, text = self._request(f"{path}/load", body)
        except OSError as error:
            return str(error)
        return "" if status == OK else text

    def _request(self, path: str, body: str | None = None) -> tuple[int, str]:
        name, value = self._control["header"]
        status, answer = request(
            self._control["address"], self._control["port"], path, body, {name: value}, LOAD_SECONDS
        )
        return status, answer.decode(errors="replace")

    def _see_whether_triton_waits(self, pids: set[int]) -> None:
        """End Triton if it has not taken note of a death by the time when it must have."""
        time.sleep(HANG_SECONDS)
        if any(map(self._is_dead, pids)):
            self._end_triton()

    def _end_triton_if_it_waits(self, pid: int, now: float) -> None:
        if now - self._dead_since[pid] >= HANG_SECONDS:
            self._end_triton()

    def _end_triton(self) -> None:
        self._say(
            "a process died while it loaded a model, and Triton would wait for it forever; "
            "ending Triton"
        )
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._triton, signal.SIGKILL)

    def _say(self, text: str) -> None:
        # In the manner of Triton's own lines, at the end of its log.
        self._log.write(f"W supervisor: {text}\n".encode())
        self._log.flush()


def ticks_of(stub: int) -> int:
    """Return how much of the processor's time a stub and its children have had; 0 if it is gone."""
    ticks = 0
    with contextlib.suppress(OSError):
        for pid in (stub, *children_of(stub)):
            # After the name, in brackets, user and system time are the 12th and 13th field.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks
