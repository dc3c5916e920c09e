"""tools/set_up.sh, run in small copies of the kit.

The copies have the real scripts, a list of one package beside the build backend, and a PATH that
holds only what a test puts there: so a test decides which machine the script believes it is on.
As a rule uv is a stand-in that finds Python on that PATH and notes what it is told to install;
where a test has the real one, packages come from this machine's cache of uv and package index.
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
    "awk", "bash", "cat", "cut", "df", "dirname", "du", "find", "flock", "getconf", "grep", "ln",
    "mkdir", "mv", "rm", "rmdir", "sed", "sha256sum", "sh", "sort", "uname",
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
DF = 'echo "file system"; echo "/dev/x {space} 1  {free}    29% /"'
ROOMY_DF = DF.format(space=99999999, free=99999998)
STAND_IN = """\
#!/usr/bin/env bash
printf '%s\\n' "$*" >>"{calls}"
case "$*" in
  --version) echo "uv 0.13.9 (a stand-in)" ;;
  "cache dir") echo "${{UV_CACHE_DIR:-${{HOME:-/proc/none}}/.cache/uv}}" ;;
  "python list --only-installed")
    printf 'cpython-3.11.7-linux-x86_64-gnu    /usr/bin/python3.11 -> python3\\n'
    for one in $(type -aP python3.10) "$UV_PYTHON_INSTALL_DIR"/*/bin/python3.10; do
      [ ! -x "$one" ] || printf 'cpython-3.10.13-linux-x86_64-gnu    %s -> python\\n' "$one"
    done ;;
  "python install 3.10") printf 'error: x\\n  cause: cause: no route to host\\n' >&2; exit 2 ;;
  *" venv "*|"venv "*) mkdir -p "${{!#}}/bin"; ln -sf "${{@: -2:1}}" "${{!#}}/bin/python" ;;
  *"pip sync "*) cat "${{!#}}" >.venv/synced; mkdir -p .venv/half_installed; {during_sync} ;;
  *"pip install "*) rmdir .venv/half_installed ;;
esac
"""


def lock_entry(package, lock="environment.lock"):
    text = (ROOT / lock).read_text(encoding="utf-8")
    return re.search(rf"^{package}==.*\n(?: +--hash.*\n)+", text, re.M).group()


class Machine:
    """A copy of the kit, and the PATH and environment of the machine it is set up on."""

    def __init__(self, folder):
        self.kit = folder / "a kit-1.0"
        self.commands = folder / "commands"
        self.home = folder / "home"
        self.pythons = folder / "uv-pythons"
        self.calls = folder / "calls of uv"
        for made in (self.kit / "src/serving_kit", self.commands, self.home, folder / "tmp"):
            made.mkdir(parents=True)
        for tool in TOOLS:
            (self.commands / tool).symlink_to(shutil.which(tool))
        self.command("df", ROOMY_DF)
        shutil.copytree(ROOT / "tools", self.kit / "tools")
        (self.kit / "src/serving_kit/__init__.py").touch()
        self.write("pyproject.toml", PYPROJECT)
        self.list("iniconfig")
        self.environment = {
            "PATH": str(self.commands),
            "HOME": str(self.home),
            "TMPDIR": str(folder / "tmp"),
            "UV_PYTHON_INSTALL_DIR": str(self.pythons),
        }
        self.started = []

    def command(self, name, script, folder=None):
        """Put a shell script on PATH, or into another folder, in place of the real command."""
        path = (folder or self.commands) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(script if script.startswith("#!") else f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    def link(self, name, target):
        (self.commands / name).unlink(missing_ok=True)
        (self.commands / name).symlink_to(target)

    def stand_in(self, during_sync=":", name="uv", folder=None):
        """Put a uv on PATH that installs nothing."""
        script = STAND_IN.format(calls=self.calls, during_sync=during_sync)
        return self.command(name, script, folder)

    def real_uv(self):
        """Put the real uv on PATH, with this machine's settings, index and cache."""
        self.link("uv", UV)
        kept = {
            name for name in os.environ if re.match("UV_|PIP_|SSL_|HTTPS?_|NO_PROXY", name, re.I)
        }
        self.environment |= {name: os.environ[name] for name in kept} | {
            "XDG_CONFIG_HOME": os.environ.get("XDG_CONFIG_HOME", str(Path.home() / ".config")),
            "UV_CACHE_DIR": subprocess.check_output([UV, "cache", "dir"], text=True).strip(),
        }

    def list(self, *packages):
        """Write an environment.yml of these packages and the backend, and its locks."""
        entries = [lock_entry(package) for package in [*packages, *BACKEND]]
        pins = [entry.split()[0] for entry in entries]
        text = "".join(f"{pin}\n" for pin in pins)
        origin = f"# sha256 of the list: {hashlib.sha256(text.encode()).hexdigest()}\n"
        headless = lock_entry("opencv-python-headless", "environment-headless.lock")
        self.write("environment.yml", "# All\n" + "".join(f"      - {pin}\n" for pin in pins))
        self.write("environment.lock", origin + "".join(entries))
        self.write("environment-headless.lock", origin + headless)
        for folder in ("deploy/image", "deploy/gateway", "demo.zip-builder"):
            self.write(f"{folder}/requirements.lock", origin + text)
        self.write("environment-conda.lock", origin + text)

    def write(self, name, text):
        (self.kit / name).parent.mkdir(parents=True, exist_ok=True)
        (self.kit / name).write_text(text)

    def become_demo_folder(self):
        """Make the kit's copy a folder of demo.zip: there is nothing but requirements.txt."""
        shutil.rmtree(self.kit)
        shutil.copytree(ROOT / "tools", self.kit / "tools")
        self.write("requirements.txt", lock_entry("iniconfig") + lock_entry("uv"))

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
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
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

    def python(self):
        """Where the Python of .venv leads."""
        return (self.kit / ".venv/bin/python").readlink()

    def synced(self):
        """The packages that the stand-in was told to install."""
        return re.findall(r"^(.+)==", (self.kit / ".venv/synced").read_text(), re.M)

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
    """A machine with Python 3.10 and uv, which is a stand-in."""
    bare.link("python3.10", PYTHON)
    bare.stand_in()
    return bare


class Gate:
    """A uv that stops in the middle of an installation until it is let through."""

    def __init__(self, machine, folder):
        self.reached, self.opened = folder / "reached", folder / "opened"
        for fifo in (self.reached, self.opened):
            os.mkfifo(fifo)
        # Opened for both directions: the open itself then waits for nobody.
        self.descriptor = os.open(self.reached, os.O_RDWR)
        machine.stand_in(f'echo >"{self.reached}"; read -r _ <"{self.opened}"')

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


@pytest.mark.parametrize("kind", ["Linux aarch64", "Darwin x86_64"])
def test_refuses_another_kind_of_machine(machine, kind):
    system, processor = kind.split()
    machine.command("uname", f"case $1 in -s) echo {system} ;; *) echo {processor} ;; esac")
    assert f"This machine is {kind}, but" in (line := machine.refusal())
    assert "x86-64 Linux only: use such a machine" in line


@pytest.mark.parametrize(
    ("getconf", "found"),
    [("echo glibc 2.31", "glibc 2.31"), ("exit 1", r"not glibc \(perhaps musl\)")],
)
def test_refuses_an_old_c_library_and_musl(machine, getconf, found):
    machine.command("getconf", getconf)
    line = machine.refusal()
    assert re.search(rf"The C library here is {found}, but Triton 2.51.0 needs glibc 2.35", line)


def test_refuses_a_full_disk(machine):
    machine.command("df", DF.format(space=9999999, free=5242880))
    line = machine.refusal()
    assert f"There are 5 GB free for {machine.kit}/.venv, but its installation needs 8 GB" in line


def test_refuses_a_stale_lock(machine):
    with (machine.kit / "environment.yml").open("a") as file:
        file.write("      - tqdm==4.70.1\n")
    line = machine.refusal()
    assert "environment.lock does not match environment.yml" in line
    assert 'run "make lock"' in line


def test_refuses_a_machine_without_uv_and_python(bare):
    line = bare.refusal()
    assert "uv is not on PATH and could not be downloaded (there is no Python): install" in line


def test_refuses_when_uv_cannot_be_downloaded(bare):
    bare.command("python3", 'case "$*" in *install*) echo "no route to host" >&2; exit 1 ;; esac')
    assert "uv is not on PATH and could not be downloaded (no route to host)" in bare.refusal()


def test_refuses_when_python_cannot_be_downloaded(bare):
    bare.stand_in()
    line = bare.refusal()
    assert "3.10 was found (there is none) and uv could not get one (no route to host)" in line
    assert "install CPython 3.10 with its shared library" in line
    assert list(bare.home.iterdir()) == [bare.home / ".cache"]


def test_refuses_a_python_that_is_another(bare):
    bare.stand_in()
    older = "import sys; sys.version_info = (3, 9); exec(sys.argv[1])"
    named = bare.command("named", f"exec '{PYTHON}' -c '{older}' \"$3\"")
    assert f"found ({named}: it is not Python 3.10) and" in bare.refusal(PYTHON=str(named))


# --- Which Python -----------------------------------------------------------------------------


def without_libpython(machine, name, folder=None):
    """Make a Python 3.10 that has no shared library."""
    doctored = (
        "import ctypes, sys, sysconfig\n"
        'def load(name): raise OSError(f"{name}: cannot open shared object file")\n'
        "ctypes.CDLL = load\n"
        'sysconfig.get_config_vars = lambda *names: ("/nowhere", None)\n'
        'sys.base_prefix = "/nowhere"\n'
        "exec(sys.argv[1])\n"
    )
    return machine.command(name, f"exec '{PYTHON}' -c '{doctored}' \"$3\"", folder)


def test_a_python_without_its_shared_library_is_passed_over(machine, tmp_path):
    flawed = without_libpython(machine, "python3.10")
    other = tmp_path / "other"
    other.mkdir()
    (other / "python3.10").symlink_to(PYTHON)
    machine.install(PATH=f"{machine.commands}:{other}")
    assert machine.python() == other / "python3.10"
    shutil.rmtree(machine.kit / ".venv")
    line = machine.refusal()
    reason = "OSError: libpython3.10.so.1.0: cannot open shared object file"
    assert f"No usable Python 3.10 was found ({flawed}: {reason}) and uv could not" in line


@pytest.mark.parametrize("where", ["pyenv/shims", "home/.pyenv/shims"])
def test_looks_behind_dead_shims_of_pyenv(bare, tmp_path, where):
    bare.stand_in()
    shims = tmp_path / where
    for name in ("python3", "python3.10"):
        bare.command(name, "exit 127", shims)
    real = shims.parent / "versions/3.10.13/bin/python3.10"
    real.parent.mkdir(parents=True)
    real.symlink_to(PYTHON)
    on_path = f"{shims}:{bare.commands}" if where.startswith("pyenv") else str(bare.commands)
    bare.install(PATH=on_path)
    assert bare.python() == real


def test_takes_the_python_that_is_named(machine, tmp_path):
    (tmp_path / "mine").symlink_to(PYTHON)
    machine.install(PYTHON=str(tmp_path / "mine"))
    assert machine.python() == tmp_path / "mine"


def test_downloads_python_with_uv(bare):
    place = bare.pythons / "cpython-3.10.99/bin"
    stand_in = bare.stand_in()
    download = f'mkdir -p "{place}"; ln -s "{PYTHON}" "{place}/python3.10" ;;'
    words = re.sub(r'(?<="python install 3.10"\) ).*', download, stand_in.read_text())
    stand_in.write_text(words)
    assert (
        "No usable Python 3.10 on this machine (there is none): getting one with uv"
        in bare.install()
    )
    assert bare.python() == place / "python3.10"


# --- Which uv ---------------------------------------------------------------------------------


@pytest.fixture
def pip(bare, tmp_path):
    """Gives a machine's Pythons a pip that can download one thing, uv, and notes how."""
    uv = bare.stand_in(name="downloaded-uv", folder=tmp_path)

    def pip(name):
        bare.command(
            name,
            f'case "$*" in *"pip install"*) printf "%s\\n" "$*" >"{tmp_path}/pip"\n'
            f'  while [ "$1" != --target ]; do shift; done\n'
            f'  cat "$2/requirements.txt" >"{tmp_path}/wanted"\n'
            f'  mkdir "$2/bin"; ln -s "{uv}" "$2/bin/uv"; exit ;;\nesac\nexec "{PYTHON}" "$@"',
        )

    return pip


def test_gets_uv_of_the_lock_where_there_is_none_or_an_old_one(bare, pip, tmp_path):
    bare.list("iniconfig", "uv")
    bare.command("uv", "echo uv 0.5.31")
    bare.command("python3.10", "exit 127")
    pip("python3")
    (bare.pythons / "3.10/bin").mkdir(parents=True)
    (bare.pythons / "3.10/bin/python3.10").symlink_to(PYTHON)
    assert f"Getting uv with the pip of {bare.commands}/python3 ..." in bare.install()
    assert (tmp_path / "wanted").read_text() == lock_entry("uv")
    options = (tmp_path / "pip").read_text().split()
    assert {"--require-hashes", "--no-deps", "--only-binary"} <= set(options)
    # What was got once is kept for the next time.
    bare.list("tqdm", "uv")
    assert "Getting uv" not in bare.install()


# --- Installation -----------------------------------------------------------------------------


def test_installs_exactly_the_lock(machine):
    """The one of these tests, outside of the long tier, in which uv is real."""
    machine.real_uv()
    before = set(machine.kit.rglob("*"))
    said = machine.install()
    assert re.search(r"The environment in \.venv is ready after \d+ s\.\n$", said)
    assert machine.installed() == {"serving-kit", "iniconfig", *BACKEND}
    assert machine.kit_is_importable()
    after = {path for path in machine.kit.rglob("*") if ".venv" not in path.parts}
    assert after == before
    assert list(machine.home.iterdir()) == []


def test_installs_by_hashes_and_from_wheels_only(machine):
    assert f"Installing {1 + len(BACKEND)} packages, about 5 GB, with uv ..." in machine.install()
    *_, sync, kit = machine.calls.read_text().splitlines()
    assert "--require-hashes --only-binary :all:" in sync
    assert "--no-deps --no-build-isolation --editable ." in kit
    assert machine.synced() == ["iniconfig", *BACKEND]


def test_second_run_does_nothing(machine):
    machine.install()
    before = machine.content()
    machine.calls.unlink()
    assert machine.install() == ""
    assert machine.content() == before
    assert not machine.calls.exists()


@pytest.mark.parametrize("home", ["/proc/none", None])
def test_a_home_that_cannot_be_written_is_left_alone(machine, home):
    del machine.environment["HOME"]
    said = machine.install(**({"HOME": home} if home else {}))
    assert "uv's cache /proc/none/.cache/uv is not writable" in said
    assert not (machine.kit / ".venv/.cache").exists()


def test_a_cache_on_a_small_disk_is_left_aside(machine, tmp_path):
    small = DF.format(space=99, free=98)
    machine.command("df", f'case "$*" in *"small cache"*) {small} ;; *) {ROOMY_DF} ;;\nesac')
    cache = tmp_path / "small cache"
    machine.stand_in('printf %s "$UV_CACHE_DIR" >.venv/cache-used')
    said = machine.install(UV_CACHE_DIR=str(cache))
    assert "has no room for 6 GB: it is not used" in said
    assert (machine.kit / ".venv/cache-used").read_text() == f"{machine.kit}/.venv/.cache"


def test_takes_headless_opencv_where_the_libraries_do_not_load(machine, tmp_path):
    machine.list("opencv-python")
    # An empty file in the loader's way: the library is there by name and does not load.
    (tmp_path / "libGL.so.1").touch()
    said = machine.install(LD_LIBRARY_PATH=str(tmp_path))
    assert "opencv-python-headless replaces opencv-python" in said
    assert machine.synced() == [*BACKEND, "opencv-python-headless"]


def test_in_the_folder_of_demo_zip(machine, tmp_path):
    machine.become_demo_folder()
    (tmp_path / "libGL.so.1").touch()
    said = machine.install(LD_LIBRARY_PATH=str(tmp_path))
    assert "Installing 2 packages" in said and "opencv" not in said
    assert machine.synced() == ["iniconfig", "uv"]
    assert "--editable" not in machine.calls.read_text()
    assert machine.install() == ""


def test_venv_can_be_a_link_to_a_larger_disk(machine, tmp_path):
    (tmp_path / "larger disk").mkdir()
    (machine.kit / ".venv").symlink_to(tmp_path / "larger disk")
    machine.install()
    assert (tmp_path / "larger disk/bin/python").exists()
    assert machine.install() == ""


# --- Repair -----------------------------------------------------------------------------------


def test_without_a_network_says_so(machine, tmp_path):
    machine.real_uv()
    done = machine.set_up(UV_OFFLINE="1", UV_CACHE_DIR=str(tmp_path / "empty"))
    assert done.returncode == 1
    *words, line = done.stderr.splitlines()
    assert "iniconfig was not found in the cache" in " ".join(words)
    assert "The environment could not be installed: the lines above say why" in line


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_installation_is_made_anew(machine, gate, number):
    process = machine.start()
    gate.wait_until_reached()
    os.killpg(process.pid, number)
    process.communicate(timeout=LIMIT)
    assert process.returncode != 0
    assert (machine.kit / ".venv/half_installed").exists()
    machine.stand_in()
    assert "Rebuilding .venv" in machine.install()
    assert not (machine.kit / ".venv/half_installed").exists()


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


def new_list(machine):
    machine.list("tqdm")


def moved(machine):
    machine.kit = machine.kit.rename(machine.kit.with_name("moved kit"))


def dead_python(machine):
    (machine.kit / ".venv/bin/python").unlink()


@pytest.mark.parametrize("change", [new_list, moved, dead_python])
def test_after_a_change_it_is_made_anew(machine, change):
    machine.install()
    (machine.kit / ".venv/left-over").touch()
    change(machine)
    assert "Rebuilding .venv" in machine.install()
    assert not (machine.kit / ".venv/left-over").exists()
    assert machine.synced() == ["tqdm" if change is new_list else "iniconfig", *BACKEND]
    assert machine.install() == ""


def test_an_activated_venv_is_made_anew(machine):
    machine.install()
    machine.list("tqdm")
    activated = machine.kit / ".venv/bin"
    (activated / "python3.10").symlink_to(PYTHON)
    machine.stand_in(folder=activated)
    machine.install(PATH=f"{activated}:{machine.commands}")
    assert machine.python() == machine.commands / "python3.10"


# --- For real ---------------------------------------------------------------------------------


@pytest.mark.long
def test_a_real_uv_of_the_lock_is_got_and_follows_moves_and_lists(bare):
    bare.real_uv()
    bare.link("python3.10", PYTHON)
    (bare.commands / "uv").unlink()
    bare.list("iniconfig", "uv")
    assert "Getting uv" in bare.install()
    assert bare.installed() == {"serving-kit", "iniconfig", "uv", *BACKEND}
    bare.list("tqdm", "opencv-python")
    moved(bare)
    (bare.kit.parent / "libGL.so.1").touch()
    assert "headless" in bare.install(LD_LIBRARY_PATH=str(bare.kit.parent))
    assert bare.installed() == {"serving-kit", "tqdm", "opencv-python-headless", *BACKEND}
    assert bare.kit_is_importable()
    assert str(bare.kit) in (bare.kit / ".venv/bin/hatchling").read_text()


@pytest.mark.long
def test_the_oldest_uv_that_is_taken_can_do_it(machine, tmp_path):
    machine.real_uv()
    script = (machine.kit / "tools/set_up.sh").read_text()
    version = re.search(r"^oldest_uv=(\S+)", script, re.M)[1]
    command = [UV, "pip", "install", "--target", tmp_path / "old", f"uv=={version}"]
    trusting = {**os.environ, "UV_SYSTEM_CERTS": "true"}  # what the system trusts, as the set-up
    subprocess.run(command, check=True, capture_output=True, env=trusting)
    machine.link("uv", tmp_path / "old/bin/uv")
    assert "Getting uv" not in machine.install(UV_CACHE_DIR=str(tmp_path / "cache of its own"))
    assert machine.installed() == {"serving-kit", "iniconfig", *BACKEND}
    assert machine.kit_is_importable()
