"""Running a function of a learner that waits for a server, and may wait forever."""

import queue
import threading
from collections.abc import Callable

from serving_kit.exercises._answers import NotYet, call
from serving_kit.language import _

#: Far more than any of these functions needs, even on a busy machine.
SECONDS = 30


class StillAtWork(NotYet):
    """The learner's function did not return in time."""


def call_in_time(function: Callable, *arguments: object, seconds: float = SECONDS) -> object:
    """Call a learner's function as ``call`` does; one that does not end becomes a hint, too.

    Raises:
        NotYet: it raised.
        StillAtWork: it did not return in time.
    """
    outcome = queue.SimpleQueue()

    def run() -> None:
        try:
            outcome.put((call(function, *arguments), None))
        except NotYet as hint:
            outcome.put((None, hint))

    # A daemon: what waits forever must not keep the kernel from ending.
    threading.Thread(target=run, daemon=True).start()
    try:
        found, hint = outcome.get(timeout=seconds)
    except queue.Empty:
        raise StillAtWork(
            _("your function is still at work after {seconds:.0f} seconds.").format(seconds=seconds)
        ) from None
    if hint:
        raise hint
    return found
