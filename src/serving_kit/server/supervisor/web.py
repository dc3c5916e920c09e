"""A request over HTTP, with the standard library."""

import contextlib
import http.client


def request(
    address: str,
    port: int,
    path: str,
    body: str | bytes | None = None,
    headers: dict[str, str] | None = None,
    seconds: float = 5,
) -> tuple[int, bytes]:
    """Send a GET, or with a body a POST, never through a proxy that the environment may name.

    Returns:
        The status and the body of the response.

    Raises:
        OSError: there is no response, or none in HTTP.
    """
    connection = http.client.HTTPConnection(address, port, timeout=seconds)
    with contextlib.closing(connection):
        method = "GET" if body is None else "POST"
        try:
            connection.request(method, path, body, {"Connection": "close"} | (headers or {}))
            response = connection.getresponse()
            return response.status, response.read()
        except http.client.HTTPException as error:
            raise OSError(f"no response in HTTP from {address}:{port} ({error!r})") from error
