"""What reaches a supervisor from outside: signals, and what its owner says."""

import os
import select
import signal

#: What the owner writes once the server is ready, and to let it go on without the owner.
READY, LET_GO = b"ready\n", b"let go\n"


class Events:
    """Waits for the end of a child process, for signals and for the owner.

    Args:
        owner: the descriptor of the pipe whose other end the owner holds; None without an owner.
    """

    def __init__(self, owner: int | None):
        self._owner, self._said = owner, b""
        self._wake, alarm = os.pipe()
        for end in (self._wake, alarm):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(alarm)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        self._is_to_stop = False

    @property
    def owner_saw_it_ready(self) -> bool:
        """Whether the owner has seen the server ready."""
        return READY in self._said

    def wait(self, seconds: float) -> bool:
        """Wait at most so long; tell whether the server is to be stopped, once for all.

        The end of a child process ends the wait, too.
        """
        watched = [self._wake, *([] if self._owner is None else [self._owner])]
        ready, _, _ = select.select(watched, [], [], seconds)
        if self._owner in ready:
            self._hear_owner()
        if self._wake in ready:
            self._is_to_stop |= any(n != signal.SIGCHLD for n in os.read(self._wake, 64))
        return self._is_to_stop

    def _hear_owner(self) -> None:
        said = os.read(self._owner, 64)
        self._said += said
        if LET_GO in self._said:
            self._owner = None
        elif not said:
            self._is_to_stop = True
