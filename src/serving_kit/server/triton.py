"""Start, wait for, find, and stop a Triton Inference Server.

One class for every way of starting a server; the launchers implement the ways. In each case a
supervisor process (``supervisor``) owns the server, so that nothing outlives its owner.
"""

import contextlib
import functools
import json
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from serving_kit.errors import ServerError
from serving_kit.paths import MODEL_REPOSITORY
from serving_kit.server import cells, embedded, registry, runs, supervisor
from serving_kit.server.choice import Choice, choose, launcher_for
from serving_kit.server.launcher import Launcher
from serving_kit.server.ports import TRITON_PORTS
from serving_kit.server.running import RunningServer, handle
from serving_kit.server.spec import ServerSpec

#: Supervisors that go on after this process; kept, so that Python does not complain about them.
_outliving: dict[Path, subprocess.Popen] = {}


class TritonServer(RunningServer):
    """One Triton Inference Server; use it in a ``with`` block, or start() and stop().

    By default it ends with the process that started it. A detached server keeps running, for
    other notebooks and commands, until it is stopped.

    Args:
        model_repository: the folder of models to serve.
        http_port: port of HTTP; a free one is picked when left out.
        grpc_port: port of gRPC; likewise.
        metrics_port: port of the Prometheus metrics; likewise.
        usual_ports: whether ports left out are 8000, 8001 and 8002 if these are free; this is
            the default for a detached server.
        detached: whether it keeps running when this process ends. If one that serves the same
            repository with the same settings is already running, start() uses that one.
        ready_timeout: seconds that loading all models may take.
        log_file: a file that keeps Triton's log; when left out, the log is removed with the server.
        settings: ``models``, ``mode``, ``image``, ``address``, ``model_control``,
            ``shared_memory``, ``json``, ``options``: see ``ServerSpec``.
    """

    def __init__(
        self,
        model_repository: str | Path = MODEL_REPOSITORY,
        *,
        http_port: int | None = None,
        grpc_port: int | None = None,
        metrics_port: int | None = None,
        usual_ports: bool = False,
        detached: bool = False,
        ready_timeout: float = 120,
        log_file: Path | None = None,
        **settings: object,
    ):
        #: What it serves, and how; once it was started, with the mode and the device.
        self.spec = ServerSpec(model_repository, **settings)
        self.detached, self.ready_timeout, self.log_file = detached, ready_timeout, log_file
        self._wanted_ports = (http_port, grpc_port, metrics_port)
        self._usual_ports = usual_ports or detached
        self._supervisor: subprocess.Popen | None = None
        #: The folder of this run, which goes with the server; None while there is none.
        self.run_dir: Path | None = None
        self.ports: tuple[int, ...] = ()
        #: The server's own version, once it is ready.
        self.version = ""
        #: Seconds from start() to ready.
        self.ready_after = 0.0
        #: Whether start() found it running.
        self.found_running = False

    @functools.cached_property
    def choice(self) -> Choice:
        """How it is served on this machine, and why.

        Raises:
            ServerError: see ``choose``.
        """
        return choose(self.spec.mode, self.spec.image)

    @property
    def launcher(self) -> Launcher:
        """The launcher that started it."""
        return launcher_for(self.spec, self.choice.engine)

    def start(self) -> "TritonServer":
        """Start the server and wait until it and all its models are ready.

        In a notebook it first stops what the same cell started when it was run before.

        Raises:
            ServerError: it cannot run here, died, or was not ready in time. Nothing is left
                behind.
        """
        if not self.detached:
            cells.begin(self)
        if self.run_dir:
            raise ServerError(f"this server is already running, on {self.url}; call stop() first")
        if not self.model_repository.is_dir():
            raise ServerError(
                f"{self.model_repository} is not a folder: expected a model repository"
            )
        began = time.monotonic()
        self.found_running = False
        self._resolve()
        runs.sweep()
        with registry.one_at_a_time() if self.detached else contextlib.nullcontext():
            if not (self.detached and self._take_running()):
                try:
                    self._start()
                    if self.detached:
                        self._let_go()
                except BaseException:
                    self.stop()
                    raise
        self.ready_after = time.monotonic() - began
        return self

    def _resolve(self) -> None:
        """Fill in what depends on the machine, so that specs can be compared."""
        mode, device = self.choice.mode, self.choice.device
        image = self.spec.image if mode == "docker" else embedded.installed_triton()
        self.spec = replace(self.spec, mode=mode, device=device, image=image)

    def _start(self) -> None:
        self.launcher.check()
        deadline = time.monotonic() + self.ready_timeout
        for last_try in (False, False, True):
            self.ports = self.launcher.find_ports(self._wanted_ports, usual=self._usual_ports)
            with supervisor.kept((self.spec.address, port) for port in self.ports):
                self._launch()
                try:
                    self.wait_until_ready(deadline - time.monotonic())
                except ServerError:
                    # Before it was kept, another process was quicker.
                    taken = re.search(r"already in use|port is already allocated", self.log())
                    if last_try or not taken:
                        raise
                else:
                    self._tell_supervisor(supervisor.READY)
                    self.version = self.metadata().get("version", "")
                    return
            TritonServer.stop(self)  # of a gateway not its servers

    def _launch(self) -> None:
        self.run_dir = runs.new_run_dir()
        self._supervisor = subprocess.Popen(
            [sys.executable, Path(supervisor.__file__).parent, "own", self.run_dir],
            stdin=subprocess.PIPE,
            # A program that waits for the end of our own output must not wait for this; it has a
            # log.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=self.launcher.environment(self.run_dir),
            start_new_session=True,  # a Ctrl-C in the terminal is for the owner to handle
        )
        # From here on it cleans up after us, however we end.
        self.run_dir.mkdir(mode=0o700)
        if self.log_file:
            self.log_file.write_bytes(b"")
            (self.run_dir / supervisor.LOG_FILE).symlink_to(self.log_file.resolve())
        order = json.dumps(self.launcher.order(self.run_dir, self.ports))
        self._tell_supervisor(order.encode() + b"\n")

    def _tell_supervisor(self, word: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):  # it has ended, which is seen in a moment
            self._supervisor.stdin.write(word)

    def command(self) -> str:
        """Return the shell commands that start this server by hand, ready to paste."""
        self._resolve()
        wanted = zip(self._wanted_ports, TRITON_PORTS, strict=True)
        return self.launcher.script(tuple(port or own for port, own in wanted))

    def _take_running(self) -> bool:
        """Take a detached server that is running already and has the same spec.

        Raises:
            ServerError: one with another spec has a port that is wanted here.
        """
        now = self._fingerprint()
        for record in filter(lambda each: not each.gateway, registry.records()):
            wanted_and_there = zip(self._wanted_ports, record.ports, strict=True)
            fits = all(wanted in (None, port) for wanted, port in wanted_and_there)
            other = handle(record)
            if fits and record.spec == self.spec:
                if other.is_ready() and record.fingerprint == now:
                    self.take(record)
                    self.found_running = True
                    return True
                # It is not ready, or the models were saved anew: a new one takes no longer than
                # its restart.
                other.stop()
            elif taken := [port for port in self._wanted_ports if port in record.ports]:
                raise ServerError(
                    f"port {taken[0]} is taken by {other}, which this kit started to serve "
                    f"{other.model_repository} with other settings; stop it (make stop), or choose "
                    "another port"
                )
        return False

    def _fingerprint(self) -> str:
        """Return a text that changes when another server is needed for the same spec."""
        return registry.fingerprint(self.model_repository)

    def _let_go(self, gateway: str = "") -> None:
        """Record the server, and tell its supervisor to outlive this process.

        Args:
            gateway: the name of the run of the gateway that it stands behind.
        """
        self._record(gateway)
        self._tell_supervisor(supervisor.LET_GO)
        self._supervisor.stdin.close()
        _outliving[self.run_dir] = self._supervisor
        self._supervisor = None

    def _record(self, gateway: str) -> None:
        registry.Record(
            run_dir=self.run_dir,
            spec=self.spec,
            ports=self.ports,
            version=self.version,
            fingerprint=self._fingerprint(),
            gateway=gateway,
        ).write()

    def exit_code(self) -> int | None:
        """Return the exit code of a server that ended for good; None while it runs."""
        code = super().exit_code()
        return self._supervisor.poll() if code is None and self._supervisor else code

    def stop(self) -> None:
        """Stop the server; its processes, shared memory and files are gone afterwards."""
        started, self._supervisor = self._supervisor, None
        if started:
            started.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):  # of one that is stopped itself
                started.wait(runs.STOP_SECONDS)
        run_dir = self.run_dir
        super().stop()
        if started:
            started.wait()
        if supervisor_process := _outliving.pop(run_dir, None):
            supervisor_process.wait()

    def __enter__(self) -> "TritonServer":
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()
