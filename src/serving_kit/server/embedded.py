"""The embedded Triton: the real server from the PyPI package nvidia-pytriton, on the CPU.

The package was made for another purpose; this module knows where its parts are and what they
need: a backends folder with Triton's python backend and this repository's ``backends/oneflow``,
and an environment in which the backend's processes find their libraries. A Triton that is
installed here, as in NVIDIA's containers, needs the same. If
``SERVING_KIT_TRITON`` names it, it is used in the same way, with a GPU if there is one.
"""

import importlib.util
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from serving_kit.errors import ServerError
from serving_kit.gpus import find_gpus
from serving_kit.paths import BACKENDS
from serving_kit.server import supervisor
from serving_kit.server.launcher import CPU_OPTIONS, Launcher, Ports, identity_option

LOADER = "/lib64/ld-linux-x86-64.so.2"
LIBPYTHON = "libpython3.10.so.1.0"
#: Where it may lie. Read now, because the first reading is not safe in threads that start servers.
LIBDIR, MULTIARCH = sysconfig.get_config_vars("LIBDIR", "MULTIARCH")
#: The path of an installed tritonserver, ``/opt/tritonserver/bin/tritonserver`` in containers.
TRITON_VARIABLE = "SERVING_KIT_TRITON"
#: The python backend asks for 2 MiB for each model at its start, and more for large requests.
SHARED_MEMORY_NEEDED = 16 << 20


def installed_triton() -> str:
    """Return the path of the tritonserver that ``SERVING_KIT_TRITON`` names; empty without it."""
    home = _installed_home()
    return str(home / "bin" / "tritonserver") if home else ""


def device() -> str:
    """Return what it computes on, "gpu" or "cpu": the package has no part for a GPU."""
    has_gpu = _installed_home() and any(gpu.runs_oneflow for gpu in find_gpus())
    return "gpu" if has_gpu else "cpu"


class EmbeddedLauncher(Launcher):
    """See ``Launcher``."""

    def check(self) -> None:
        """Detect before the start what would make Triton hang or fail later.

        Raises:
            ServerError: a library or space in shared memory is missing, or a file is in the way;
                the message says what to do.
        """
        _check_libraries()
        if Path("model.py").exists():
            raise ServerError(
                f"there is a model.py in {Path.cwd()}, which Triton's stub would import in place "
                "of the model's own; start the server from another folder, or rename that file"
            )
        free = shutil.disk_usage(supervisor.SHARED_MEMORY).free
        if free < SHARED_MEMORY_NEEDED:
            raise ServerError(
                f"only {free / 2**20:.1f} MiB are free in {supervisor.SHARED_MEMORY}, and "
                f"Triton's python backend needs {SHARED_MEMORY_NEEDED >> 20} or more: delete "
                "leftover files there, or make it larger (in a container: docker run "
                "--shm-size=1g)"
            )

    def order(self, run_dir: Path, ports: Ports) -> dict:
        """Lay out the run folder; return the supervisor's arguments.

        Triton loads a model again only under explicit control, so it is always started that way,
        with all models loaded; where clients may not load models, only the supervisor knows the
        secret with which it can be done, from Triton's command line.
        """
        repository = lay_out(run_dir, self.spec.model_repository)
        options = [*self.closed_shared_memory(), *self.closed_json()]
        if not any(option.startswith("--model-control-mode") for option in self.spec.options):
            options += self.explicit_control(secrets.token_hex(16))
        options = [*self._addresses(ports), identity_option(run_dir), *options, *self.spec.options]
        return {"command": self._command(run_dir, repository, options), "inside": True}

    def environment(self, run_dir: Path) -> dict[str, str]:
        """Return the environment of Triton, and of the processes that it starts."""
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        # What models and programs beside the server leave in it goes with the run.
        own = {supervisor.RUN_MARK: str(run_dir), "TMPDIR": str(run_dir / supervisor.TEMPORARY)}
        return inherited | own | _variables()

    def script(self, ports: Ports) -> str:
        """Return shell commands that start the embedded Triton as the kit does, ready to paste."""
        quote = shlex.quote
        python = str(_triton_home() / "backends" / "python")
        run_dir = quote(f"{tempfile.gettempdir()}/serving-kit-by-hand")
        lines = [
            f"mkdir -p {run_dir}/backends",
            f"cp -rT {quote(python)} {run_dir}/backends/python",
            f"ln -sf {quote(str(_stub()))} {run_dir}/backends/python/",
            f"ln -sfT {quote(str(BACKENDS / 'oneflow'))} {run_dir}/backends/oneflow",
            f"ln -sfT {quote(str(self.spec.model_repository))} {run_dir}/models",
        ]
        variables = [f"{name}={quote(value)}" for name, value in _variables().items()]
        options = [*self.closed_shared_memory(), *self.closed_json(), *self.chosen_models()]
        options = [*self._addresses(ports), *options, *self.spec.options]
        words = map(quote, self._command(run_dir, f"{run_dir}/models", options))
        return "\n".join([*lines, " \\\n  ".join([*variables, *words])])

    def title(self, version: str, url: str) -> str:
        """Return what a person calls this server."""
        kind = "installed" if self.spec.image else "embedded"
        return f"{kind} Triton {version} on {url}"

    def _addresses(self, ports: Ports) -> list[str]:
        http, grpc, metrics = ports
        address = self.spec.address
        return [
            f"--http-address={address}",
            f"--http-port={http}",
            f"--grpc-address={address}",
            f"--grpc-port={grpc}",
            f"--metrics-address={address}",
            f"--metrics-port={metrics}",
            f"--exit-timeout-secs={supervisor.EXIT_TIMEOUT_SECONDS}",
        ]

    def _command(
        self, run_dir: str | Path, repository: str | Path, options: list[str]
    ) -> list[str]:
        """Return the command line of Triton for one run.

        Args:
            run_dir: the run folder, laid out by ``lay_out``.
            repository: the model repository; a path without a space.
            options: what else the server was asked for, ports among it.
        """
        home = _triton_home()
        prefix = supervisor.shm_prefix(Path(run_dir))
        return [
            str(home / "bin" / "tritonserver"),
            f"--model-repository={repository}",
            f"--backend-directory={run_dir}/backends",
            f"--cache-directory={home}/caches",
            *(() if self.spec.device == "gpu" else CPU_OPTIONS),
            f"--backend-config=python,shm-region-prefix-name={prefix}",
            *options,
        ]


