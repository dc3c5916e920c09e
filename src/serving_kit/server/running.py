"""A server that was started, here or by another process: its address and its state."""

import contextlib
import json
import os
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from serving_kit.errors import ServerError
from serving_kit.server import registry, runs, supervisor
from serving_kit.server.choice import launcher_for
from serving_kit.server.gateway import CLUSTERS
from serving_kit.server.launcher import Launcher
from serving_kit.server.spec import ServerSpec
from serving_kit.server.triton_log import causes_in, last_lines, restarts_in

#: How a line of Envoy's metrics gives a value for the value of a label.
METRIC = r'envoy_{}{{.*envoy_{}="([^"]+)".*}} (.+)'


class RunningServer:
    """One Triton, from the moment when it was launched until it is stopped.

    Args:
        record: of a server that outlives its owner.
    """

    def __init__(self, record: registry.Record):
        self.take(record)

    def take(self, record: registry.Record) -> None:
        """Make this object the handle of a recorded server."""
        #: What it serves, and how.
        self.spec: ServerSpec = record.spec
        #: The folder of this run, which goes with the server; None while there is none.
        self.run_dir: Path | None = record.run_dir
        #: Of HTTP, gRPC and metrics.
        self.ports = record.ports
        #: The server's own version, once it is ready.
        self.version = record.version

    @property
    def launcher(self) -> Launcher:
        """The launcher that started it."""
        return launcher_for(self.spec)

    @property
    def model_repository(self) -> Path:
        """The folder of models that it serves."""
        return self.spec.model_repository

    @property
    def url(self) -> str:
        """Host and port of HTTP, as tritonclient takes them."""
        return f"{self.spec.client_address}:{self.ports[0]}"

    @property
    def grpc_url(self) -> str:
        """Host and port of gRPC, as tritonclient takes them."""
        return f"{self.spec.client_address}:{self.ports[1]}"

    @property
    def metrics_url(self) -> str:
        """Where Prometheus finds the metrics."""
        return f"http://{self.spec.client_address}:{self.ports[2]}/metrics"

    @property
    def is_reachable_from_elsewhere(self) -> bool:
        """Whether it listens on more than this machine's loopback."""
        return self.launcher.is_reachable_from_elsewhere

    def is_ready(self) -> bool:
        """Ask ``/v2/health/ready``: True when the server and all its models are ready.

        Another server that now has the port is not mistaken for this one: ``/v2`` tells them apart.
        """
        if self.run_dir is None or not self._is_ok("/v2/health/ready"):
            return False
        return self.metadata().get("name") == self.run_dir.name

    def wait_until_ready(self, seconds: float) -> None:
        """Wait until the server and all its models are ready, also during a restart.

        Raises:
            ServerError: it ended for good, or was not ready in time.
        """
        deadline, program = time.monotonic() + seconds, self.launcher.PROGRAM
        while not self.is_ready():
            if (code := self.exit_code()) is not None:
                raise ServerError(
                    f"{program} ended with exit code {code} before it was ready{self.why()}"
                )
            if time.monotonic() > deadline:
                raise ServerError(f"{program} was not ready after {seconds:.0f} s{self.why()}")
            time.sleep(0.05)

    def metadata(self) -> dict:
        """Return what ``/v2`` says: name, version, extensions; an empty dict without a response."""
        with contextlib.suppress(OSError, ValueError):
            found = json.loads(self._get("/v2")[1])
            return found if isinstance(found, dict) else {}
        return {}

    def models(self) -> dict[str, bool]:
        """Return the models that were to be loaded, and whether each is ready to serve."""
        names = self.spec.models
        if names is None:
            names = []
            with contextlib.suppress(FileNotFoundError):  # moved away since
                names = sorted(
                    folder.name
                    for folder in self.model_repository.iterdir()
                    if folder.is_dir() and not folder.name.startswith(".")
                )
        return {name: self._is_ok(f"/v2/models/{name}/ready") for name in names}

    def _is_ok(self, path: str) -> bool:
        with contextlib.suppress(OSError):
            status, _ = self._get(path)
            return status == 200
        return False

    def _get(self, path: str) -> tuple[int, bytes]:
        return supervisor.request(self.spec.client_address, self.ports[0], path)

    def start_beside(
        self, command: list[str | Path], output: Path, **variables: str
    ) -> subprocess.Popen:
        """Start a program that ends with this server at the latest, a web page for example.

        Temporary files that it leaves are removed with the server.

        Args:
            command: the program and its arguments.
            output: the file for what it prints.
            variables: of its environment, in addition to ours.
        """
        temporary = self.run_dir / supervisor.TEMPORARY
        temporary.mkdir(exist_ok=True)
        marks = {supervisor.RUN_MARK: str(self.run_dir), "TMPDIR": str(temporary)}
        with output.open("wb") as file:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **marks, **variables},
                start_new_session=True,  # a Ctrl-C in the terminal is for the owner to handle
            )

    def exit_code(self) -> int | None:
        """Return the exit code of a server that ended for good; None while it runs.

        A Triton that ends and is restarted has not ended for good; see ``restarts``.
        """
        if not self.run_dir:
            return None
        return runs.exit_code_of(self.run_dir)

    def restarts(self) -> list[str]:
        """Return why Triton was started again, one sentence for each time."""
        return restarts_in(self.log())

    def log(self) -> str:
        """Return what Triton has printed so far."""
        return runs.log_of(self.run_dir) if self.run_dir else ""

    def why(self) -> str:
        """Return the cause as the log gives it, and the log's last lines."""
        # The link to the repository means nothing to anybody else.
        log = self.log().replace(f"{self.run_dir}/models", str(self.model_repository))
        causes = causes_in(log)
        text = f": {'; '.join(causes)}" if causes else ""
        if not log.strip():
            return f"{text}; it has written no log"
        return f"{text}\nIts log ends:\n" + "\n".join(f"  {line}" for line in last_lines(log))

    def stop(self) -> None:
        """Stop the server; its processes, shared memory and files are gone afterwards."""
        if self.run_dir:
            runs.end(self.run_dir)
            registry.forget(self.run_dir)
            self.run_dir = None

    def __str__(self) -> str:
        if not self.ports:
            return f"a server of {self.model_repository} that was not started"
        return self.launcher.title(self.version, self.url)


