"""What ``embedded``, ``kit_image`` and ``original_image`` have in common."""

import os
import secrets
import shlex
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from serving_kit.server import supervisor
from serving_kit.server.docker import Engine
from serving_kit.server.ports import TRITON_PORTS, free_ports, usual_ports_or_free
from serving_kit.server.spec import ServerSpec, groups_closed_by

#: The header that opens the registration of shared memory where it is closed. Triton names it in
#: its response, which so tells what the server was not started with.
SHARED_MEMORY_HEADER = "serving-kit-shared-memory"
#: With this header a request says that nothing of its body is JSON; Triton's binary tensor data
#: extension calls that a raw binary request.
RAW_HEADER, RAW = "Inference-Header-Content-Length", "0"
#: What keeps Triton from looking for a GPU, and has it read each model's configs/cpu.pbtxt.
CPU_OPTIONS = (
    "--model-config-name=cpu",
    "--allow-gpu-metrics=false",
    "--pinned-memory-pool-byte-size=0",
)
#: The parts of the HTTP API, but those closed anyway, whose requests Triton parses as JSON.
JSON_GROUPS = ("inference", "trace", "logging")
HTTP_OPTION, GRPC_OPTION = "--http-restricted-api", "--grpc-restricted-protocol"

Ports = tuple[int, int, int]
WantedPorts = tuple[int | None, int | None, int | None]


@dataclass(frozen=True)
class Launcher(ABC):
    """One way of starting Triton.

    Args:
        spec: what is to be served, with a mode and a device.
        engine: Docker's, where a container is to be started.
    """

    #: What is started, in words.
    PROGRAM: ClassVar = "Triton"

    spec: ServerSpec
    engine: Engine | None = None

    @property
    def is_reachable_from_elsewhere(self) -> bool:
        """Whether it listens on more than this machine's loopback."""
        return not self.spec.address.startswith("127.")

    @abstractmethod
    def check(self) -> None:
        """Detect before the start what would make it fail later.

        Raises:
            ServerError: what is missing, and how to get it.
        """

    def find_ports(self, wanted: WantedPorts, *, usual: bool) -> Ports:
        """Return ports for HTTP, gRPC and metrics that are free at the moment.

        Args:
            wanted: those asked for; None leaves one open.
            usual: whether to prefer Triton's own where all are left open.

        Raises:
            ServerError: a wanted port is taken.
        """
        if usual and not any(wanted):
            return usual_ports_or_free(TRITON_PORTS, self.spec.address)
        return free_ports(wanted, self.spec.address)

    @abstractmethod
    def order(self, run_dir: Path, ports: Ports) -> dict:
        """Prepare the run folder; return the supervisor's arguments, see ``supervisor.own``."""

    def environment(self, run_dir: Path) -> dict[str, str]:
        """Return the environment of the supervisor, and so of all that it starts."""
        return {**os.environ, supervisor.RUN_MARK: str(run_dir)}

    @abstractmethod
    def script(self, ports: Ports) -> str:
        """Return shell commands that start the same server by hand, ready to paste."""

    @abstractmethod
    def title(self, version: str, url: str) -> str:
        """Return what a person calls this server."""

    def chosen_models(self) -> list[str]:
        """Return the options for the models, where Triton would not simply load all of them."""
        if not self.spec.model_control and self.spec.models is None:
            return []
        return self.explicit_control(secrets.token_hex(16))

    def explicit_control(self, secret: str) -> list[str]:
        """Return options that load the wanted models, and others for those with the secret.

        Where clients may not load models, such requests need a header with the secret.
        """
        names = ("*",) if self.spec.models is None else self.spec.models
        options = ["--model-control-mode=explicit", *(f"--load-model={name}" for name in names)]
        if not self.spec.model_control:
            options += self.closed("model-repository", supervisor.CONTROL_HEADER, secret)
        return options

    def closed_shared_memory(self) -> list[str]:
        """Return the options that close the registration of shared memory, unless it is wanted.

        A client could name the memory in which Triton talks to its python backend, and end Triton.
        """
        if self.spec.shared_memory:
            return []
        return self.closed("shared-memory", SHARED_MEMORY_HEADER, secrets.token_hex(16))

    def closed_json(self) -> list[str]:
        """Return the option that closes HTTP to all requests but raw binary ones, if requested.

        JSON with a huge shape ends Triton; in a request that must say that it has none, Triton
        looks for none.
        """
        if self.spec.json:
            return []
        return self._closed(HTTP_OPTION, JSON_GROUPS, f"{RAW_HEADER}={RAW}")

    def closed(self, group: str, header: str, secret: str) -> list[str]:
        """Return the options that close a group of the API to all without a header."""
        key = f"{header}={secret}"
        return [*self._closed(HTTP_OPTION, [group], key), *self._closed(GRPC_OPTION, [group], key)]

    def _closed(self, name: str, groups: Sequence[str], key: str) -> list[str]:
        """Return an option that closes groups, but for those that the server was given one for.

        Triton takes one option for a group.
        """
        given = [option for option in self.spec.options if option.startswith(f"{name}=")]
        own = {group for option in given for group in groups_closed_by(option)}
        left = ",".join(group for group in groups if group not in own)
        return [f"{name}={left}:{key}"] if left else []


@dataclass(frozen=True)
class ContainerLauncher(Launcher):
    """A Triton in a Docker container; the subclasses know the command."""

    @abstractmethod
    def command(self, ports: Ports, run_dir: Path | None) -> list[str]:
        """Return the ``docker run`` command; without a run folder, one to be pasted."""

    def order(self, run_dir: Path, ports: Ports) -> dict:
        """Return the supervisor's arguments: it does not look inside the container."""
        return {"command": self.command(ports, run_dir), "inside": False}

    def script(self, ports: Ports) -> str:
        """Return the command to paste."""
        return shlex.join(self.command(ports, None))

    def title(self, version: str, url: str) -> str:
        """Return what a person calls this server."""
        device = self.spec.device.upper()
        return f"Triton {version} in Docker ({self.spec.image}, {device}) on {url}"


def identity_option(run_dir: Path) -> str:
    """Return the option by which ``/v2`` tells which server this is."""
    return f"--id={run_dir.name}"
