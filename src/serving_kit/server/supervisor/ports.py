"""Ports that are kept for Triton until it is there, and while it is started again."""

import contextlib
import socket
from collections.abc import Iterable, Iterator, Sequence

from .api import EVERYWHERE, option

#: What Triton listens for, as its options name it.
KINDS = ("http", "grpc", "metrics")


@contextlib.contextmanager
def kept(ports: Iterable[tuple[str, int]]) -> Iterator[None]:
    """Bind addresses and ports, without listening, so that nobody gets them by chance.

    Triton sets SO_REUSEADDR, too, and so gets such a port by its number. The kernel gives it to
    nobody that leaves the choice to it, as other servers do, and clients with every connection.
    """
    with contextlib.ExitStack() as holders:
        for address, port in ports:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            holder = holders.enter_context(socket.socket(family))
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):  # taken: Triton will say so
                holder.bind((address, port))
        yield


def ports_of(command: Sequence[str]) -> list[tuple[str, int]]:
    """Return the addresses and ports on which a Triton is to listen, by its command line.

    Those that are left to Triton, or to a container, are not among them.
    """
    found = []
    for kind in KINDS:
        port = option(command, f"{kind}-port") or ""
        if port.isdecimal():
            found.append((option(command, f"{kind}-address") or EVERYWHERE, int(port)))
    return found
