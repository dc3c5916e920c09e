"""How a command of the kit ends: cleanly, with an exit code and at most one sentence."""

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
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)  # a shell's "&" may have closed SIGINT
    try:
        return work() or 0
    except ServingKitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; everything that was started is stopped", file=sys.stderr)
        return 130


def _interrupt(number: int, _: object) -> None:
    # An object that was being made is not whole. A library's own, as tritonclient's clients,
    # complain of that when they are deleted.
    sys.unraisablehook = lambda _: None
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)
