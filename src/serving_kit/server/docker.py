"""Triton in Docker: what the engine on this machine can do, and the command lines to use it.

Two images. The page's, ``oneflowinc/oneflow-serving``, with exactly the page's command; it needs
a GPU. And the kit's own, ``docker/Dockerfile``, for a GPU or the CPU, locked down as far as
Triton can bear.
"""

import contextlib
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from serving_kit.errors import ServerError
from serving_kit.gpus import find_gpus
from serving_kit.server.supervisor import CONTAINER_FILE

PAGE_IMAGE = "oneflowinc/oneflow-serving"
KIT_IMAGE = "oneflow-serving-kit"
#: The ports that Triton has by itself: HTTP, gRPC, metrics.
TRITON_PORTS = (8000, 8001, 8002)
ASK_SECONDS = 20


@dataclass(frozen=True)
class Engine:
    """A Docker engine that answers, and whether it can give a container an NVIDIA GPU."""

    version: str
    has_nvidia_runtime: bool
    #: The Container Device Interface knows an NVIDIA GPU; newer than the runtime.
    has_nvidia_cdi: bool

    @property
    def gpu_flag(self) -> str:
        """What ``docker run`` takes to give a container all GPUs."""
        return "--runtime=nvidia" if self.has_nvidia_runtime else "--gpus=all"


def find_engine() -> Engine:
    """Ask the Docker engine what it is.

    Raises:
        ServerError: there is no docker command, or no engine answers.
    """
    try:
        answer = _docker("info", "--format", "{{json .}}")
    except FileNotFoundError:
        raise ServerError("there is no docker command on this machine") from None
    except subprocess.TimeoutExpired:
        raise ServerError(f"the Docker engine did not answer in {ASK_SECONDS} s") from None
    try:
        info = json.loads(answer.stdout)
        version = info["ServerVersion"]
    except (ValueError, KeyError):
        info, version = {}, ""
    if answer.returncode or not version:
        # The client answers for itself, and tells in a list why the engine did not.
        errors = info.get("ServerErrors") or answer.stderr.strip().splitlines()[-1:]
        raise ServerError(f"the Docker engine does not answer ({'; '.join(errors) or 'no word'})")
    return Engine(
        version,
        has_nvidia_runtime="nvidia" in (info.get("Runtimes") or {}),
        has_nvidia_cdi=_has_nvidia_cdi(info),
    )


def _has_nvidia_cdi(info: dict) -> bool:
    """Tell whether an engine knows an NVIDIA GPU by the Container Device Interface.

    Engines from 28.2 on list the devices; older ones only name the folders of their
    specifications.
    """
    devices = [str(device.get("ID")) for device in info.get("DiscoveredDevices") or []]
    files = [file.name for folder in info.get("CDISpecDirs") or [] for file in _files(folder)]
    return any(name.startswith("nvidia") for name in devices + files)


def _files(folder: str) -> list[Path]:
    with contextlib.suppress(OSError):
        return sorted(Path(folder).iterdir())
    return []


def has_image(image: str) -> bool:
    """Tell whether an image is on this machine."""
    return _docker("image", "inspect", image).returncode == 0


def pull(image: str) -> None:
    """Download an image, showing Docker's progress.

    Raises:
        ServerError: it cannot be had.
    """
    if subprocess.run(["docker", "pull", image], check=False).returncode:
        raise ServerError(f"Docker could not pull the image {image}; its words are above")


def gpu_problem(engine: Engine) -> str:
    """Say why OneFlow cannot use GPU 0 in a container here; nothing when it can."""
    gpus = find_gpus()
    if not gpus:
        return "there is no NVIDIA GPU (nvidia-smi lists none)"
    if not gpus[0].runs_oneflow:
        capability = ".".join(map(str, gpus[0].compute_capability))
        return (
            f"OneFlow 0.9.0 has no kernels for GPU 0, {gpus[0].name}, compute capability "
            f"{capability}"
        )
    if not (engine.has_nvidia_runtime or engine.has_nvidia_cdi):
        return "the Docker engine has no NVIDIA runtime; install the NVIDIA Container Toolkit"
    return ""


def page_command(
    engine: Engine, model_repository: Path, image: str, options: list[str], run_dir: Path | None
) -> list[str]:
    """Return the command of the page for an image like the page's.

    Args:
        engine: says how a container is given a GPU.
        model_repository: the models.
        image: the image.
        options: further options of tritonserver.
        run_dir: where the container's ID is noted, so that it can be stopped for certain; None
            for a command that a person shall paste.

    Raises:
        ServerError: the repository's path has a colon, which ``-v`` does not take.
    """
    if ":" in str(model_repository):
        raise ServerError(
            f"{model_repository} has a colon, at which docker run -v would cut it; "
            "move the repository, or link to it from a path without one"
        )
    return [
        *("docker", "run", "--rm", engine.gpu_flag, "--network=host", *_note(run_dir)),
        f"-v{model_repository}:/models",
        image,
        *("/opt/tritonserver/bin/tritonserver", "--model-store", "/models"),
        *options,
    ]


def kit_command(
    engine: Engine,
    device: str,
    model_repository: Path,
    address: str,
    ports: tuple[int, ...],
    options: list[str],
    run_dir: Path | None,
) -> list[str]:
    """Return the command for the kit's image; the arguments are those of ``page_command``.

    Args:
        engine: says how a container is given a GPU.
        device: "gpu" or "cpu".
        model_repository: the models.
        address: where the ports are published.
        ports: of HTTP, gRPC and metrics, outside.
        options: further options of tritonserver.
        run_dir: where the container's ID is noted, or None.
    """
    # Docker reads the value of --mount as one line of CSV.
    source = f"source={model_repository}".replace('"', '""')
    published = [
        f"--publish={address}:{outside}:{inside}"
        for outside, inside in zip(ports, TRITON_PORTS, strict=True)
    ]
    return [
        *("docker", "run", "--rm", "--init", *_note(run_dir)),
        *([engine.gpu_flag] if device == "gpu" else []),
        *published,
        *("--shm-size=1g", "--read-only", "--tmpfs=/tmp"),
        *("--cap-drop=ALL", "--security-opt=no-new-privileges", *_user()),
        f'--mount=type=bind,"{source}",target=/models,readonly',
        KIT_IMAGE,
        *("tritonserver", "--model-repository=/models"),
        *(["--model-config-name=cpu"] if device == "cpu" else []),
        *options,
    ]


def _user() -> list[str]:
    """Return what has the container read the models as whoever starts it, if that is not root.

    The image's own user can read only what everybody can.
    """
    return [f"--user={os.getuid()}:{os.getgid()}"] if os.getuid() else []


def _note(run_dir: Path | None) -> list[str]:
    return [f"--cidfile={run_dir / CONTAINER_FILE}"] if run_dir else []


def _docker(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["docker", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=ASK_SECONDS,
        check=False,
    )
