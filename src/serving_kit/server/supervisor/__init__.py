"""Keeps one Triton Inference Server alive for exactly as long as it is needed.

``triton.TritonServer`` starts this folder by its path, as a process of its own, and holds the
other end of its standard input. The package imports the standard library only: it has to outlive
everything else, and runs where nothing of the kit is installed.

- ``owned`` serves a server's owner, ``alone`` is process 1 of a container;
- ``watch`` runs Triton, and starts it again when it ended by itself: ``restarts`` says when;
- ``stubs`` looks after the processes in which Triton's python backend runs models;
- ``probe`` asks every model for a response, for Kubernetes' readiness probe;
- ``ports`` are kept for it;
- ``events`` is what comes from outside, ``api`` what Triton's HTTP tells, over ``web``;
- ``leftovers`` knows what belongs to a run, and removes it; ``children`` has the system calls for
  child processes.
"""

from .alone import DRAIN_VARIABLE, OWNED_VARIABLE, run
from .api import CONTROL_HEADER
from .events import LET_GO, READY
from .leftovers import (
    CONTAINER_FILE,
    EXIT_CODE_FILE,
    LOG_FILE,
    PID_FILE,
    RUN_MARK,
    SHARED_MEMORY,
    TEMPORARY,
    clean_up,
    processes_of,
    shm_prefix,
)
from .owned import EXIT_TIMEOUT_SECONDS, KILL_AFTER_SECONDS, own
from .ports import kept
from .probe import run_probe
from .stubs import LOOK_SECONDS, STUB
from .web import request

__all__ = [
    "CONTAINER_FILE",
    "CONTROL_HEADER",
    "DRAIN_VARIABLE",
    "EXIT_CODE_FILE",
    "EXIT_TIMEOUT_SECONDS",
    "KILL_AFTER_SECONDS",
    "LET_GO",
    "LOG_FILE",
    "LOOK_SECONDS",
    "OWNED_VARIABLE",
    "PID_FILE",
    "READY",
    "RUN_MARK",
    "SHARED_MEMORY",
    "STUB",
    "TEMPORARY",
    "clean_up",
    "kept",
    "own",
    "processes_of",
    "request",
    "run",
    "run_probe",
    "shm_prefix",
]
