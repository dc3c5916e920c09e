"""What holds for every test: nothing is left behind, and how long each notebook takes is told."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections import defaultdict
from pathlib import Path

import nbval.kernel
import pytest
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).parent
MARK = "SERVING_KIT_TEST_SESSION"
#: Servers whose kernel was killed are given this long to be gone.
LEFTOVER_SECONDS = 20

#: Which lessons share files.
SHARED_FILES = {
    "build/my_style": ("02", "04", "05", "10"),
    "notebooks/result.jpg": ("00", "07"),
}

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


def pytest_addoption(parser):
    parser.addoption(
        "--soak", action="store_true", help="run the tests of endurance at full length"
    )


@pytest.fixture(scope="session")
def soak(pytestconfig):
    """Whether the tests of endurance take their time."""
    return pytestconfig.getoption("soak")


def pytest_sessionstart(session):
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

    # As make lab does: what notebooks compute has the last digits of what workers do.
    os.environ.update(openblas.environment())
    session.config.before = snapshot()


def is_worker(config):
    """Tell whether this is one of several processes that pytest-xdist has started."""
    return hasattr(config, "workerinput")


class ByFile(LoadScopeScheduling):
    """Gives each file to one worker, as its fixtures are made once.

    Notebooks that share files go to one worker together. (pytest-xdist 3.8 has groups for such
    things, which pytest 9 does not let it write into the names of tests.)
    """

    def _split_scope(self, nodeid):
        file = nodeid.partition("::")[0]
        number = Path(file).name[:2] if file.endswith(".ipynb") else ""
        return next((files for files, numbers in SHARED_FILES.items() if number in numbers), file)


def pytest_xdist_make_scheduler(config, log):
    return ByFile(config, log)


def pytest_runtest_logreport(report):
    path, _, cell = report.nodeid.partition("::")
    if cell and path.endswith(".ipynb"):
        _seconds_of_notebook[Path(path).name] += report.duration


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    """Compare processes, files, shared memory and what git sees with before the tests."""
    if is_worker(session.config):
        return
    from serving_kit.server import runs, supervisor

    deadline = time.monotonic() + LEFTOVER_SECONDS
    while (left := leftovers(session.config.before)) and time.monotonic() < deadline:
        time.sleep(0.5)
    session.config.leftovers = left
    for pid in processes()[0]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    # What their supervisors would have cleaned up, had they not been among the killed.
    for run_dir in Path(os.environ["TMPDIR"]).rglob(f"{runs.RUN_PREFIX}*"):
        supervisor.clean_up(run_dir)
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


def snapshot():
    """Return what exists now: shared memory, temporary files, what git sees as changed or new."""
    status = subprocess.run(
        ["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    temporary = Path(os.environ["TMPDIR"])
    workers = list(temporary.glob("gw*"))  # each of pytest-xdist's has a folder of its own
    return {
        "shared memory": {file.name for file in Path("/dev/shm").iterdir()},
        "temporary file": {
            file.name
            for folder in (temporary, *workers)
            for file in folder.iterdir()
            # pytest removes its own itself, later
            if file not in workers and not file.name.startswith("pytest-of-")
        },
        "file": set(status.stdout.splitlines()),
    }


def leftovers(before):
    """Return a line for each thing that is there now and was not before."""
    ours, others = processes()
    lines = [f"process {pid}: {command(pid)}" for pid in ours if command(pid)]
    now = snapshot()
    now["shared memory"] -= mapped_by(others)
    for kind in before:
        lines += [f"{kind}: {name}" for name in sorted(now[kind] - before[kind])]
    return lines


def processes():
    """Return the PIDs of the processes that inherited this session's mark, and of all others."""
    mark = f"{MARK}={os.environ[MARK]}".encode()
    ours, others = [], []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            marked = mark in (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        (ours if marked else others).append(int(entry.name))
    return ours, others


def command(pid):
    """Return the command line of a process; empty when it has ended."""
    try:
        text = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""
    return text[:200]


def mapped_by(pids):
    """Return the names in /dev/shm that these processes, which are not ours, have mapped."""
    names = set()
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
        except OSError:
            continue
        names |= {line.rpartition("/dev/shm/")[2] for line in lines if "/dev/shm/" in line}
    return names
