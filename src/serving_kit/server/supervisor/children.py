"""System calls of Linux for child processes that subprocess does not have."""

import contextlib
import ctypes
import os
import resource
import signal
import time
from pathlib import Path

# Of prctl(2).
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
#: Triton parses JSON, forms and chunks on the stack of a thread, which is as large as this limit.
#: With the usual 8 MiB a body of 75 kB ends it.
STACK_BYTES = 64 << 20
#: Processes that were killed are dead well within this time.
BURY_SECONDS = 5


def adopt_orphans() -> None:
    """Become the parent of what Triton's processes leave behind when they die."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def bury_orphans(server: int | None = None) -> bool:
    """Take note of the death of all children but the server; tell whether children are left."""
    while True:
        try:
            dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        if dead is None or dead.si_pid == server:  # whose exit code Popen will ask for
            return True
        os.waitpid(dead.si_pid, 0)


def end_orphans() -> None:
    """Kill all children, and those that become ours by that, until none is left."""
    deadline = time.monotonic() + BURY_SECONDS
    while bury_orphans() and time.monotonic() < deadline:
        for pid in children_of(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def children_of(parent: int) -> list[int]:
    """Return the PIDs of a process's children, which each belong to one of its threads."""
    pids = []
    for thread in Path(f"/proc/{parent}/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that ended just now
            pids += map(int, (thread / "children").read_text().split())
    return pids


def prepare() -> None:
    """Between fork and exec of Triton: set what it inherits from the supervisor."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)  # when the supervisor itself is killed
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    resource.setrlimit(resource.RLIMIT_STACK, (stack_limit(soft, hard), hard))


def stack_limit(soft: int, hard: int) -> int:
    """Return the soft limit of the stack for Triton, from those of the supervisor, in bytes.

    Without a limit the C library gives threads 2 MiB, so that is raised, too.
    """
    most = STACK_BYTES if hard == resource.RLIM_INFINITY else min(STACK_BYTES, hard)
    return most if soft == resource.RLIM_INFINITY else max(soft, most)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value)