def lay_out(run_dir: Path, model_repository: Path) -> Path:
    """Lay out a run folder: backends, and a link to the repository; return the link.

    Triton's library of the python backend is copied because Triton refuses one behind a link.
    A path with a space makes Triton wait forever; a link from a path without one does not.
    """
    (run_dir / supervisor.TEMPORARY).mkdir()
    python = run_dir / "backends" / "python"
    shutil.copytree(_triton_home() / "backends" / "python", python)
    if _stub().parent.name != "python":
        (python / _stub().name).symlink_to(_stub())
    (run_dir / "backends" / "oneflow").symlink_to(BACKENDS / "oneflow")
    link = run_dir / "models"
    link.symlink_to(model_repository)
    return link


def _variables() -> dict[str, str]:
    """Return the variables that Triton and the python backend's processes need."""
    return {
        "LD_LIBRARY_PATH": _library_path(),
        "PYTHONPATH": str(_site_packages()),
        # The stub embeds Python: without this it may look for the standard library elsewhere.
        "PYTHONHOME": sys.base_prefix,
        # Drops two lines about the CUDA driver that OneFlow prints on every machine without it.
        "GLOG_minloglevel": "3",
    }


def _site_packages() -> Path:
    """Return the folder of packages that OneFlow is looked for in."""
    if _installed_home():
        return Path(sysconfig.get_path("purelib"))
    return _triton_home().parent.parent


def libtritonserver() -> Path:
    """Return the library with Triton's C API; those that it needs lie beside it.

    Raises:
        ServerError: there is none.
    """
    installed = _installed_home()
    folder = installed / "lib" if installed else _site_packages() / "nvidia_pytriton.libs"
    for library in folder.glob("libtritonserver*.so"):
        return library
    raise ServerError(
        f"there is no libtritonserver in {folder}; reinstall nvidia-pytriton, as in environment.yml"
    )


def _installed_home() -> Path | None:
    """Return the folder of the Triton that ``SERVING_KIT_TRITON`` names, if it does.

    Raises:
        ServerError: there is none.
    """
    program = os.environ.get(TRITON_VARIABLE)
    if not program:
        return None
    home = Path(program).absolute().parent.parent
    if not (Path(program).is_file() and (home / "backends" / "python").is_dir()):
        raise ServerError(
            f"{TRITON_VARIABLE} names {program}, but there is no Triton with its python backend; "
            "name the tritonserver of one, or unset it"
        )
    return home


def _triton_home() -> Path:
    """Return the folder of Triton: ``pytriton/tritonserver`` of nvidia-pytriton, or another."""
    if installed := _installed_home():
        return installed
    package = importlib.util.find_spec("pytriton")
    if package is None:
        raise ServerError(
            "the package nvidia-pytriton, which carries Triton, is not installed here; "
            "run the set-up (make) or pip install the list in environment.yml"
        )
    return Path(package.submodule_search_locations[0]) / "tritonserver"


def _stub() -> Path:
    """Return the process in which Triton's python backend runs Python 3.10."""
    package = _triton_home() / "python_backend_stubs" / "3.10" / supervisor.STUB
    return package if package.exists() else _triton_home() / "backends" / "python" / supervisor.STUB


def _library_path() -> str:
    """Return where Triton's and Python's shared libraries lie, for LD_LIBRARY_PATH."""
    folders = [_site_packages() / "nvidia_pytriton.libs"]
    inherited = os.environ.get("LD_LIBRARY_PATH", "") if _installed_home() else ""
    for folder in (Path(LIBDIR), Path(LIBDIR) / str(MULTIARCH), Path(sys.base_prefix) / "lib"):
        if (folder / LIBPYTHON).exists():
            folders.append(folder)
            break
    return os.pathsep.join([*map(str, folders), *filter(None, inherited.split(os.pathsep))])


def _check_libraries() -> None:
    """Ask the loader whether the stub finds all its libraries; without one, Triton hangs."""
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
            f"Triton's stub cannot be loaded on this machine: {what}; is nvidia-pytriton "
            "completely installed, and is this x86-64 Linux with glibc 2.35 or newer?"
        )
