"""Several Tritons behind one address: n servers of this machine, with Envoy in front."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from serving_kit.errors import ServerError
from serving_kit.paths import MODEL_REPOSITORY
from serving_kit.server.access import Access
from serving_kit.server.gateway import GatewayLauncher, write_servers
from serving_kit.server.ports import HOST
from serving_kit.server.running import RunningGateway
from serving_kit.server.triton import TritonServer

#: Envoy takes up a change of its files within this time.
TAKEN_UP_SECONDS = 0.25
#: So long a server that is to be stopped may take to finish its requests, and the gateway to see
#: that a new one is ready.
PATIENCE_SECONDS = 60
LOOK_SECONDS = 0.05


class ReplicatedServer(RunningGateway, TritonServer):
    """Several Tritons that serve the same models, behind one address that stays up when one ends.

    It is used like a TritonServer: ``url`` and ``grpc_url`` are the gateway's, ``servers`` are the
    Tritons.

    Args:
        model_repository: the folder of models to serve.
        replicas: how many Tritons.
        access: TLS, a login, and whether JSON is taken.
        settings: of ``TritonServer``, but ``model_control`` and ``shared_memory``, which concern
            one server, and ``json``, which ``access`` has.

    Raises:
        ServerError: a setting that makes no sense here.
    """

    def __init__(
        self,
        model_repository: str | Path = MODEL_REPOSITORY,
        *,
        replicas: int = 2,
        access: Access | None = None,
        **settings: object,
    ):
        if replicas < 1:
            raise ServerError(f"{replicas} servers cannot serve; choose 1 or more")
        self.access, self.servers = access or Access(), []
        super().__init__(model_repository, replicas=replicas, json=self.access.json, **settings)
        if self.spec.model_control or self.spec.shared_memory:
            raise ServerError(
                "a request for model control or shared memory would reach only one of several "
                "servers; remove these options, or serve with one server"
            )

    @property
    def launcher(self) -> GatewayLauncher:
        """The way in which the gateway is started."""
        return GatewayLauncher(self.spec, None, self.access, self._ports_of_servers())

    def _ports_of_servers(self) -> list[tuple[int, ...]]:
        return [server.ports for server in self.servers]

    def _fingerprint(self) -> str:
        return f"{super()._fingerprint()} {self.launcher.fingerprint()}"

    def _start(self) -> None:
        self.launcher.check()
        self._start_servers(self.spec.replicas)
        super()._start()

    def _start_servers(self, count: int) -> None:
        """Start further servers, all at once."""
        spec = replace(self.spec, replicas=0, address=HOST, json=True)
        settings = {name: getattr(spec, name) for name in spec.to_json()}
        new = [TritonServer(**settings, ready_timeout=self.ready_timeout) for _ in range(count)]
        self.servers = [*self.servers, *new]
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda server: server.start(), new))

    def _let_go(self, gateway: str = "") -> None:
        for server in self.servers:
            server._let_go(self.run_dir.name)
        super()._let_go(gateway)

    def scale(self, replicas: int) -> None:
        """Start or stop servers until there are that many; no request is lost.

        Raises:
            ServerError: a server could not be started; the existing ones continue.
        """
        if replicas < 1:
            raise ServerError(f"{replicas} servers cannot serve; choose 1 or more")
        self._grow(replicas - len(self.servers))
        for server in self.servers[replicas:]:
            self._dismiss(server)
        self.spec = replace(self.spec, replicas=replicas)
        if self.detached:
            self._record("")

    def restart(self) -> None:
        """Replace each server by a new one, one after the other; no request is lost.

        Models that were saved again are then served.
        """
        for server in list(self.servers):
            self._grow(1)
            self._dismiss(server)

    def _grow(self, count: int) -> None:
        before = list(self.servers)
        if count <= 0:
            return
        try:
            self._start_servers(count)
        except BaseException:
            for server in self.servers[len(before) :]:
                server.stop()
            self.servers = before
            raise
        if self.detached:
            for server in self.servers[len(before) :]:
                server._let_go(self.run_dir.name)
        write_servers(self.run_dir, self._ports_of_servers())
        wait_until(lambda: self.ready_servers() >= len(self.servers))

    def _dismiss(self, server: TritonServer) -> None:
        """Stop a server once it has finished its requests; it gets no new ones meanwhile."""
        write_servers(self.run_dir, self._ports_of_servers(), leaving=server.ports)
        time.sleep(TAKEN_UP_SECONDS)
        wait_until(lambda: not self._requests_at(server))
        self.servers = [other for other in self.servers if other is not server]
        write_servers(self.run_dir, self._ports_of_servers())
        server.stop()

    def _requests_at(self, server: TritonServer) -> float:
        """Return how many requests a server has from the gateway."""
        active = self.metric("cluster_endpoint_rq_active", "endpoint_address")
        return sum(active.get(f"{HOST}:{port}", 0) for port in server.ports)


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds, but not forever; then the caller continues."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition() and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
