"""tools/set_up.sh, run in small copies of the kit.

The copies have the real scripts, a list of one package beside the build backend, and a PATH that
holds only what a test puts there: so a test decides which machine the script believes it is on.
What is installed comes from the package index that this machine's uv and pip are set to.
"""

import contextlib
import hashlib
import os
import re
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON = Path(sys._base_executable).resolve()
UV = Path(sys.executable).with_name("uv")
# fmt: off
TOOLS = [
    "bash", "cat", "cut", "df", "dirname", "du", "env", "find", "flock", "getconf", "grep", "head",
    "mkdir", "mv", "readlink", "rm", "rmdir", "sed", "sha256sum", "sh", "sort", "tail", "uname",
]
BACKEND = [
    "hatchling", "editables", "packaging", "pathspec", "pluggy", "tomli", "trove-classifiers",
]
# fmt: on
LIMIT = 300
PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "serving-kit"
version = "0.1.0"
[tool.hatch.build.targets.wheel]
packages = ["src/serving_kit"]
"""
ROOMY_DF = 'echo "file system"; echo "/dev/x 99999999 1 99999998 1% /"'


def lock_entry(package, lock="environment.lock"):
    text = (ROOT / lock).read_text(encoding="utf-8")
    return re.search(rf"^{package}==.*\n(?: +--hash.*\n)+", text, re.M).group()


class Machine:
    """A copy of the kit, and the PATH and environment of the machine it is set up on."""

    def __init__(self, folder):
        self.kit = folder / "a kit-1.0"
        self.commands = folder / "commands"
        self.home = folder / "home"
        for made in (self.kit / "src/serving_kit", self.commands, self.home):
            made.mkdir(parents=True)
        for tool in TOOLS:
            (self.commands / tool).symlink_to(shutil.which(tool))
        self.command("df", ROOMY_DF)
        shutil.copytree(ROOT / "tools", self.kit / "tools")
        (self.kit / "src/serving_kit/__init__.py").touch()
        (self.kit / "pyproject.toml").write_text(PYPROJECT)
        self.list("iniconfig")
        self.environment = self.clean_environment(folder)
        self.started = []

    def clean_environment(self, folder):
        dropped = r"(KIT|PYENV|CONDA|PYTHON|XDG_DATA)|VIRTUAL_ENV|UV_PYTHON|UV_OFFLINE"
        kept = {name: value for name, value in os.environ.items() if not re.match(dropped, name)}
        uv_cache = subprocess.check_output([UV, "cache", "dir"], text=True).strip()
        return kept | {
            "PATH": str(self.commands),
            "HOME": str(self.home),
            # Where the machine's index is set, and what it has downloaded already.
            "XDG_CONFIG_HOME": os.environ.get("XDG_CONFIG_HOME", str(Path.home() / ".config")),
            "UV_CACHE_DIR": uv_cache,
            "UV_PYTHON_INSTALL_DIR": str(folder / "uv pythons"),
        }

    def command(self, name, script, folder=None):
        """Put a shell script on PATH, or into another folder, in place of the real command."""
        path = (folder or self.commands) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def link(self, name, target):
        (self.commands / name).unlink(missing_ok=True)
        (self.commands / name).symlink_to(target)

    def list(self, *packages):
        """Write an environment.yml of these packages and the backend, and its locks."""
        entries = [lock_entry(package) for package in [*packages, *BACKEND]]
        pins = [entry.split()[0] for entry in entries]
        text = "".join(f"{pin}\n" for pin in pins)
        origin = f"# sha256 of the list: {hashlib.sha256(text.encode()).hexdigest()}\n"
        headless = lock_entry("opencv-python-headless", "environment-headless.lock")
        self.write("environment.yml", "".join(f"      - {pin}\n" for pin in pins))
        self.write("environment.lock", origin + "".join(entries))
        self.write("environment-headless.lock", origin + headless)
        self.write("environment-conda.lock", origin + text)

    def write(self, name, text):
        (self.kit / name).write_text(text)

    def start(self, **variables):
        process = subprocess.Popen(
            ["bash", "tools/set_up.sh"],
            cwd=self.kit,
            env=self.environment | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def set_up(self, **variables):
        process = self.start(**variables)
        out, err = process.communicate(timeout=LIMIT)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def install(self, **variables):
        done = self.set_up(**variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def refusal(self, **variables):
        """Run a set-up that must refuse: one line that says why, and nothing created."""
        done = self.set_up(**variables)
        assert done.returncode == 1
        assert not (self.kit / ".venv").exists()
        (line,) = done.stderr.splitlines()
        return line

    def end_processes(self):
        for process in self.started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    def installed(self):
        found = (self.kit / ".venv/lib/python3.10/site-packages").glob("*.dist-info")
        return {path.name.split("-")[0].lower().replace("_", "-") for path in found}

    def kit_is_importable(self):
        code = "import serving_kit; print(serving_kit.__file__)"
        command = [self.kit / ".venv/bin/python", "-B", "-c", code]
        printed = subprocess.check_output(command, cwd=self.home, text=True)
        return Path(printed.strip()) == self.kit / "src/serving_kit/__init__.py"

    def content(self):
        return {
            path: (path.lstat().st_mtime_ns, path.lstat().st_ino)
            for path in (self.kit / ".venv").rglob("*")
        }


@pytest.fixture
def bare(tmp_path):
    """A machine with neither Python nor uv."""
    machine = Machine(tmp_path)
    yield machine
    machine.end_processes()


@pytest.fixture
def machine(bare):
    """A machine with Python 3.10 and uv."""
    bare.link("python3.10", PYTHON)
    bare.link("uv", UV)
    return bare


class Gate:
    """A uv that stops in the middle of an installation until it is let through."""

    def __init__(self, machine, folder):
        self.reached, self.opened = folder / "reached", folder / "opened"
        for fifo in (self.reached, self.opened):
            os.mkfifo(fifo)
        # Opened for both directions: the open itself then waits for nobody.
        self.descriptor = os.open(self.reached, os.O_RDWR)
        machine.command(
            "uv",
            f'case "$*" in "pip sync --python"*)\n'
            f"  mkdir -p .venv/lib/python3.10/site-packages/half_installed\n"
            f'  echo >"{self.reached}"; read -r _ <"{self.opened}" ;;\nesac\n'
            f'exec "{UV}" "$@"',
        )

    def wait_until_reached(self):
        assert select.select([self.descriptor], [], [], LIMIT)[0], "uv was never run"
        os.read(self.descriptor, 1)

    def open(self):
        self.opened.write_text("\n")


@pytest.fixture
def gate(machine, tmp_path):
    gate = Gate(machine, tmp_path)
    yield gate
    os.close(gate.descriptor)


# --- Refusals ---------------------------------------------------------------------------------


def test_refuses_another_processor(machine):
    machine.command("uname", "case $1 in -s) echo Linux ;; *) echo aarch64 ;; esac")
    assert "This machine is Linux aarch64, but" in (line := machine.refusal())
    assert "x86-64 Linux only: use such a machine" in line


def test_refuses_another_system(machine):
    machine.command("uname", "case $1 in -s) echo Darwin ;; *) echo x86_64 ;; esac")
    assert "This machine is Darwin x86_64, but" in machine.refusal()


def test_refuses_an_old_glibc(machine):
    machine.command("getconf", "echo glibc 2.31")
    line = machine.refusal()
    assert "The C library here is glibc 2.31, but Triton 2.51.0 needs glibc 2.35 or newer" in line


def test_refuses_musl(machine):
    machine.command("getconf", "exit 1")
    assert "The C library here is not glibc (perhaps musl), but" in machine.refusal()


def test_refuses_a_full_disk(machine):
    machine.command("df", 'echo "file system"; echo "/dev/x 9999999 1 5242880 50% /"')
    line = machine.refusal()
    assert f"There are 5.0 GB free for {machine.kit}/.venv, but its installation needs 8 GB" in line


def test_refuses_a_stale_lock(machine):
    with (machine.kit / "environment.yml").open("a") as file:
        file.write("      - tqdm==4.70.1\n")
    line = machine.refusal()
    assert "environment.lock was not made from the list in environment.yml as it is now" in line
    assert 'run "make lock"' in line


def test_refuses_an_unknown_installer(machine):
    line = machine.refusal(KIT_INSTALLER="poetry")
    assert line == 'set-up: KIT_INSTALLER is "poetry", but must be uv or pip.'


def test_refuses_an_unknown_opencv(machine):
    line = machine.refusal(KIT_OPENCV="none")
    assert line == 'set-up: KIT_OPENCV is "none", but must be full or headless.'


def test_refuses_a_machine_without_python(bare):
    line = bare.refusal()
    assert "No usable Python 3.10 (there is no Python at all) and none could be downloaded" in line
    assert "there is no pip to get uv with" in line
    assert "install CPython 3.10" in line


def test_refuses_when_only_another_python_is_there(bare):
    bare.command("python3", 'case "$*" in "-I -c"*) echo other 3.12.3 ;; *) exit 1 ;; esac')
    assert "No usable Python 3.10 (found only Python 3.12.3) and none" in bare.refusal()


def test_refuses_a_python_without_its_shared_library(bare):
    doctored = (
        "import ctypes, sys, sysconfig\n"
        "def load(name): raise OSError(name)\n"
        "ctypes.CDLL = load\n"
        'sysconfig.get_config_var = lambda name: ""\n'
        'sys.base_prefix = "/nowhere"\n'
        "exec(sys.argv[1])\n"
    )
    bare.command("python3.10", f"exec '{PYTHON}' -c '{doctored}' \"$3\"")
    line = bare.refusal(KIT_INSTALLER="pip")
    assert f"({bare.commands}/python3.10 lacks libpython3.10.so.1.0, which Triton needs)" in line
    assert "apt install python3.10-venv libpython3.10" in line


def test_refuses_when_python_cannot_be_downloaded(bare):
    bare.command("uv", 'case "$*" in *--help) ;; *) echo "no route to host" >&2; exit 2 ;; esac')
    line = bare.refusal()
    assert "none could be downloaded (uv could not download it)" in line
    assert line.endswith("the last words were: no route to host.")


# --- Which Python -----------------------------------------------------------------------------


def test_follows_a_dead_pyenv_shim_to_the_python(bare, tmp_path):
    bare.link("uv", UV)
    bare.command("python3.10", "exit 127", tmp_path / "pyenv/shims")
    real = tmp_path / "pyenv/versions/3.10.13/bin/python"
    real.parent.mkdir(parents=True)
    real.symlink_to(PYTHON)
    said = bare.install(PATH=f"{tmp_path}/pyenv/shims:{bare.commands}")
    assert f" found at {PYTHON}\n" in said


def test_takes_the_python_that_is_named(bare, tmp_path):
    bare.link("uv", UV)
    bare.command("python3.10", "exit 1")
    (tmp_path / "mine").symlink_to(PYTHON)
    assert f" found at {PYTHON}\n" in bare.install(PYTHON=str(tmp_path / "mine"))


def test_downloads_python_with_uv(bare, tmp_path):
    place = tmp_path / "uv pythons/cpython-3.10.99-linux-x86_64-gnu/bin"
    bare.command(
        "uv",
        f'case "$*" in "python install 3.10") mkdir -p "{place}"\n'
        f'  exec ln -s "{PYTHON}" "{place}/python3.10" ;;\nesac\n'
        f'exec "{UV}" "$@"',
    )
    bare.link("ln", shutil.which("ln"))
    said = bare.install()
    assert "getting one with uv" in said
    assert f" found at {PYTHON}\n" in said
    assert bare.kit_is_importable()


# --- Installation -----------------------------------------------------------------------------


def test_installs_exactly_the_lock_with_uv(machine):
    before = set(machine.kit.rglob("*"))
    said = machine.install()
    assert "with uv ..." in said
    assert re.search(r"The environment in \.venv is ready after \d+ s\.\n$", said)
    assert machine.installed() == {"serving-kit", "iniconfig", *BACKEND}
    assert machine.kit_is_importable()
    after = {path for path in machine.kit.rglob("*") if ".venv" not in path.parts}
    assert after == before
    assert list(machine.home.iterdir()) == []


def test_installs_exactly_the_lock_with_pip(machine):
    machine.install()
    machine.list("tqdm", "pip")
    assert "with pip ..." in machine.install(KIT_INSTALLER="pip")
    assert machine.installed() == {"serving-kit", "tqdm", "pip", *BACKEND}
    assert machine.kit_is_importable()


def test_gets_uv_of_the_lock_where_there_is_none(bare):
    bare.link("python3.10", PYTHON)
    bare.list("iniconfig", "uv")
    assert "with uv ..." in bare.install()
    assert bare.installed() == {"serving-kit", "iniconfig", "uv", *BACKEND}
    assert not (bare.kit / ".venv/.bootstrap").exists()


def test_second_run_does_nothing(machine):
    machine.install()
    before = machine.content()
    assert machine.install() == ""
    assert machine.content() == before


def test_a_new_list_is_brought_up_to_date(machine):
    machine.install()
    machine.list("tqdm")
    assert "Bringing .venv up to date" in machine.install()
    assert machine.installed() == {"serving-kit", "tqdm", *BACKEND}
    assert machine.install() == ""


def test_a_small_cache_is_left_aside(machine, tmp_path):
    machine.command(
        "df",
        'case "$*" in *"small cache"*) echo; echo "/dev/y 99 1 98 1% /" ;;\n'
        f"*) {ROOMY_DF} ;;\nesac",
    )
    cache = tmp_path / "small cache"
    cache.mkdir()
    assert "it is left aside this time" in machine.install(UV_CACHE_DIR=str(cache))
    assert list(cache.rglob("*.whl")) == []
    assert not (machine.kit / ".venv/.tmp").exists()


def test_takes_headless_opencv_where_the_libraries_do_not_load(machine, tmp_path):
    machine.list("opencv-python")
    # An empty file in the loader's way: the library is there by name and does not load.
    (tmp_path / "libGL.so.1").touch()
    said = machine.install(LD_LIBRARY_PATH=str(tmp_path))
    assert "opencv-python-headless takes the place of opencv-python" in said
    assert machine.installed() == {"serving-kit", "opencv-python-headless", *BACKEND}
    assert machine.install() == ""


# --- Repair -----------------------------------------------------------------------------------


def test_without_a_network_says_so_and_recovers(machine, tmp_path):
    offline = {"UV_OFFLINE": "1", "UV_CACHE_DIR": str(tmp_path / "empty")}
    done = machine.set_up(**offline)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    *last_words, line = done.stderr.splitlines()
    assert 1 <= len(last_words) <= 4
    assert "The environment could not be installed: uv failed" in line
    assert f"the log is {machine.kit}/.venv/set-up.log. Most often the network " in line
    machine.install()
    assert machine.kit_is_importable()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_installation_is_made_anew(machine, gate, number):
    process = machine.start()
    gate.wait_until_reached()
    os.killpg(process.pid, number)
    process.communicate(timeout=LIMIT)
    assert process.returncode != 0
    machine.link("uv", UV)
    assert "Making .venv anew" in machine.install()
    assert not (machine.kit / ".venv/lib/python3.10/site-packages/half_installed").exists()
    assert machine.kit_is_importable()


def test_two_at_once_wait_for_each_other(machine, gate):
    first = machine.start()
    gate.wait_until_reached()
    second = machine.start()
    line = second.stdout.readline()
    gate.open()
    first.communicate(timeout=LIMIT)
    rest, _ = second.communicate(timeout=LIMIT)
    assert line == "Another set-up is running in this folder, waiting for it ...\n"
    assert (first.returncode, second.returncode, rest) == (0, 0, "")


def test_a_moved_folder_is_made_anew(machine, tmp_path):
    machine.install()
    machine.kit = machine.kit.rename(tmp_path / "moved kit")
    assert "Making .venv anew" in machine.install()
    assert machine.kit_is_importable()
    assert str(machine.kit) in (machine.kit / ".venv/bin/hatchling").read_text()


def test_a_dead_python_is_made_anew(machine):
    machine.install()
    (machine.kit / ".venv/bin/python").unlink()
    assert "Making .venv anew" in machine.install()
    assert machine.kit_is_importable()


def make_demo_folder(machine):
    """Make the kit's copy a folder of demo.zip: there is nothing but requirements.txt."""
    for name in ("environment.yml", "environment.lock", "environment-headless.lock"):
        (machine.kit / name).unlink()
    (machine.kit / "pyproject.toml").unlink()
    shutil.rmtree(machine.kit / "src")
    machine.write("requirements.txt", lock_entry("iniconfig") + lock_entry("pip"))


@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_in_the_folder_of_demo_zip(machine, installer):
    make_demo_folder(machine)
    said = machine.install(KIT_INSTALLER=installer, KIT_OPENCV="full")
    assert f"Installing 2 packages, about 5 GB, with {installer}" in said
    assert machine.install(KIT_OPENCV="full") == ""
    python = machine.kit / ".venv" / "bin" / "python"
    subprocess.run([python, "-c", "import iniconfig"], check=True)
