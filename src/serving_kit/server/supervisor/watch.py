"""Run one Triton until it is to be stopped; then see to it that nothing is left of it."""

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from .children import adopt_orphans, bury_orphans, die_with_parent
from .leftovers import EXIT_CODE_FILE, LOG_FILE, PID_FILE, clean_up
from .stubs import LOOK_SECONDS, Stubs

#: What the owner writes to let a server go on without it.
LET_GO = b"let go\n"

#: Triton responds to what it has accepted, for at most this long, before it gives up its models.
EXIT_TIMEOUT_SECONDS = 5
#: It is killed this long after it was asked to stop.
KILL_AFTER_SECONDS = 15
#: Processes that were killed are dead well within this time.
BURY_SECONDS = 5


def supervise(run_dir: Path, command: list[str], control: dict | None) -> None:
    """Run ``command`` until standard input closes or a signal asks to end, then clean up.

    Files in ``run_dir`` tell the owner what happens; see the constants above. A reader that is
    quicker than the writer finds an empty one, which is as good as none.

    Args:
        run_dir: the run folder.
        command: Triton's command line.
        control: where the model control API is, and the header that opens it, as
            ``{"address": ..., "port": ..., "header": [name, value]}``; None when there is none.
    """
    (run_dir / PID_FILE).write_text(str(os.getpid()))
    wake, alarm = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(alarm, False)
    signal.set_wakeup_fd(alarm)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    adopt_orphans()
    with (run_dir / LOG_FILE).open("ab") as log:
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,
        )
        stubs = Stubs(server.pid, control, log) if control else None
        try:
            _watch(server, run_dir, wake, stubs)
        finally:
            if server.poll() is None:
                _stop(server)
            clean_up(run_dir)
            deadline = time.monotonic() + BURY_SECONDS
            while bury_orphans(server.pid) and time.monotonic() < deadline:
                time.sleep(0.01)


def _watch(server: subprocess.Popen, run_dir: Path, wake: int, stubs: Stubs | None) -> None:
    """Return when the server is to be stopped."""
    owner = sys.stdin.fileno()
    watched = [owner, wake]
    while True:
        ready, _, _ = select.select(watched, [], [], LOOK_SECONDS)
        if owner in ready:
            if not os.read(owner, len(LET_GO)):
                return
            watched.remove(owner)
        if wake in ready and any(number != signal.SIGCHLD for number in os.read(wake, 64)):
            return
        bury_orphans(server.pid)
        if server.poll() is not None:
            (run_dir / EXIT_CODE_FILE).write_text(str(server.returncode))
        elif stubs:
            stubs.look()


def _stop(server: subprocess.Popen) -> None:
    """Ask Triton to end; insist when it does not."""
    server.terminate()
    try:
        server.wait(KILL_AFTER_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
