"""Triton in the kit's own Docker image, for a GPU or the CPU, locked down as far as it can bear."""

import shlex
from pathlib import Path

from serving_kit.errors import ServerError
from serving_kit.server import docker, supervisor
from serving_kit.server.launcher import Launcher, Ports, identity_option
from serving_kit.server.ports import TRITON_PORTS


class KitImageLauncher(Launcher):
    """See ``Launcher``."""

    def check(self) -> None:
        """Check that the image is there.

        Raises:
            ServerError: it is not built yet.
        """
        if not docker.has_image(docker.KIT_IMAGE):
            raise ServerError(f"the image {docker.KIT_IMAGE} is not built yet; run: make image")

    def order(self, run_dir: Path, ports: Ports) -> dict:
        """Return the supervisor's arguments; nobody loads a model again whose stub died there."""
        return {"command": self._command(ports, run_dir), "control": None}

    def script(self, ports: Ports) -> str:
        """Return the command to paste."""
        return shlex.join(self._command(ports, None))

    def title(self, version: str, url: str) -> str:
        """Return what a person calls this server."""
        return (
            f"Triton {version} in Docker ({self.spec.image}, {self.spec.device.upper()}) on {url}"
        )

    def _command(self, ports: Ports, run_dir: Path | None) -> list[str]:
        # Docker reads the value of --mount as one line of CSV.
        source = f"source={self.spec.model_repository}".replace('"', '""')
        published = [
            f"--publish={self.spec.address}:{outside}:{inside}"
            for outside, inside in zip(ports, TRITON_PORTS, strict=True)
        ]
        on_gpu = self.spec.device == "gpu"
        return [
            *("docker", "run", "--rm", "--init", *docker.note_container(run_dir)),
            *([self.engine.gpu_flag] if on_gpu else []),
            *published,
            *("--shm-size=1g", "--read-only", "--tmpfs=/tmp"),
            *("--cap-drop=ALL", "--security-opt=no-new-privileges", *docker.current_user()),
            f'--mount=type=bind,"{source}",target=/models,readonly',
            docker.KIT_IMAGE,
            *("tritonserver", "--model-repository=/models"),
            *([] if on_gpu else ["--model-config-name=cpu"]),
            f"--exit-timeout-secs={supervisor.EXIT_TIMEOUT_SECONDS}",
            *([identity_option(run_dir)] if run_dir else []),
            *self.chosen_models(),
            *self.spec.options,
        ]
