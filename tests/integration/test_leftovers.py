"""A test session tells what its tests have left, and nothing that other programs have made."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import uuid
from pathlib import Path

import pytest

from serving_kit.paths import ROOT
from serving_kit.server import runs

SECONDS = 120

LITTER = """
import subprocess, sys, tempfile
from pathlib import Path
from serving_kit.server import runs

HOLD = (
    "import mmap, time, sys; file = open('/dev/shm/MAPPED', 'w+b'); file.truncate(4096);"
    "memory = mmap.mmap(file.fileno(), 4096); print('mapped', flush=True); time.sleep(600)"
)


def test_litter():
    Path(tempfile.mkdtemp(prefix="litter-")).joinpath("file").touch()
    Path("litter.txt").touch()
    run = runs.prefix_in(Path(tempfile.gettempdir())) + "0123-litter"
    Path("/dev/shm", run).touch()
    process = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE)
    with process.stdout:
        assert process.stdout.readline() == b"mapped\\n"
    process.returncode = 0  # not to be warned of
"""


@pytest.fixture
def run_session(tmp_path):
    """Runs a test in a session of its own, as ``make test`` does; returns the exit code and what
    it calls left behind."""
    folder = tmp_path / "kit"
    folder.mkdir()
    shutil.copyfile(ROOT / "pyproject.toml", folder / "pyproject.toml")
    conftest = (ROOT / "conftest.py").read_text()
    patient = "LEFTOVER_SECONDS = 20\n"
    assert patient in conftest
    (folder / "conftest.py").write_text(conftest.replace(patient, "LEFTOVER_SECONDS = 0\n"))
    (folder / ".gitignore").write_text("__pycache__\n")
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)

    def run_session(test):
        (folder / "test_it.py").write_text(test)
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", "test_it.py"],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert "1 passed" in done.stdout, done.stdout
        told = done.stdout.partition("left behind by the tests")[2].partition("slowest")[0]
        kinds = r"^(process|temporary file|file|shared memory)\b.*$"
        return done.returncode, [line[0] for line in re.finditer(kinds, told, flags=re.M)]

    return run_session


def test_what_is_left_is_told(run_session):
    mapped = f"litter-{uuid.uuid4().hex}"
    try:
        code, left = run_session(LITTER.replace("MAPPED", mapped))
    finally:
        ours = [*Path("/dev/shm").glob(mapped), *Path("/dev/shm").glob("*-0123-litter")]
        for file in ours:
            file.unlink(missing_ok=True)
    assert code == pytest.ExitCode.TESTS_FAILED
    (process,) = [line for line in left if line.startswith("process")]
    assert mapped in process
    assert f"shared memory: {mapped}" in left
    expected = (
        r"temporary file: litter-\w+",
        r"file: \?\? litter.txt",
        r"shared memory: serving-kit-run-[0-9a-f]{8}-0123-litter",
    )
    for pattern in expected:
        assert any(re.fullmatch(pattern, line) for line in left), (pattern, left)
    assert len(left) == 5


WAIT = """
import time
from pathlib import Path

def test_it():
    started = Path("started")
    started.touch()
    while not Path("MADE").exists():
        time.sleep(0.01)
    started.unlink()
"""


def test_what_other_programs_make_meanwhile_is_not(run_session, tmp_path):
    ended = threading.Event()
    # One is named as the shared memory of another session's server is.
    memory = Path("/dev/shm", f"{runs.prefix_in(Path('/somewhere/else'))}{uuid.uuid4().hex}")
    temporary = Path(tempfile.gettempdir(), f"others-{os.getpid()}")

    def make():
        while not ended.wait(0.001):
            started = (tmp_path / "kit" / "started").exists()
            for file in (memory, temporary):
                passing = file.with_name(f"{file.name}-passing")
                passing.touch()
                passing.unlink()
                if started:
                    file.touch()

    others = threading.Thread(target=make)
    others.start()
    try:
        assert run_session(WAIT.replace("MADE", str(temporary))) == (0, [])
        assert memory.exists()
    finally:
        ended.set()
        others.join()
        memory.unlink(missing_ok=True)
        temporary.unlink(missing_ok=True)
