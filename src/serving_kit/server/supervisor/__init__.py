"""Keep one Triton Inference Server alive for exactly as long as it is wanted.

``triton.TritonServer`` starts this folder by its path, as a process of its own, and holds the
other end of its standard input. The package imports the standard library only: it has to outlive
everything else, and runs where nothing of the kit is installed.

- ``owned`` reads what to start, from a server's owner;
- ``watch`` runs Triton until it is to be stopped, and cleans up after it;
- ``stubs`` looks after the processes in which Triton's python backend runs models;
- ``leftovers`` knows what belongs to a run, and removes it;
- ``children`` has the system calls for child processes, ``web`` a request over HTTP.
"""

from .leftovers import (
    CONTAINER_FILE,
    EXIT_CODE_FILE,
    LOG_FILE,
    PID_FILE,
    RUN_MARK,
    SHARED_MEMORY,
    clean_up,
    processes_of,
    shm_prefix,
)
from .owned import main
from .stubs import LOOK_SECONDS, STUB
from .watch import EXIT_TIMEOUT_SECONDS, KILL_AFTER_SECONDS, LET_GO
from .web import request

__all__ = [
    "CONTAINER_FILE",
    "EXIT_CODE_FILE",
    "EXIT_TIMEOUT_SECONDS",
    "KILL_AFTER_SECONDS",
    "LET_GO",
    "LOG_FILE",
    "LOOK_SECONDS",
    "PID_FILE",
    "RUN_MARK",
    "SHARED_MEMORY",
    "STUB",
    "clean_up",
    "main",
    "processes_of",
    "request",
    "shm_prefix",
]
