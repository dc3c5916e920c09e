"""What Triton's command line says about its API, and what the API says about Triton."""

import contextlib
import json
from collections.abc import Sequence
from itertools import pairwise

from .web import request

#: The header that opens model control where it is closed to others than the supervisor.
CONTROL_HEADER = "serving-kit-control"
EVERYWHERE = "0.0.0.0"
HTTP_PORT = 8000
SECONDS = 1


class Api:
    """The HTTP API of the Triton that a command line starts."""

    def __init__(self, command: Sequence[str]):
        address = option(command, "http-address") or EVERYWHERE
        self.address = "127.0.0.1" if address == EVERYWHERE else address
        port = option(command, "http-port") or ""
        self.port = int(port) if port.isdecimal() else HTTP_PORT
        self._name = option(command, "id") or "triton"
        self._is_controlled = option(command, "model-control-mode") == "explicit"
        self._secret = option(command, "http-restricted-api", f"model-repository:{CONTROL_HEADER}=")

    @property
    def control(self) -> dict | None:
        """Where models can be loaded again, and with which header; None where they cannot."""
        if not self._is_controlled:
            return None
        header = [CONTROL_HEADER, self._secret or ""]
        return {"address": self.address, "port": self.port, "header": header}

    @property
    def is_open(self) -> bool:
        """Whether clients may load and unload models."""
        return self._is_controlled and not self._secret

    def is_up(self) -> bool:
        """Tell whether it responds, which Triton does when it has loaded its models."""
        found = self._json("/v2")
        return isinstance(found, dict) and found.get("name") == self._name

    def ready_models(self) -> list[str] | None:
        """Return the names of the models that are loaded; None without a response."""
        found = self._json("/v2/repository/index", '{"ready": true}')
        return None if found is None else sorted({model["name"] for model in found})

    def _json(self, path: str, body: str | None = None):
        with contextlib.suppress(OSError, ValueError):
            status, text = request(self.address, self.port, path, body, seconds=SECONDS)
            return json.loads(text) if status == 200 else None
        return None


def option(command: Sequence[str], name: str, start: str = "") -> str | None:
    """Return the value of an option of tritonserver, the last that begins with ``start``.

    Returns:
        What follows ``start``; None where no such option is given.
    """
    values = [word.partition("=")[2] for word in command if word.startswith(f"--{name}=")]
    values += [value for word, value in pairwise(command) if word == f"--{name}"]
    fitting = [value[len(start) :] for value in values if value.startswith(start)]
    return fitting[-1] if fitting else None


def to_load(command: Sequence[str], models: Sequence[str]) -> list[str]:
    """Return a command line that loads these models at the start, in place of its own."""
    words, previous = [], ""
    for word in command:
        if not word.startswith("--load-model=") and "--load-model" not in (word, previous):
            words.append(word)
        previous = word
    return [*words, *(f"--load-model={name}" for name in models)]
