"""Run Triton until it is to be stopped, and again whenever it ends by itself."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

from . import restarts
from .api import Api, option, to_load
from .children import adopt_orphans, bury_orphans, end_orphans, prepare
from .events import Events
from .leftovers import sweep_environments, sweep_shared_memory
from .stubs import LOOK_SECONDS, Stubs

#: In Triton's environment: how often it was started again. The backend makes a metric of it.
RESTARTS_VARIABLE = "SERVING_KIT_RESTARTS"
#: How often one that has not responded yet is asked: a crash in between is taken for one before.
START_LOOK_SECONDS = 0.05
#: An engine makes a container within this time, also on a busy machine.
CONTAINER_SECONDS = 10
#: The exit code of a command that cannot be started, as shells have it.
NOT_STARTED = 127
#: What is run, in words. Of another program, as the gateway before several servers, nothing more is
#: known than whether it runs.
TRITON = "Triton"


class Triton:
    """One Triton, from its start to its end.

    Args:
        command: its command line.
        restarts: how many were started before it.
        inside: whether the command is Triton itself, and not one that starts it elsewhere.
        name: "Triton", or the name of another program.
    """

    def __init__(self, command: list[str], restarts: int, inside: bool, name: str):
        self._began = time.monotonic()
        self._restarts, self._command = restarts, command
        self._process = subprocess.Popen(
            command,
            # The client of a container tells it by this that it has died, or that we have.
            stdin=subprocess.DEVNULL if inside else subprocess.PIPE,
            env={**os.environ, RESTARTS_VARIABLE: str(restarts)},
            preexec_fn=prepare,
            start_new_session=True,  # a Ctrl-C in the terminal is for the supervisor to handle
        )
        self._api = Api(command) if inside and name == TRITON else None
        control = self._api.control if self._api else None
        self._stubs = Stubs(self._process.pid, control, sys.stderr.buffer) if control else None
        #: Whether it has responded.
        self.was_up = False
        #: The models that clients may have loaded; None where only the command line tells.
        self.models: list[str] | None = None

    @property
    def age(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self._began

    def exit_code(self) -> int | None:
        """Return its exit code, or None while it runs."""
        bury_orphans(self._process.pid)
        return self._process.poll()

    def look(self) -> None:
        """Look after its stubs, and learn what must be known when it ends."""
        if self._stubs:
            self._stubs.look()
        if not self._api:
            return
        if not self.was_up and self._api.is_up():
            self.was_up = True
            if self._restarts:
                say(f"Triton responds again after {self.age:.1f} s")
        if self.was_up and self._api.is_open:
            models = self._api.ready_models()
            self.models = self.models if models is None else models

    def stop(self, seconds: float) -> int:
        """Ask it to end; insist when it does not within some seconds. Returns its exit code."""
        self._wait_for_container()
        self._process.terminate()
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _wait_for_container(self) -> None:
        """Let a docker command note the container that is being made, so that it can be removed."""
        if note := option(self._command, "cidfile"):
            deadline = time.monotonic() + CONTAINER_SECONDS
            while not is_filled(Path(note)) and self._process.poll() is None:
                if time.monotonic() > deadline:
                    break
                time.sleep(START_LOOK_SECONDS)


def is_filled(file: Path) -> bool:
    """Tell whether a file is there, and not empty."""
    with contextlib.suppress(FileNotFoundError):
        return file.stat().st_size > 0
    return False


def keep_running(
    command: list[str],
    events: Events,
    *,
    stop_seconds: float,
    inside: bool = True,
    name: str = TRITON,
) -> tuple[int, bool]:
    """Run Triton until it is to be stopped; start it again when it ends by itself.

    One that never responded is not started again: with the same command line it would end again.
    Triton's output, and what is said here, goes to our own.

    Args:
        command: Triton's command line.
        events: tell when it is to be stopped.
        stop_seconds: how long it may take to stop before it is killed.
        inside: whether the command is Triton itself. One that starts it elsewhere, as ``docker
            run`` does, is run once.
        name: what is run, in words: "Triton", or another program.

    Returns:
        Triton's last exit code, and whether it was asked to stop.
    """
    adopt_orphans()
    ends: list[float] = []
    while True:
        try:
            triton = Triton(command, len(ends), inside, name)
        except OSError as error:
            say(f"{command[0]} cannot be started: {error.strerror}")
            return NOT_STARTED, False
        code = watch(triton, events, stop_seconds, prefix_of(command))
        if events.wait(0):  # also for what the owner has said before Triton ended
            return code, True
        if not (inside and (ends or triton.was_up or events.owner_saw_it_ready)):
            if code < 0:  # of which Triton itself has said nothing
                how = restarts.describe(name, code, triton.age)
                say(f"{how}, before it responded; not started again")
            return code, False
        ends.append(time.monotonic())
        pause = restarts.pause_after(ends)
        say(restarts.announce(restarts.describe(name, code, triton.age), len(ends), pause))
        if pause is None:
            return code, False
        if wait(events, pause):
            return code, True
        if name == TRITON:
            command = for_restart(command, triton.models)


def watch(triton: Triton, events: Events, stop_seconds: float, prefix: str | None) -> int:
    """Wait until Triton ends, or stop it when that is wanted; remove what is left of it.

    Returns:
        Its exit code.
    """
    try:
        while (code := triton.exit_code()) is None:
            if events.wait(LOOK_SECONDS if triton.was_up else START_LOOK_SECONDS):
                return triton.stop(stop_seconds)
            triton.look()
        return code
    finally:
        end_orphans()
        if prefix:
            sweep_shared_memory(prefix)
        sweep_environments()


def wait(events: Events, seconds: float) -> bool:
    """Wait so long, or until the server is to be stopped; tell whether it is."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if events.wait(left):
            return True
    return False


def for_restart(command: list[str], models: list[str] | None) -> list[str]:
    """Return the command line with which Triton is started again.

    A model that cannot be loaded any more must not keep the others from being served.
    """
    lenient = "--exit-on-error=false"
    command = [word for word in command if word != lenient]
    return [*(command if models is None else to_load(command, models)), lenient]


def prefix_of(command: list[str]) -> str | None:
    """Return what the names of the shared memory of a Triton begin with, if its command says so."""
    return option(command, "backend-config", "python,shm-region-prefix-name=")


def say(text: str) -> None:
    """Print a line in the manner of Triton's own, into its log."""
    print(f"W supervisor: {text}", file=sys.stderr, flush=True)
