"""What holds for every test: nothing is left behind, and how long each notebook takes is told."""

import contextlib
import functools
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections import defaultdict
from pathlib import Path

import nbval.kernel
import nbval.plugin
import pytest
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).parent
MARK = "SERVING_KIT_TEST_SESSION"
#: Servers whose kernel was killed are given this long to be gone.
LEFTOVER_SECONDS = 20

#: The Chinese lessons have the code and the outputs of the English ones: unit/test_translations.
collect_ignore_glob = ["notebooks/zh/*"]

#: Which lessons share files.
SHARED_FILES = {
    "build/my_style": ("02", "04", "05", "10"),
    "notebooks/result.jpg": ("00", "07"),
}
#: Which lessons take longest, one after the other or on one worker: the end would wait for them.
SLOWEST = ("02", "04", "05", "10", "08", "14", "13", "12")
#: The file of tests in which each runs one notebook.
RUN_TWICE = "test_cells_run_twice.py"
#: How often the memory that processes of this session share is looked at.
LOOK_SECONDS = 2

_seconds_of_notebook = defaultdict(float)


def start_new_kernel(*arguments, stderr=None, start=nbval.kernel.start_new_kernel, **options):
    """Start a kernel as nbval does, but keep what it says, and tell it if the kernel dies."""
    if stderr:
        stderr.close()  # nbval's own, /dev/null
    with tempfile.TemporaryFile() as said:
        try:
            return start(*arguments, stderr=said, **options)
        except RuntimeError as error:
            said.seek(0)
            raise RuntimeError(f"{error}; it said:\n{said.read().decode()}") from error


nbval.kernel.start_new_kernel = start_new_kernel

#: The tag of a cell whose numbers differ from run to run, such as times and ports.
VARIES = "varies"
#: A number, with the spaces before it, which depend on how long it is.
NUMBER = re.compile(r" *[-+]?\d[\d,.]*(e[-+]\d+)?")


def sanitize(cell, text, sanitize=nbval.plugin.IPyNbCell.sanitize):
    """Mask the numbers in the outputs of cells tagged so; the words are compared as in others."""
    text = sanitize(cell, text)
    if isinstance(text, str) and VARIES in cell.cell.metadata.get("tags", ()):
        return NUMBER.sub(" <number>", text)
    return text


nbval.plugin.IPyNbCell.sanitize = sanitize


def pytest_sessionstart(session):
    # What started the tests may ignore these (nohup, a shell's "&"), and every child would inherit
    # that; tests send them.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Outputs are compared with English ones, whatever this machine's language is.
    os.environ["SERVING_KIT_LANGUAGE"] = "en"
    if is_worker(session.config):
        # Beside another worker: what one has started is not for the other to stop, or to count.
        folder = Path(os.environ["TMPDIR"], session.config.workerinput["workerid"])
        folder.mkdir()
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
        os.environ["SERVING_KIT_SERVERS"] = str(folder / "pytest-of-servers")
        return
    os.environ[MARK] = uuid.uuid4().hex
    # A folder of our own for temporary files shows which of them stay.
    os.environ["TMPDIR"] = tempfile.tempdir = tempfile.mkdtemp(prefix="serving-kit-tests-")
    # And a server that somebody works with meanwhile is none of the tests' business.
    os.environ["SERVING_KIT_SERVERS"] = str(Path(os.environ["TMPDIR"], "pytest-of-servers"))
    os.environ["SERVING_KIT_SERVER"] = "local"
    from oneflow_backend import openblas  # here: the kit looks at SERVING_KIT_SERVERS when imported

    # Where it is set, each of some hundred processes would compile the packages that it imports.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # As make lab does: what notebooks compute has the last digits of what workers do.
    os.environ.update(openblas.environment())
    session.config.before = files()
    session.config.pluginmanager.register(SharedMemory(), "shared-memory")


def is_worker(config):
    """Tell whether this is one of several processes that pytest-xdist has started."""
    return hasattr(config, "workerinput")


class ByFile(LoadScopeScheduling):
    """Gives each file to one worker, as its fixtures are made once; RUN_TWICE notebook by notebook.

    Tests with Docker go to one worker together: one of them starts an engine of its own, which
    changes the machine's packet filter.

    Notebooks that share files go to one worker together. (pytest-xdist 3.8 has groups for such
    things, which pytest 9 does not let it write into the names of tests.)
    """

    def _split_scope(self, nodeid):
        file = nodeid.partition("::")[0]
        if uses_docker(file):
            return "Docker"
        if file.endswith(RUN_TWICE):
            file = nodeid.partition("[")[2].removesuffix("]")
        if not file.endswith(".ipynb"):
            return file
        number = Path(file).name[:2]
        return next((files for files, numbers in SHARED_FILES.items() if number in numbers), file)


