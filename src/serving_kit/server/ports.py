"""Ports of this machine: free ones, and who answers on the others."""

import contextlib
import errno
import http.client
import json
import socket

from serving_kit.errors import ServerError

HOST = "127.0.0.1"


def free_ports(wanted: tuple[int | None, ...], address: str = HOST) -> tuple[int, ...]:
    """Return the wanted ports, each seen to be free, and free ones for those left open.

    Raises:
        ServerError: a wanted port is taken, or the address is not this machine's.
    """
    with contextlib.ExitStack() as held:
        ports = []
        for port in wanted:
            listener = held.enter_context(socket.socket())
            # As Triton does: a port whose last connections are only fading away counts as free.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((address, port or 0))
            except OverflowError:
                raise ServerError(f"port {port} does not exist; choose 1 to 65535") from None
            except PermissionError:
                raise ServerError(
                    f"port {port} is for the administrator; choose 1024 or more"
                ) from None
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise ServerError(
                        f"{address} is not an address of this machine ({error.strerror}); "
                        f"use {HOST}, or 0.0.0.0 for all"
                    ) from None
                raise ServerError(
                    f"port {port} of {address} is taken by {_who_answers(address, port)}; "
                    "stop that one, or choose another port"
                ) from None
            ports.append(listener.getsockname()[1])
        return tuple(ports)


def _who_answers(address: str, port: int) -> str:
    """Say who has a port: a Triton, or something else."""
    with contextlib.suppress(OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        server = json.loads(get(address, port, "/v2")[1])
        if server["name"] == "triton":
            return f"a Triton {server['version']}"
    return "another program"


def get(address: str, port: int, path: str) -> tuple[int, bytes]:
    """GET from a server, never through a proxy that the environment may name."""
    connection = http.client.HTTPConnection(address, port, timeout=5)
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read()
