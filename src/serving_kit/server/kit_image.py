"""Triton in the kit's own Docker image, for a GPU or the CPU, with few privileges."""

from pathlib import Path

from serving_kit.errors import ServerError
from serving_kit.server import docker, supervisor
from serving_kit.server.launcher import CPU_OPTIONS, ContainerLauncher, Ports, identity_option
from serving_kit.server.ports import TRITON_PORTS

#: With these flags the container ends by itself when the docker command dies, however it does.
OWNED = ("--interactive", f"--env={supervisor.OWNED_VARIABLE}=1")


class KitImageLauncher(ContainerLauncher):
    """See ``Launcher``."""

    def check(self) -> None:
        """Check that the image is there.

        Raises:
            ServerError: it is not built yet.
        """
        if not docker.has_image(docker.KIT_IMAGE):
            raise ServerError(f"the image {docker.KIT_IMAGE} is not built yet; run: make image")

    def command(self, ports: Ports, run_dir: Path | None) -> list[str]:
        """Return the ``docker run`` command; without a run folder, one to be pasted."""
        # Docker reads the value of --mount as one line of CSV.
        source = f"source={self.spec.model_repository}".replace('"', '""')
        published = [
            f"--publish={self.spec.address}:{outside}:{inside}"
            for outside, inside in zip(ports, TRITON_PORTS, strict=True)
        ]
        on_gpu = self.spec.device == "gpu"
        return [
            *("docker", "run", "--rm", *docker.note_container(run_dir)),
            *(OWNED if run_dir else []),
            *([self.engine.gpu_flag] if on_gpu else []),
            *published,
            *("--shm-size=1g", "--read-only", "--tmpfs=/tmp"),
            *("--cap-drop=ALL", "--security-opt=no-new-privileges", *docker.current_user()),
            f'--mount=type=bind,"{source}",target=/models,readonly',
            docker.KIT_IMAGE,
            *("tritonserver", "--model-repository=/models"),
            *([] if on_gpu else CPU_OPTIONS),
            f"--exit-timeout-secs={supervisor.EXIT_TIMEOUT_SECONDS}",
            *([identity_option(run_dir)] if run_dir else []),
            *self.closed_shared_memory(),
            *self.closed_json(),
            *self.chosen_models(),
            *self.spec.options,
        ]