@functools.cache
def uses_docker(file):
    """Tell whether a file has tests with a Docker engine, by what it imports."""
    return file.endswith(".py") and "from docker_engine import" in Path(ROOT, file).read_text()


def pytest_collection_modifyitems(items):
    """Run the slowest notebooks before the others, and all notebooks last."""
    items.sort(key=lambda item: place_of(item.path))


def place_of(path):
    if path.suffix != ".ipynb":
        return 0
    number = path.name[:2]
    return 1 + (SLOWEST.index(number) if number in SLOWEST else len(SLOWEST))


def pytest_xdist_make_scheduler(config, log):
    return ByFile(config, log)


def pytest_runtest_logreport(report):
    path, _, cell = report.nodeid.partition("::")
    if cell and path.endswith(".ipynb"):
        _seconds_of_notebook[Path(path).name] += report.duration


class SharedMemory:
    """Tells which shared memory is this session's: other programs have theirs in the same place.

    It is that of servers whose run folder lay in a temporary folder of this session, and all that
    a process of this session was seen to have mapped.
    """

    def __init__(self):
        self._mapped, self._looked = set(), 0.0

    def pytest_runtest_logreport(self):
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._look()

    def _look(self):
        self._mapped |= mapped_by(processes())
        self._looked = time.monotonic()

    def left(self):
        """Return the names of what is there now."""
        from serving_kit.server import runs

        self._look()
        prefixes = tuple(runs.prefix_in(folder) for folder in temporary_folders())
        names = {file.name for file in Path("/dev/shm").iterdir()}
        return {name for name in names if name in self._mapped or name.startswith(prefixes)}


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    """Look for processes, files, shared memory and what git sees that the tests have left."""
    if is_worker(session.config):
        return
    from serving_kit.server import runs, supervisor

    deadline = time.monotonic() + LEFTOVER_SECONDS
    while (left := leftovers(session.config)) and time.monotonic() < deadline:
        time.sleep(0.5)
    session.config.leftovers = left
    for pid in processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    # What their supervisors would have cleaned up, had they not been among the killed.
    for folder, names, _ in os.walk(os.environ["TMPDIR"]):  # passes over what vanishes meanwhile
        for name in names:
            if name.startswith(runs.RUN_PREFIX):
                supervisor.clean_up(Path(folder, name))
    shutil.rmtree(os.environ["TMPDIR"], ignore_errors=True)
    if left:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    if _seconds_of_notebook:
        terminalreporter.section("seconds of each notebook")
        for name, seconds in sorted(_seconds_of_notebook.items()):
            terminalreporter.line(f"{seconds:7.1f}  {name}")
    if config.leftovers:
        terminalreporter.section("left behind by the tests", red=True)
        for line in config.leftovers:
            terminalreporter.line(line)


def temporary_folders():
    """Return the folders for temporary files of this session and of pytest-xdist's workers."""
    temporary = Path(os.environ["TMPDIR"])
    return [temporary, *temporary.glob("gw*")]


def files():
    """Return the temporary files of this session, and what git sees as changed or new."""
    status = subprocess.run(
        ["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    folders = temporary_folders()
    temporary = {file for folder in folders for file in folder.iterdir()} - set(folders)
    return {
        # pytest removes its own itself, later
        "temporary file": {f.name for f in temporary if not f.name.startswith("pytest-of-")},
        "file": set(status.stdout.splitlines()),
    }


def leftovers(config):
    """Return a line for each thing that the tests have left."""
    lines = [f"process {pid}: {command(pid)}" for pid in processes() if command(pid)]
    left = {kind: names - config.before[kind] for kind, names in files().items()}
    left["shared memory"] = config.pluginmanager.get_plugin("shared-memory").left()
    return lines + [f"{kind}: {name}" for kind, names in left.items() for name in sorted(names)]


def processes():
    """Return the PIDs of the processes that inherited this session's mark, but this one."""
    mark = f"{MARK}={os.environ[MARK]}".encode()
    pids = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                pids.append(int(entry.name))
    return pids


def command(pid):
    """Return the command line of a process; empty when it has ended."""
    try:
        text = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""
    return text[:200]


def mapped_by(pids):
    """Return the names in /dev/shm that processes have mapped."""
    names = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
            names |= {line.rpartition("/dev/shm/")[2] for line in lines if "/dev/shm/" in line}
    return names
