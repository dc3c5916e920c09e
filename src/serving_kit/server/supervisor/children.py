"""System calls of Linux for child processes that subprocess does not have."""

import ctypes
import os
import signal

# Of prctl(2).
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Become the parent of what Triton's processes leave behind when they die."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def bury_orphans(server: int) -> bool:
    """Take note of the death of all children but the server; tell whether children are left."""
    while True:
        try:
            dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        if dead is None or dead.si_pid == server:  # whose exit code Popen will ask for
            return True
        os.waitpid(dead.si_pid, 0)


def die_with_parent() -> None:
    """Have the kernel end this process, Triton, when the supervisor itself is killed."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value)
