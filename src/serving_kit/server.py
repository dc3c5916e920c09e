"""Start, wait for, and stop a Triton Inference Server on this machine, without Docker or a GPU.

The server is the real one, out of the PyPI package nvidia-pytriton. It gets a backends folder
with Triton's python backend and this repository's ``backends/oneflow``, and listens on 127.0.0.1
only. A supervisor process (``supervisor.py``) owns it, so that nothing of it outlives this
process, whatever happens to it.
"""

import contextlib
import http.client
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from serving_kit import supervisor
from serving_kit.errors import ServerError
from serving_kit.paths import BACKENDS, MODEL_REPOSITORY

HOST = "127.0.0.1"
RUN_PREFIX = "serving-kit-run-"
#: A supervisor writes its PID well within this time after its run folder was made.
STARTING_SECONDS = 60
LOADER = "/lib64/ld-linux-x86-64.so.2"
LIBPYTHON = "libpython3.10.so.1.0"


class TritonServer:
    """One embedded Triton Inference Server; use it in a ``with`` block, or start() and stop().

    Args:
        model_repository: the folder of models to serve.
        http_port: port of HTTP; a free one is picked when left out.
        grpc_port: port of gRPC; likewise.
        metrics_port: port of the Prometheus metrics; likewise.
        ready_timeout: seconds that loading all models may take.
        options: further options of tritonserver, ``"--model-control-mode=explicit"`` for example.
    """

    def __init__(
        self,
        model_repository: str | Path = MODEL_REPOSITORY,
        *,
        http_port: int | None = None,
        grpc_port: int | None = None,
        metrics_port: int | None = None,
        ready_timeout: float = 120,
        options: Iterable[str] = (),
    ):
        self.model_repository = Path(model_repository).resolve()
        self.ready_timeout = ready_timeout
        self.options = tuple(options)
        self._wanted_ports = (http_port, grpc_port, metrics_port)
        self._supervisor: subprocess.Popen | None = None
        self._run_dir: Path | None = None
        self.ports: tuple[int, ...] = ()
        #: The server's own version, once it is ready.
        self.version = ""
        #: Seconds from start() to ready.
        self.ready_after = 0.0

    @property
    def url(self) -> str:
        """Host and port of HTTP, as tritonclient takes them."""
        return f"{HOST}:{self.ports[0]}"

    @property
    def grpc_url(self) -> str:
        """Host and port of gRPC, as tritonclient takes them."""
        return f"{HOST}:{self.ports[1]}"

    def start(self) -> "TritonServer":
        """Start the server and wait until it and all its models are ready.

        Raises:
            ServerError: it cannot work here, died, or was not ready in time. Nothing is left
                behind.
        """
        if self._supervisor:
            raise ServerError(f"this server is already running, on {self.url}; stop() it first")
        if not self.model_repository.is_dir():
            raise ServerError(
                f"{self.model_repository} is not a folder: expected a model repository"
            )
        _check_libraries()
        _sweep_dead_runs()
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def _start(self) -> None:
        began = time.monotonic()
        for last_try in (False, False, True):
            self.ports = _find_ports(self._wanted_ports)
            self._launch()
            try:
                self._wait_until_ready(began + self.ready_timeout)
            except ServerError:
                # Between finding a port free and Triton taking it, another process was quicker.
                taken = "already in use" in self.log()
                if last_try or not taken or all(self._wanted_ports):
                    raise
                self.stop()
            else:
                self.ready_after = time.monotonic() - began
                self.version = json.loads(self._get("/v2")[1])["version"]
                return

    def _launch(self) -> None:
        self._run_dir = Path(tempfile.mkdtemp(prefix=RUN_PREFIX))
        if any(character.isspace() for character in str(self._run_dir)):
            raise ServerError(
                f"Triton cannot work in {self._run_dir.parent}, the folder for temporary files: "
                "its path has a space; set TMPDIR to a folder without one"
            )
        _compose_backends(self._run_dir / "backends")
        # A path with a space makes Triton wait for ever; a link from a path without one does not.
        (self._run_dir / "models").symlink_to(self.model_repository)
        self._supervisor = subprocess.Popen(
            [sys.executable, supervisor.__file__, self._run_dir, json.dumps(self._command())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=_environment(self._run_dir),
            start_new_session=True,  # a Ctrl-C in the terminal is for the owner to handle
        )

    def _command(self) -> list[str]:
        http, grpc, metrics = self.ports
        return [
            str(_triton_home() / "bin" / "tritonserver"),
            f"--model-repository={self._run_dir / 'models'}",
            f"--backend-directory={self._run_dir / 'backends'}",
            "--model-config-name=cpu",
            f"--http-address={HOST}",
            f"--http-port={http}",
            f"--grpc-address={HOST}",
            f"--grpc-port={grpc}",
            f"--metrics-address={HOST}",
            f"--metrics-port={metrics}",
            "--allow-gpu-metrics=false",
            "--pinned-memory-pool-byte-size=0",
            f"--backend-config=python,shm-region-prefix-name={supervisor.shm_prefix(self._run_dir)}",
            f"--exit-timeout-secs={supervisor.EXIT_TIMEOUT_SECONDS}",
            *self.options,
        ]

    def _wait_until_ready(self, deadline: float) -> None:
        while not self.is_ready():
            if self._exit_code() is not None:
                raise ServerError(
                    f"Triton ended with exit code {self._exit_code()} before it was ready. "
                    f"Its log says:\n{self._log_end()}"
                )
            if time.monotonic() > deadline:
                raise ServerError(
                    f"Triton was not ready after {self.ready_timeout:.0f} s. "
                    f"Its log ends:\n{self._log_end()}"
                )
            time.sleep(0.05)

    def is_ready(self) -> bool:
        """Ask ``/v2/health/ready``: True when the server and all its models are ready."""
        if not self._supervisor:
            return False
        with contextlib.suppress(OSError, http.client.HTTPException):
            status, _ = self._get("/v2/health/ready")
            return status == 200
        return False

    def _get(self, path: str) -> tuple[int, bytes]:
        """GET from the server, never through a proxy that the environment may name."""
        connection = http.client.HTTPConnection(HOST, self.ports[0], timeout=5)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Connection": "close"})
            answer = connection.getresponse()
            return answer.status, answer.read()

    def _exit_code(self) -> int | None:
        """Return Triton's exit code when it ended by itself, or the supervisor's."""
        with contextlib.suppress(FileNotFoundError):
            return int((self._run_dir / "exit_code").read_text())
        return self._supervisor.poll()

    def log(self) -> str:
        """Return what Triton has printed so far."""
        file = self._run_dir and self._run_dir / "log"
        return file.read_text(errors="replace") if file and file.exists() else ""

    def _log_end(self) -> str:
        """Return the log's errors and last lines, without the frames of Triton's tables."""
        lines = [line for line in self.log().splitlines() if line and line[0] not in "+|"]
        errors = [line for line in lines[:-12] if line.startswith("E") and "failed" in line]
        return "\n".join(f"  {line}" for line in errors + lines[-12:])

    def stop(self) -> None:
        """Stop the server; its processes, shared memory and files are gone afterwards."""
        if self._supervisor:
            self._supervisor.stdin.close()
            self._supervisor.wait()
            self._supervisor = None
        if self._run_dir:
            supervisor.clean_up(self._run_dir)
            self._run_dir = None

    def __enter__(self) -> "TritonServer":
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def __str__(self) -> str:
        return f"embedded Triton {self.version} on {self.url}"


def _site_packages() -> Path:
    return _triton_home().parent.parent


def _triton_home() -> Path:
    """Return the folder ``pytriton/tritonserver`` of the installed nvidia-pytriton."""
    package = importlib.util.find_spec("pytriton")
    if package is None:
        raise ServerError(
            "the package nvidia-pytriton, which carries Triton, is not installed here; "
            "run the set-up (make) or pip install the list in environment.yml"
        )
    return Path(package.submodule_search_locations[0]) / "tritonserver"


def _stub() -> Path:
    """Return the process in which Triton's python backend runs Python 3.10."""
    return _triton_home() / "python_backend_stubs" / "3.10" / "triton_python_backend_stub"


def _library_path() -> str:
    """Return where Triton's and Python's shared libraries lie, for LD_LIBRARY_PATH."""
    folders = [_site_packages() / "nvidia_pytriton.libs"]
    libdir, multiarch = sysconfig.get_config_vars("LIBDIR", "MULTIARCH")
    for folder in (Path(libdir), Path(libdir) / str(multiarch), Path(sys.base_prefix) / "lib"):
        if (folder / LIBPYTHON).exists():
            folders.append(folder)
            break
    return os.pathsep.join(map(str, folders))


def _environment(run_dir: Path) -> dict[str, str]:
    """Return the environment of Triton and of the stubs that it starts."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return inherited | {
        supervisor.RUN_MARK: str(run_dir),
        "LD_LIBRARY_PATH": _library_path(),
        "PYTHONPATH": str(_site_packages()),
        # The stub embeds Python: without this it may look for the standard library elsewhere.
        "PYTHONHOME": sys.base_prefix,
        # Drops two lines about the CUDA driver that OneFlow prints on every machine without one.
        "GLOG_minloglevel": "3",
    }


def _check_libraries() -> None:
    """Ask the loader whether the stub finds all its libraries; without one, Triton hangs.

    Raises:
        ServerError: naming what is missing and how to get it.
    """
    ask = {"LD_TRACE_LOADED_OBJECTS": "1", "LD_LIBRARY_PATH": _library_path()}  # as ldd does
    listing = subprocess.run(
        [LOADER, _stub()], env={**os.environ, **ask}, capture_output=True, text=True, check=False
    )
    missing = [line.split()[0] for line in listing.stdout.splitlines() if "not found" in line]
    if LIBPYTHON in missing:
        raise ServerError(
            f"Triton needs {LIBPYTHON}, which this Python ({sys.base_prefix}) does not have; "
            "install it (Debian, Ubuntu: apt install libpython3.10) or use another Python 3.10"
        )
    if missing or listing.returncode:
        what = f"{', '.join(missing)} not found" if missing else listing.stderr.strip()
        raise ServerError(
            f"Triton's stub cannot be loaded on this machine: {what}; is nvidia-pytriton installed "
            "whole, and is this x86-64 Linux with glibc 2.35 or newer?"
        )


def _sweep_dead_runs() -> None:
    """Clean up after runs whose supervisor was itself killed."""
    for run_dir in Path(tempfile.gettempdir()).glob(f"{RUN_PREFIX}*"):
        # A run of another user cannot be read; one that ends just now is gone.
        with contextlib.suppress(OSError):
            if run_dir.stat().st_uid == os.getuid() and not _is_supervised(run_dir):
                supervisor.clean_up(run_dir)


def _is_supervised(run_dir: Path) -> bool:
    """Tell whether a run's supervisor is alive, or may be about to start."""
    try:
        pid = int((run_dir / "supervisor.pid").read_text())
        return str(run_dir).encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        pid_is_written = (run_dir / "supervisor.pid").exists()
        return not pid_is_written and time.time() - run_dir.stat().st_mtime < STARTING_SECONDS


def _find_ports(wanted: tuple[int | None, ...]) -> tuple[int, ...]:
    """Return the wanted ports, each seen to be free, and free ones for those left open.

    Raises:
        ServerError: a wanted port is taken.
    """
    with contextlib.ExitStack() as held:
        ports = []
        for port in wanted:
            listener = held.enter_context(socket.socket())
            # As Triton does: a port whose last connections are only fading away counts as free.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((HOST, port or 0))
            except OSError:
                raise ServerError(
                    f"port {port} of {HOST} is taken by another program; "
                    "stop that one, or choose another port"
                ) from None
            ports.append(listener.getsockname()[1])
        return tuple(ports)


def _compose_backends(folder: Path) -> None:
    """Lay out a backends folder: Triton's python backend, its stub, and ``backends/oneflow``.

    The library is copied because Triton refuses one behind a link; the rest are links.
    """
    python = folder / "python"
    python.mkdir(parents=True)
    for file in (_triton_home() / "backends" / "python").iterdir():
        shutil.copy(file, python)
    (python / _stub().name).symlink_to(_stub())
    (folder / "oneflow").symlink_to(BACKENDS / "oneflow")
