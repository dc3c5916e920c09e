"""Which way of starting Triton is chosen on this machine, and why."""

import os
from dataclasses import dataclass

from serving_kit.errors import ServerError
from serving_kit.server import docker, embedded
from serving_kit.server.docker import KIT_IMAGE
from serving_kit.server.embedded import EmbeddedLauncher
from serving_kit.server.gateway import GatewayLauncher
from serving_kit.server.kit_image import KitImageLauncher
from serving_kit.server.launcher import Launcher
from serving_kit.server.original_image import OriginalImageLauncher
from serving_kit.server.spec import ServerSpec

MODES = ("auto", "docker", "local")
#: Overrules ``mode="auto"``: the owner of a machine knows better.
MODE_VARIABLE = "SERVING_KIT_SERVER"


@dataclass(frozen=True)
class Choice:
    """Which way of starting a server was chosen, and why."""

    #: "docker" or "local".
    mode: str
    #: "gpu" or "cpu".
    device: str
    why: str
    engine: docker.Engine | None = None


def choose(mode: str = "auto", image: str = KIT_IMAGE) -> Choice:
    """Choose a way of starting a server by examining this machine.

    Args:
        mode: "docker" or "local" is obeyed; "auto" uses Docker if it can use a GPU for which
            OneFlow has kernels and the image is there, otherwise the embedded Triton.
        image: the Docker image.

    Raises:
        ServerError: there is no such mode, or Docker is wanted and does not work here.
    """
    if mode == "auto":
        mode = os.environ.get(MODE_VARIABLE) or "auto"
    if mode not in MODES:
        raise ServerError(f"there is no server mode {mode!r}; choose one of {', '.join(MODES)}")
    if mode == "local":
        return Choice("local", embedded.device(), "asked for")
    try:
        engine = docker.find_engine()
    except ServerError as error:
        if mode == "docker":
            raise ServerError(f"{error}; choose the embedded server: SERVER=local") from None
        return Choice("local", embedded.device(), str(error))
    problem = docker.gpu_problem(engine)
    if mode == "auto":
        if not problem and not docker.has_image(image):
            problem = f"the image {image} is not on this machine"
        if problem:
            return Choice("local", embedded.device(), problem)
    if problem and image != KIT_IMAGE:
        raise ServerError(
            f"the image {image} needs a GPU, but {problem}; choose the image {KIT_IMAGE}, which "
            "serves on the CPU too, or the embedded server: SERVER=local"
        )
    if problem:
        return Choice("docker", "cpu", problem, engine)
    return Choice("docker", "gpu", f"Docker {engine.version} with a GPU for OneFlow", engine)


def launcher_for(spec: ServerSpec, engine: docker.Engine | None = None) -> Launcher:
    """Return the launcher of a spec whose mode is chosen."""
    if spec.replicas:
        return GatewayLauncher(spec)
    if spec.mode == "local":
        return EmbeddedLauncher(spec)
    if spec.image == KIT_IMAGE:
        return KitImageLauncher(spec, engine)
    return OriginalImageLauncher(spec, engine)
