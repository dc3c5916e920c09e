"""Where the parts of a project lie."""

from dataclasses import dataclass
from pathlib import Path

from tritonclient.grpc.model_config_pb2 import ModelConfig

from serving_kit.errors import ProjectError
from serving_kit.repository.config import CONFIG, read_config


@dataclass(frozen=True)
class Project:
    """A folder that ``new_project`` made.

    Raises:
        ProjectError: it is not such a folder.
    """

    folder: Path

    def __post_init__(self):
        object.__setattr__(self, "folder", Path(self.folder).absolute())
        if not (self.folder / "network.py").is_file() or not self.model.parent.is_dir():
            raise ProjectError(
                f"{self.folder.name} is not a project: expected a folder with network.py and "
                "model_repository in it; make one with python -m serving_kit new NAME"
            )

    @property
    def name(self) -> str:
        """The project's name, which is the served model's name, too."""
        return self.folder.name

    @property
    def repository(self) -> Path:
        """What Triton serves."""
        return self.folder / "model_repository"

    @property
    def model(self) -> Path:
        """The model's folder in the repository."""
        return self.repository / self.name

    @property
    def config(self) -> Path:
        """The model's configuration."""
        return self.model / CONFIG

    @property
    def package(self) -> Path:
        """The zip that package.py writes."""
        return self.folder / f"{self.name}.zip"

    @property
    def kept(self) -> Path:
        """Where the checks keep what they found."""
        return self.folder / ".progress"

    def read_config(self) -> ModelConfig:
        """Return the model's configuration.

        Raises:
            ConfigError: see ``read_config`` of ``serving_kit.repository``.
        """
        return read_config(self.config)

    def versions(self) -> list[int]:
        """Return the versions that were exported, in their order."""
        if not self.model.is_dir():
            return []
        folders = (path.name for path in self.model.iterdir() if path.is_dir())
        return sorted(int(name) for name in folders if name.isdecimal() and int(name))


def settings_of(config: ModelConfig) -> str:
    """Return what a load test depends on, in a few words: instances, and batches."""
    count = sum(group.count or 1 for group in config.instance_group) or 1
    words = f"{count} instance{'' if count == 1 else 's'}, max_batch_size {config.max_batch_size}"
    if config.HasField("dynamic_batching"):
        words += ", dynamic_batching"
    if "batch_sizes" in config.parameters:
        words += f", batch_sizes {config.parameters['batch_sizes'].string_value}"
    return words
