"""The supervisor of a server that has an owner, which tells what to start over standard input.

When that closes, because the server is stopped or because its owner was killed, however brutally,
the supervisor stops Triton, ends whatever it left running, and removes its shared memory and its
run folder. It is there before the folder is made, so that an owner that is killed while it lays
the folder out leaves nothing either; one line on that input then tells what to start. A server
that is to outlive its owner is let go, once it is ready, with a second line; from then on only a
signal ends it.
"""

import json
import os
import sys
from pathlib import Path

from .leftovers import LOG_FILE, clean_up
from .watch import supervise


def main(run_dir: Path) -> None:
    """Wait until the owner has laid out the run folder, then do what it says.

    Its line is a JSON object: the arguments of ``supervise`` but the folder.
    """
    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as owner:
        order = owner.readline()  # unbuffered, as what follows it is for others to read
    if not order.endswith(b"\n"):
        clean_up(run_dir)
        return
    log = os.open(run_dir / LOG_FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for stream in (sys.stdout, sys.stderr):  # where an error of our own would be looked for
        os.dup2(log, stream.fileno())
    os.close(log)
    supervise(run_dir, **json.loads(order))
