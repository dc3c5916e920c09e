"""Start, wait for, find, and stop a Triton Inference Server.

One class for three ways to a server: Docker with the kit's image, Docker with the page's, and
the embedded Triton, which needs neither Docker nor a GPU. Whichever it is, a supervisor process
(``supervisor.py``) owns it, so that nothing of it outlives whoever wanted it.
"""

import contextlib
import hashlib
import http.client
import json
import os
import re
import secrets
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from serving_kit.errors import ServerError
from serving_kit.paths import BACKENDS, MODEL_REPOSITORY
from serving_kit.server import docker, embedded, runs, supervisor
from serving_kit.server.docker import KIT_IMAGE, TRITON_PORTS
from serving_kit.server.ports import HOST, free_ports, get
from serving_kit.server.triton_log import causes_in, last_lines

MODES = ("auto", "docker", "local")
#: Overrides ``mode="auto"``: a machine's owner knows better.
MODE_VARIABLE = "SERVING_KIT_SERVER"
#: The header that opens model control where the kit keeps it closed to others.
CONTROL_HEADER = "serving-kit-control"

#: Supervisors that go on after this process; kept, so that Python does not complain about them.
_let_go: dict[Path, subprocess.Popen] = {}


@dataclass(frozen=True)
class Choice:
    """Which way to a server was chosen, and why."""

    #: "docker" or "local".
    mode: str
    #: "gpu" or "cpu".
    device: str
    why: str
    engine: docker.Engine | None = None


