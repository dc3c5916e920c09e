"""Ports of this machine: free ones, and what listens on the others."""

import contextlib
import errno
import json
import socket

from serving_kit.errors import ServerError
from serving_kit.server.supervisor import request

HOST = "127.0.0.1"
#: The ports that Triton has by itself: HTTP, gRPC, metrics.
TRITON_PORTS = (8000, 8001, 8002)


def free_ports(wanted: tuple[int | None, ...], address: str = HOST) -> tuple[int, ...]:
    """Return the wanted ports, each checked to be free, and free ones for those left open.

    Raises:
        ServerError: a wanted port is taken, or the address is not this machine's.
    """
    with contextlib.ExitStack() as held:
        ports = []
        for port in wanted:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            listener = held.enter_context(socket.socket(family))
            # As Triton does: a port whose last connections are only fading away counts as free.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            _bind(listener, address, port)
            ports.append(listener.getsockname()[1])
        return tuple(ports)


def usual_ports_or_free(usual: tuple[int, ...], address: str = HOST) -> tuple[int, ...]:
    """Return the usual ports where all of them are free, and otherwise as many free ones.

    Raises:
        ServerError: the address is not this machine's.
    """
    with contextlib.suppress(ServerError):
        return free_ports(usual, address)
    return free_ports((None,) * len(usual), address)


def _bind(listener: socket.socket, address: str, port: int | None) -> None:
    try:
        listener.bind((address, port or 0))
    except OverflowError:
        raise ServerError(f"port {port} does not exist; choose 1 to 65535") from None
    except PermissionError:
        raise ServerError(f"port {port} needs administrator rights; choose 1024 or more") from None
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise ServerError(
                f"{address} is not an address of this machine ({error.strerror}); "
                f"use {HOST}, or 0.0.0.0 for all"
            ) from None
        raise ServerError(
            f"port {port} of {address} is taken by {_listener_on(address, port)}; "
            "stop that one, or choose another port"
        ) from None


def _listener_on(address: str, port: int) -> str:
    """Say what listens on a port: a Triton, or something else."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        server = json.loads(request(address, port, "/v2")[1])
        if "model_repository" in server["extensions"]:
            return f"a Triton {server['version']}"
    return "another program"
