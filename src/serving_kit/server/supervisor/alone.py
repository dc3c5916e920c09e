"""The supervisor as process 1 of a container, whose command it is given."""

import math
import os
import secrets
import sys
from pathlib import Path

from .api import CONTROL_HEADER, option
from .events import Events
from .watch import keep_running, prefix_of, say

#: In the environment of a container whose owner holds the other end of its standard input: it ends
#: when that closes. ``docker run --interactive`` closes it when it is killed itself.
OWNED_VARIABLE = "SERVING_KIT_OWNED"
#: In the environment of a container: so many seconds Triton serves on after SIGTERM, while those
#: that send requests learn that it goes.
DRAIN_VARIABLE = "SERVING_KIT_DRAIN_SECONDS"
#: Triton's own ``--exit-timeout-secs``, and how much longer than that it may take to stop.
EXIT_TIMEOUT_SECONDS, FURTHER_SECONDS = 30, 10
#: The exit code of a command that was told something it cannot understand, as shells have it.
WRONG_USE = 2


def run(command: list[str]) -> int:
    """Run Triton until a signal asks to end; any other program takes this one's place.

    Returns:
        The exit code for the container, as shells have it.
    """
    if Path(command[0]).name != "tritonserver":
        os.execvp(command[0], command)
    seconds = int(option(command, "exit-timeout-secs") or EXIT_TIMEOUT_SECONDS) + FURTHER_SECONDS
    owner = sys.stdin.fileno() if OWNED_VARIABLE in os.environ else None
    try:
        drain_seconds = seconds_of(os.environ.get(DRAIN_VARIABLE, "0"))
    except ValueError as error:
        say(f"{DRAIN_VARIABLE} is {error}; set it to a number of seconds, such as 5")
        return WRONG_USE
    events = Events(owner, drain_seconds)
    code, _ = keep_running(completed(command), events, stop_seconds=seconds)
    return code if code >= 0 else 128 - code


def seconds_of(text: str) -> float:
    """Read a number of seconds.

    Raises:
        ValueError: it is none; its words are the text.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ValueError(repr(text))
    return seconds


def completed(command: list[str]) -> list[str]:
    """Return a command line that lets the supervisor do its work.

    Triton leaves only shared memory whose name is known, and models can be loaded again, by the
    supervisor alone. A choice that the command makes stays.
    """
    additions = []
    if not prefix_of(command):
        prefix = f"triton-{secrets.token_hex(8)}-"
        additions.append(f"--backend-config=python,shm-region-prefix-name={prefix}")
    if option(command, "model-control-mode") is None:
        closed = f"model-repository:{CONTROL_HEADER}={secrets.token_hex(16)}"
        additions += [
            *("--model-control-mode=explicit", "--load-model=*"),
            *(f"--http-restricted-api={closed}", f"--grpc-restricted-protocol={closed}"),
        ]
    return [*command, *additions]
