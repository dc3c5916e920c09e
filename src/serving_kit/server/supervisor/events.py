"""What reaches a supervisor from outside: signals, and what its owner says."""

import math
import os
import select
import signal
import time

#: What the owner writes once the server is ready, and to let it go on without the owner.
READY, LET_GO = b"ready\n", b"let go\n"


class Events:
    """Waits for the end of a child process, for signals and for the owner.

    Args:
        owner: the descriptor of the pipe whose other end the owner holds; None without an owner.
        drain_seconds: how much longer the server is kept after the first SIGTERM.
    """

    def __init__(self, owner: int | None, drain_seconds: float = 0):
        self._owner, self._said = owner, b""
        self._drain_seconds = drain_seconds
        self._wake, alarm = os.pipe()
        for end in (self._wake, alarm):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(alarm)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        self._stop_at = math.inf

    @property
    def owner_saw_it_ready(self) -> bool:
        """Whether the owner has seen the server ready."""
        return READY in self._said

    def wait(self, seconds: float) -> bool:
        """Wait at most so long; tell whether the server is to be stopped, once for all.

        The end of a child process ends the wait, too.
        """
        watched = [self._wake, *([] if self._owner is None else [self._owner])]
        left = max(0, self._stop_at - time.monotonic())
        ready, _, _ = select.select(watched, [], [], min(seconds, left))
        if self._owner in ready:
            self._hear_owner()
        if self._wake in ready:
            for number in os.read(self._wake, 64):
                self._take(number)
        return time.monotonic() >= self._stop_at

    def _take(self, number: int) -> None:
        if number == signal.SIGTERM and self._stop_at == math.inf:
            self._stop_at = time.monotonic() + self._drain_seconds
        elif number != signal.SIGCHLD:  # Ctrl-C, a terminal that closes, a second SIGTERM
            self._stop_at = -math.inf

    def _hear_owner(self) -> None:
        said = os.read(self._owner, 64)
        self._said += said
        if LET_GO in self._said:
            self._owner = None
        elif not said:
            self._stop_at = -math.inf
