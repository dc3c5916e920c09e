"""How a command of the kit ends: in order, with an exit code and at most one sentence."""

import signal
import sys
from collections.abc import Callable

from serving_kit.errors import ServingKitError


def run_program(work: Callable[[], int | None]) -> int:
    """Do a program's work; return its exit code.

    "kill" and a closed terminal end it as Ctrl-C does: what it opened is closed.

    Returns:
        What the work returned, or 0; 1 after the one sentence of a ServingKitError; 130 after
        Ctrl-C. A signal to end raises SystemExit with 128 and its number.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's "&" may have closed it
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        return work() or 0
    except ServingKitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; everything that was started is stopped", file=sys.stderr)
        return 130