def choose(mode: str = "auto", image: str = KIT_IMAGE) -> Choice:
    """Choose a way to a server by looking at this machine.

    Args:
        mode: "docker" or "local" to be obeyed; "auto" takes Docker where it can use a GPU that
            OneFlow has kernels for and the image is there, and else the embedded Triton.
        image: the Docker image.

    Raises:
        ServerError: no such mode, or Docker is wanted and cannot work here.
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
        return Choice("local", "cpu", str(error))
    problem = docker.gpu_problem(engine)
    if mode == "auto":
        if not problem and not docker.has_image(image):
            problem = f"the image {image} is not on this machine"
        if problem:
            return Choice("local", "cpu", problem)
    if problem and image != KIT_IMAGE:
        raise ServerError(
            f"the image {image} needs a GPU, and {problem}; choose the image {KIT_IMAGE}, which "
            "serves on the CPU too, or the embedded server: SERVER=local"
        )
    if problem:
        return Choice("docker", "cpu", problem, engine)
    return Choice("docker", "gpu", f"Docker {engine.version} with a GPU for OneFlow", engine)


class TritonServer:
    """One Triton Inference Server; use it in a ``with`` block, or start() and stop().

    By itself it ends with the process that started it. A detached one goes on, for other
    notebooks and commands, until it is stopped.

    Args:
        model_repository: the folder of models to serve.
        models: the names of those to load at the start; all that are there when left out.
        mode: "auto", "docker" or "local"; see ``choose``.
        image: the Docker image, if it comes to that.
        http_port: port of HTTP; a free one is picked when left out.
        grpc_port: port of gRPC; likewise.
        metrics_port: port of the Prometheus metrics; likewise.
        address: the network address of this machine to listen on; "0.0.0.0" is all of them.
        model_control: whether clients may load and unload models.
        detached: whether it goes on when this process ends. If one that serves the same
            repository in the same way is running already, start() takes that one.
        ready_timeout: seconds that loading all models may take.
        log_file: where Triton's log goes and stays; when left out, it goes with the server.
        options: further options of tritonserver, ``"--log-verbose=1"`` for example.
    """

    def __init__(
        self,
        model_repository: str | Path = MODEL_REPOSITORY,
        *,
        models: Iterable[str] | None = None,
        mode: str = "auto",
        image: str = KIT_IMAGE,
        http_port: int | None = None,
        grpc_port: int | None = None,
        metrics_port: int | None = None,
        address: str = HOST,
        model_control: bool = False,
        detached: bool = False,
        ready_timeout: float = 120,
        log_file: Path | None = None,
        options: Iterable[str] = (),
    ):
        self.model_repository = Path(model_repository).resolve()
        self.wanted_models = None if models is None else tuple(models)
        self.mode = mode
        self.image = image
        self.address = address
        self.model_control = model_control
        self.detached = detached
        self.ready_timeout = ready_timeout
        self.log_file = log_file
        self.options = tuple(options)
        self._wanted_ports = (http_port, grpc_port, metrics_port)
        self._supervisor: subprocess.Popen | None = None
        self._run_dir: Path | None = None
        #: How it is served, once it was started.
        self.choice: Choice | None = None
        self.ports: tuple[int, ...] = ()
        #: The server's own version, once it is ready.
        self.version = ""
        #: Seconds from start() to ready.
        self.ready_after = 0.0
        #: Whether start() found it running.
        self.found_running = False

    @property
    def url(self) -> str:
        """Host and port of HTTP, as tritonclient takes them."""
        return f"{self._client_address}:{self.ports[0]}"

    @property
    def grpc_url(self) -> str:
        """Host and port of gRPC, as tritonclient takes them."""
        return f"{self._client_address}:{self.ports[1]}"

    @property
    def metrics_url(self) -> str:
        """Where Prometheus finds the metrics."""
        return f"http://{self._client_address}:{self.ports[2]}/metrics"

    @property
    def _client_address(self) -> str:
        return HOST if self.address == "0.0.0.0" else self.address

    @property
    def is_reachable_from_elsewhere(self) -> bool:
        """Whether it listens on more than this machine's loopback."""
        return self._is_foreign_image or not self.address.startswith("127.")

    @property
    def _is_foreign_image(self) -> bool:
        """Whether it is served by the page's image, or another one that is not the kit's."""
        return self.choice.mode == "docker" and self.image != KIT_IMAGE

    def start(self) -> "TritonServer":
        """Start the server and wait until it and all its models are ready.

        Raises:
            ServerError: it cannot work here, died, or was not ready in time. Nothing is left
                behind.
        """
        if self._run_dir:
            raise ServerError(f"this server is already running, on {self.url}; stop() it first")
        if not self.model_repository.is_dir():
            raise ServerError(
                f"{self.model_repository} is not a folder: expected a model repository"
            )
        began = time.monotonic()
        self.choice = choose(self.mode, self.image)
        runs.sweep()
        with runs.one_at_a_time() if self.detached else contextlib.nullcontext():
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

    def _start(self) -> None:
        if self.choice.mode == "local":
            embedded.check_machine()
        elif not docker.has_image(self.image):
            if self.image == KIT_IMAGE:
                raise ServerError(f"the image {self.image} is not built yet; run: make image")
            docker.pull(self.image)
        deadline = time.monotonic() + self.ready_timeout
        for last_try in (False, False, True):
            self.ports = self._find_ports()
            self._launch()
            try:
                self._wait_until_ready(deadline)
            except ServerError:
                # Between finding a port free and Triton taking it, another process was quicker.
                taken = re.search(r"already in use|port is already allocated", self.log())
                if last_try or not taken:
                    raise
                self.stop()
            else:
                self.version = json.loads(self._get("/v2")[1])["version"]
                return

    def _find_ports(self) -> tuple[int, ...]:
        if self._is_foreign_image:
            # The page's command says nothing of ports; clients find Triton's own.
            return free_ports(self._wanted_or(TRITON_PORTS), self.address)
        if self.detached and not any(self._wanted_ports):
            with contextlib.suppress(ServerError):
                return free_ports(TRITON_PORTS, self.address)
        return free_ports(self._wanted_ports, self.address)

    def _wanted_or(self, ports: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(w or port for w, port in zip(self._wanted_ports, ports, strict=True))

    def _launch(self) -> None:
        self._run_dir = runs.new_run_dir()
        environment = {**os.environ, supervisor.RUN_MARK: str(self._run_dir)}
        if self.choice.mode == "local":
            environment = embedded.environment(self._run_dir)
        self._supervisor = subprocess.Popen(
            [sys.executable, supervisor.__file__, self._run_dir],
            stdin=subprocess.PIPE,
            # Who waits for the end of our own output must not wait for this; it has a log.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=environment,
            start_new_session=True,  # a Ctrl-C in the terminal is for the owner to handle
        )
        # From here on it cleans up after us, however we end.
        self._run_dir.mkdir(mode=0o700)
        if self.log_file:
            self.log_file.write_bytes(b"")
            (self._run_dir / "log").symlink_to(self.log_file.resolve())
        control = None
        if self.choice.mode == "docker":
            command = self._docker_command(self._run_dir)
        else:
            repository = embedded.lay_out(self._run_dir, self.model_repository)
            options, control = self._control()
            command = embedded.command(
                self._run_dir, repository, [*self._local_options(), *options, *self.options]
            )
        order = json.dumps({"command": command, "control": control})
        with contextlib.suppress(BrokenPipeError):  # it has ended; who waits for Triton will see
            self._supervisor.stdin.write(order.encode() + b"\n")

    def _local_options(self) -> list[str]:
        http, grpc, metrics = self.ports
        return [
            f"--http-address={self.address}",
            f"--http-port={http}",
            f"--grpc-address={self.address}",
            f"--grpc-port={grpc}",
            f"--metrics-address={self.address}",
            f"--metrics-port={metrics}",
            f"--exit-timeout-secs={supervisor.EXIT_TIMEOUT_SECONDS}",
        ]

    def _control(self) -> tuple[list[str], dict | None]:
        """Return options that let the supervisor load a model again, and how it may.

        Triton takes orders of that kind only under explicit control, so it is always that, with
        all models loaded at the start; and where others shall not give such orders, they are
        answered only with a header that this server's supervisor knows.
        """
        if any(option.startswith("--model-control-mode") for option in self.options):
            return [], None
        secret = secrets.token_hex(16)
        header = [CONTROL_HEADER, secret]
        return self._explicit_control(secret), {
            "address": self._client_address, "port": self.ports[0], "header": header
        }  # fmt: skip

    def _explicit_control(self, secret: str) -> list[str]:
        """Return options that load the wanted models, and others for who knows the secret."""
        names = ("*",) if self.wanted_models is None else self.wanted_models
        options = ["--model-control-mode=explicit", *(f"--load-model={name}" for name in names)]
        # The page's Triton is older than restrictions, and listens to everybody anyway.
        if not self.model_control and not self._is_foreign_image:
            restricted = f"model-repository:{CONTROL_HEADER}={secret}"
            options += [
                f"--http-restricted-api={restricted}",
                f"--grpc-restricted-protocol={restricted}",
            ]
        return options

    def _docker_command(self, run_dir: Path | None) -> list[str]:
        options = [*self._few_models(), *self.options]
        if self.image == KIT_IMAGE:
            options.insert(0, f"--exit-timeout-secs={supervisor.EXIT_TIMEOUT_SECONDS}")
            return docker.kit_command(
                self.choice.engine, self.choice.device, self.model_repository, self.address,
                self.ports, options, run_dir,
            )  # fmt: skip
        names = ("--http-port", "--grpc-port", "--metrics-port")
        for name, port, usual in zip(names, self.ports, TRITON_PORTS, strict=True):
            if port != usual:
                options.append(f"{name}={port}")
        return docker.page_command(
            self.choice.engine, self.model_repository, self.image, options, run_dir
        )

    def command(self) -> str:
        """Return the shell commands that start this server by hand, ready to paste."""
        self.choice = choose(self.mode, self.image)
        self.ports = self._wanted_or(TRITON_PORTS)
        if self.choice.mode == "docker":
            return shlex.join(self._docker_command(None))
        options = [*self._local_options(), *self._few_models(), *self.options]
        return embedded.script(self.model_repository, options)

    def _few_models(self) -> list[str]:
        """Return the options of explicit control where Triton would not load all models else."""
        if not self.model_control and self.wanted_models is None:
            return []
        return self._explicit_control(secrets.token_hex(16))

    def _take_running(self) -> bool:
        """Take a detached server that is running already and does what this one shall do.

        Raises:
            ServerError: one that does something else has a port that is wanted here.
        """
        for record in runs.records():
            other = _from_record(record)
            fits = all(
                wanted in (None, port)
                for wanted, port in zip(self._wanted_ports, record.ports, strict=True)
            )
            if fits and other._purpose() == self._purpose():
                if other.is_ready() and record.fingerprint == fingerprint(self.model_repository):
                    self.__dict__ |= other.__dict__ | {"found_running": True}
                    return True
                # Triton has died, or the models were saved anew: it serves what nobody wants.
                other.stop()
            elif taken := [port for port in self._wanted_ports if port in record.ports]:
                raise ServerError(
                    f"port {taken[0]} is taken by {other}, which this kit started to serve "
                    f"{other.model_repository} in another way; stop it (make stop), or choose "
                    "another port"
                )
        return False

    def _purpose(self) -> tuple:
        """Return what two servers have in common of which one can stand for the other."""
        image = self.image if self.choice.mode == "docker" else ""
        return (
            *(self.model_repository, self.choice.mode, self.choice.device, image),
            *(self.address, self.model_control, self.wanted_models, self.options),
        )

    def _let_go(self) -> None:
        """Record the server, and tell its supervisor that it shall outlive this process."""
        runs.Record(
            run_dir=str(self._run_dir),
            settings={
                "model_repository": str(self.model_repository),
                "mode": self.mode,
                "image": self.image,
                "address": self.address,
                "model_control": self.model_control,
                "models": self.wanted_models,
                "ready_timeout": self.ready_timeout,
                "options": self.options,
            },
            fingerprint=fingerprint(self.model_repository),
            choice={"mode": self.choice.mode, "device": self.choice.device, "why": self.choice.why},
            ports=list(self.ports),
            version=self.version,
        ).write()
        self._supervisor.stdin.write(supervisor.LET_GO)
        self._supervisor.stdin.close()
        _let_go[self._run_dir] = self._supervisor
        self._supervisor = None

    def _wait_until_ready(self, deadline: float) -> None:
        while not (self.is_ready() and self._listens()):
            if (code := self.exit_code()) is not None:
                raise ServerError(
                    f"Triton ended with exit code {code} before it was ready{self._why()}"
                )
            if time.monotonic() > deadline:
                raise ServerError(
                    f"Triton was not ready after {self.ready_timeout:.0f} s{self._why()}"
                )
            time.sleep(0.05)

    def is_ready(self) -> bool:
        """Ask ``/v2/health/ready``: True when the server and all its models are ready."""
        return self._run_dir is not None and self._answers_200("/v2/health/ready")

    def _listens(self) -> bool:
        """Tell whether it is this very server that answers on its port, and not another one.

        Of two that are started on one port at the same time, the second dies only after it has
        loaded its models, and until then would take the first one's answers for its own. Triton
        opens its metrics last, after HTTP, and says so.
        """
        is_quiet = any(o.startswith(("--log-info", "--allow-metrics")) for o in self.options)
        return is_quiet or "Started Metrics Service" in self.log()

    def models(self) -> dict[str, bool]:
        """Return the models that were to be loaded, and whether each is ready to serve."""
        names = self.wanted_models
        if names is None:
            names = []
            with contextlib.suppress(FileNotFoundError):  # moved away since
                names = sorted(
                    folder.name
                    for folder in self.model_repository.iterdir()
                    if folder.is_dir() and not folder.name.startswith(".")
                )
        return {name: self._answers_200(f"/v2/models/{name}/ready") for name in names}

    def _answers_200(self, path: str) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            status, _ = self._get(path)
            return status == 200
        return False

    def _get(self, path: str) -> tuple[int, bytes]:
        return get(self._client_address, self.ports[0], path)

    @property
    def run_dir(self) -> Path:
        """The folder of this run, which goes with the server."""
        return self._run_dir

    def start_beside(
        self, command: list[str | Path], output: Path, **variables: str
    ) -> subprocess.Popen:
        """Start a program that ends with this server at the latest, a web page for example.

        Whatever it leaves among the temporary files goes with the server, too.

        Args:
            command: the program and its arguments.
            output: the file for what it prints.
            variables: of its environment, in addition to ours.
        """
        temporary = self._run_dir / "tmp"
        temporary.mkdir(exist_ok=True)
        marks = {supervisor.RUN_MARK: str(self._run_dir), "TMPDIR": str(temporary)}
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
        """Return the exit code of a server that ended by itself; None while it runs."""
        if not self._run_dir:
            return None
        with contextlib.suppress(FileNotFoundError):
            return int((self._run_dir / "exit_code").read_text())
        return self._supervisor.poll() if self._supervisor else None

    def log(self) -> str:
        """Return what Triton has printed so far."""
        file = self._run_dir and self._run_dir / "log"
        return file.read_text(errors="replace") if file and file.exists() else ""

    def _why(self) -> str:
        """Return what the log gives as the cause, and its last lines."""
        # The link to the repository means nothing to anybody else.
        log = self.log().replace(f"{self._run_dir}/models", str(self.model_repository))
        causes = causes_in(log)
        text = f": {'; '.join(causes)}" if causes else ""
        if not log.strip():
            return f"{text}; it has written no log"
        return f"{text}\nIts log ends:\n" + "\n".join(f"  {line}" for line in last_lines(log))

    def stop(self) -> None:
        """Stop the server; its processes, shared memory and files are gone afterwards."""
        if self._supervisor:
            self._supervisor.stdin.close()
            self._supervisor.wait()
            self._supervisor = None
        if self._run_dir:
            runs.end(self._run_dir)
            runs.forget(self._run_dir)
            if supervisor_process := _let_go.pop(self._run_dir, None):
                supervisor_process.wait()
            self._run_dir = None

    def __enter__(self) -> "TritonServer":
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def __str__(self) -> str:
        if self.choice and self.choice.mode == "docker":
            return (
                f"Triton {self.version} in Docker ({self.image}, {self.choice.device.upper()}) "
                f"on {self.url}"
            )
        return f"{embedded.kind()} Triton {self.version} on {self.url}"


def running_servers() -> list[TritonServer]:
    """Return the detached servers of this clone, oldest first."""
    return [_from_record(record) for record in runs.records()]


def _from_record(record: runs.Record) -> TritonServer:
    server = TritonServer(**record.settings, detached=True)
    server._run_dir = Path(record.run_dir)
    server.choice = Choice(**record.choice)
    server.ports = tuple(record.ports)
    server.version = record.version
    return server


def fingerprint(model_repository: Path) -> str:
    """Return a text that changes when a file of a model repository or of the backend does."""
    digest = hashlib.sha256()
    for top in (model_repository, BACKENDS / "oneflow"):
        for folder, folders, files in os.walk(top):
            # What Python writes as it runs, and what is still being written.
            folders[:] = sorted(n for n in folders if n != "__pycache__" and n[0] != ".")
            for name in sorted(files):
                path = Path(folder, name)
                with contextlib.suppress(OSError):
                    status = path.stat()
                    digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
