"""Triton in the image of the original OneFlow guide, with exactly the guide's command.

That image needs a GPU. Images made like it are served in the same way.
"""

from pathlib import Path

from serving_kit.errors import ServerError
from serving_kit.server import docker
from serving_kit.server.launcher import ContainerLauncher, Ports, WantedPorts, identity_option
from serving_kit.server.ports import TRITON_PORTS, free_ports

PORT_OPTIONS = ("--http-port", "--grpc-port", "--metrics-port")


class OriginalImageLauncher(ContainerLauncher):
    """See ``Launcher``."""

    #: The guide's command has the network of the machine, and listens to everybody.
    is_reachable_from_elsewhere = True

    def check(self) -> None:
        """Download the image if it is missing.

        Raises:
            ServerError: Docker could not.
        """
        if not docker.has_image(self.spec.image):
            docker.pull(self.spec.image)

    def find_ports(self, wanted: WantedPorts, *, usual: bool) -> Ports:
        """Return Triton's own ports unless others are requested: the guide names none."""
        ports = tuple(port or own for port, own in zip(wanted, TRITON_PORTS, strict=True))
        return free_ports(ports, self.spec.address)

    def explicit_control(self, secret: str) -> list[str]:
        """Return the options without restrictions: the guide's Triton is older than these."""
        return [option for option in super().explicit_control(secret) if "restricted" not in option]

    def command(self, ports: Ports, run_dir: Path | None) -> list[str]:
        """Return the ``docker run`` command; without a run folder, one to be pasted."""
        repository = self.spec.model_repository
        if ":" in str(repository):
            raise ServerError(
                f"{repository} contains a colon, where docker run -v would split it; "
                "move the repository, or link to it from a path without one"
            )
        other_ports = [
            f"{option}={port}"
            for option, port, own in zip(PORT_OPTIONS, ports, TRITON_PORTS, strict=True)
            if port != own
        ]
        return [
            *("docker", "run", "--rm", self.engine.gpu_flag, "--network=host"),
            *docker.note_container(run_dir),
            f"-v{repository}:/models",
            self.spec.image,
            *("/opt/tritonserver/bin/tritonserver", "--model-store", "/models"),
            *self.chosen_models(),
            *self.spec.options,
            *other_ports,
            *([identity_option(run_dir)] if run_dir else []),
        ]