class RunningGateway(RunningServer):
    """A gateway and the servers behind it."""

    def take(self, record: registry.Record) -> None:
        """Make this object the handle of a recorded gateway, and of its servers."""
        super().take(record)
        found = [each for each in registry.records() if each.gateway == record.run_dir.name]
        self.servers: list[RunningServer] = [RunningServer(each) for each in found]

    def is_ready(self) -> bool:
        """Tell whether the gateway has a server that is ready.

        It uses the port for metrics, which needs neither TLS nor a login.
        """
        return self.run_dir is not None and self.ready_servers() > 0

    def ready_servers(self) -> int:
        """Return how many servers the gateway has seen ready, both HTTP and gRPC."""
        healthy = self.metric("cluster_membership_healthy", "cluster_name")
        return int(min(healthy.get(cluster, 0) for cluster in CLUSTERS))

    def metric(self, name: str, label: str) -> dict[str, float]:
        """Return the values of one of Envoy's metrics, by one of its labels.

        It is empty if another program now has the port.
        """
        values: dict[str, float] = {}
        with contextlib.suppress(OSError):
            if self._get_metrics("/name") == self.run_dir.name:
                for line in self._get_metrics("/metrics").splitlines():
                    if found := re.match(METRIC.format(name, label), line):
                        values[found[1]] = float(found[2])
        return values

    def _get_metrics(self, path: str) -> str:
        return supervisor.request(self.spec.client_address, self.ports[2], path)[1].decode()

    def models(self) -> dict[str, bool]:
        """Return the models that were to be loaded, and whether each is ready in all servers."""
        each = [server.models() for server in self.servers]
        return {name: all(models[name] for models in each) for name in each[0]} if each else {}

    def restarts(self) -> list[str]:
        """Return why the gateway or a server was started again, one sentence for each time."""
        own = super().restarts()
        return own + [why for server in self.servers for why in server.restarts()]

    def stop(self) -> None:
        """Stop the gateway, then the servers."""
        super().stop()
        servers, self.servers = self.servers, []
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda server: server.stop(), servers))


def handle(record: registry.Record) -> RunningServer:
    """Return what can be done with a recorded server."""
    return (RunningGateway if record.spec.replicas else RunningServer)(record)


def running_servers() -> list[RunningServer]:
    """Return the detached servers of this clone, oldest first; those behind a gateway are in it.

    Where a gateway was killed together with its supervisor, its servers count like all others.
    """
    records = registry.records()
    gateways = {record.run_dir.name for record in records if record.spec.replicas}
    return [handle(record) for record in records if record.gateway not in gateways]
