"""The Docker engine of this machine: whether it responds, its images, and its GPUs."""

import contextlib
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from serving_kit.errors import ServerError
from serving_kit.gpus import find_gpus
from serving_kit.server.supervisor import CONTAINER_FILE

#: The kit's own image, and the one of the original OneFlow guide.
KIT_IMAGE = "oneflow-serving-kit"
ORIGINAL_IMAGE = "oneflowinc/oneflow-serving"
INFO_SECONDS = 20


@dataclass(frozen=True)
class Engine:
    """A Docker engine that responds, and whether it can give a container an NVIDIA GPU."""

    version: str
    has_nvidia_runtime: bool
    #: The Container Device Interface knows an NVIDIA GPU; newer than the runtime.
    has_nvidia_cdi: bool

    @property
    def gpu_flag(self) -> str:
        """What ``docker run`` takes to give a container all GPUs."""
        return "--runtime=nvidia" if self.has_nvidia_runtime else "--gpus=all"


def find_engine() -> Engine:
    """Get the Docker engine's description of itself.

    Raises:
        ServerError: there is no docker command, or no engine responds.
    """
    try:
        answer = _docker("info", "--format", "{{json .}}")
    except FileNotFoundError:
        raise ServerError("there is no docker command on this machine") from None
    except subprocess.TimeoutExpired:
        raise ServerError(f"the Docker engine did not respond in {INFO_SECONDS} s") from None
    try:
        info = json.loads(answer.stdout)
        version = info["ServerVersion"]
    except (ValueError, KeyError):
        info, version = {}, ""
    if answer.returncode or not version:
        # The client answers for itself, and tells in a list why the engine did not.
        errors = info.get("ServerErrors") or answer.stderr.strip().splitlines()[-1:]
        raise ServerError(
            f"the Docker engine does not respond ({'; '.join(errors) or 'no message'})"
        )
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
        ServerError: Docker could not.
    """
    if subprocess.run(["docker", "pull", image], check=False).returncode:
        raise ServerError(f"Docker could not pull the image {image}; its messages are above")


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


def current_user() -> list[str]:
    """Return the flags with which a container reads files as the caller, unless that is root.

    An image's own user can read only what everybody can.
    """
    return [f"--user={os.getuid()}:{os.getgid()}"] if os.getuid() else []


def note_container(run_dir: Path | None) -> list[str]:
    """Return the flags that note a container's ID in a run folder, so that it can be removed."""
    return [f"--cidfile={run_dir / CONTAINER_FILE}"] if run_dir else []


def _docker(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["docker", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=INFO_SECONDS,
        check=False,
    )
