"""The supervisor of a server that has an owner, which tells what to start over standard input.

When that closes, because the server is stopped or because its owner was killed, however brutally,
the supervisor stops Triton, ends whatever it left running, and removes its shared memory and its
run folder. It is there before the folder is made, so that an owner that is killed while it lays
the folder out leaves nothing either; one line on that input then tells what to start. The owner
says when it has seen the server ready. A server that is to outlive its owner is let go with a
further line; from then on only a signal ends it.
"""

import json
import os
import sys
from pathlib import Path

from .children import end_orphans
from .events import Events
from .leftovers import EXIT_CODE_FILE, LOG_FILE, PID_FILE, clean_up
from .ports import kept, ports_of
from .watch import TRITON, keep_running

#: Triton responds to what it has accepted, for at most this long, before it gives up its models.
EXIT_TIMEOUT_SECONDS = 5
#: It is killed this long after it was asked to stop.
KILL_AFTER_SECONDS = 15
FOREVER_SECONDS = 3600


def own(run_dir: Path) -> None:
    """Wait until the owner has laid out the run folder, then do what it says.

    Its line is a JSON object: the arguments of ``supervise`` but the folder.
    """
    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as owner:
        order = owner.readline()  # unbuffered, as what follows it is for others to read
    if not order.endswith(b"\n"):
        clean_up(run_dir)
        return
    log = os.open(run_dir / LOG_FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for stream in (sys.stdout, sys.stderr):  # Triton's, too
        os.dup2(log, stream.fileno())
    os.close(log)
    supervise(run_dir, **json.loads(order))


def supervise(run_dir: Path, command: list[str], inside: bool, name: str = TRITON) -> None:
    """Run ``command`` until standard input closes or a signal asks to end, then clean up.

    Files in ``run_dir`` tell the owner what happens. A reader that is quicker than the writer
    finds an empty one, which is as good as none.

    Args:
        run_dir: the run folder.
        command: Triton's command line.
        inside: see ``keep_running``.
        name: likewise.
    """
    (run_dir / PID_FILE).write_text(str(os.getpid()))
    events = Events(sys.stdin.fileno())
    try:
        with kept(ports_of(command)):
            code, is_stopped = keep_running(
                command, events, stop_seconds=KILL_AFTER_SECONDS, inside=inside, name=name
            )
        if not is_stopped:
            (run_dir / EXIT_CODE_FILE).write_text(str(code))
            while not events.wait(FOREVER_SECONDS):
                pass
    finally:
        clean_up(run_dir)
        end_orphans()
