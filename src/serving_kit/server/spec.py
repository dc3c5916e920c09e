"""What a server serves, and how; used to compare two servers and to record a running one."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path

from serving_kit.errors import ServerError
from serving_kit.paths import MODEL_REPOSITORY
from serving_kit.server.docker import KIT_IMAGE
from serving_kit.server.ports import HOST


@dataclass(frozen=True)
class ServerSpec:
    """What one server serves. A running server with an equal spec can be used instead of another.

    Raises:
        ServerError: an option that the kit sets itself.
    """

    #: The folder of models to serve.
    model_repository: Path = MODEL_REPOSITORY
    #: The names of those to load at the start; None loads all that are there.
    models: tuple[str, ...] | None = None
    #: "auto", "docker" or "local", see ``choice.choose``; never "auto" in a server that runs.
    mode: str = "auto"
    #: "gpu" or "cpu"; empty until it is chosen.
    device: str = ""
    #: In Docker the image. Where a local server runs, the installed tritonserver that it is, or
    #: nothing for the one of the Python packages.
    image: str = KIT_IMAGE
    #: The network address of this machine to listen on; "0.0.0.0" is all of them.
    address: str = HOST
    #: Whether clients may load and unload models.
    model_control: bool = False
    #: Whether clients may register shared memory of this machine, and have tensors read from it and
    #: written to it.
    shared_memory: bool = False
    #: Whether requests over HTTP may be JSON. Without, HTTP takes the bytes of one tensor for a
    #: model with one input; tensors of all kinds go over gRPC.
    json: bool = True
    #: How many servers stand behind a gateway that serves this; 0 for one server without one.
    replicas: int = 0
    #: Further options of tritonserver, ``"--log-verbose=1"`` for example.
    options: tuple[str, ...] = ()

    def __post_init__(self):
        repository = Path(self.model_repository).resolve()
        object.__setattr__(self, "model_repository", repository)
        object.__setattr__(self, "options", tuple(self.options))
        if self.models is not None:
            object.__setattr__(self, "models", tuple(self.models))
        for option in filter(_hides_identity, self.options):
            raise ServerError(
                f"the option {option} cannot be used: the kit identifies its servers by --id, "
                "which it sets itself and reads from /v2; remove this option"
            )

    @property
    def client_address(self) -> str:
        """The address at which clients on this machine reach the server."""
        return HOST if self.address == "0.0.0.0" else self.address

    def to_json(self) -> dict:
        """Return the spec as JSON can hold it; ``from_json`` makes an equal one of it."""
        return asdict(self) | {"model_repository": str(self.model_repository)}

    @classmethod
    def from_json(cls, entries: dict) -> "ServerSpec":
        """Make a spec of what ``to_json`` returned.

        Raises:
            ValueError: it is of another version of the kit.
        """
        if set(entries) != {field.name for field in fields(cls)}:
            raise ValueError(f"not the fields of a ServerSpec: {', '.join(entries)}")
        return cls(**entries)


def _hides_identity(option: str) -> bool:
    """Tell whether an option of tritonserver changes what ``/v2`` says, or closes it."""
    name = option.partition("=")[0]
    closed = groups_closed_by(option) if name == "--http-restricted-api" else []
    return name == "--id" or "metadata" in closed or "health" in closed


def groups_closed_by(option: str) -> list[str]:
    """Return the groups of the API that an option like ``--http-restricted-api`` closes."""
    return option.partition("=")[2].partition(":")[0].split(",")
