"""The Docker engine that tests use, and the kit's image on it, built from a clean tree.

Where there is none, tests that need it skip with the reason; in CI they fail.
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from serving_kit.errors import ServerError
from serving_kit.paths import ROOT
from serving_kit.server import docker

#: Set in CI, which has an engine: nothing may be skipped for want of one.
REQUIRED_VARIABLE = "SERVING_KIT_DOCKER_REQUIRED"
BASE_IMAGE = "python:3.10-slim-bookworm"
PULL_SECONDS, BUILD_SECONDS = 120, 900


def run_docker(*arguments, check=True, **environment):
    """Run a docker command in the kit's folder; return what it prints."""
    done = subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, timeout=BUILD_SECONDS, check=False,
        env=os.environ | environment, cwd=ROOT,
    )  # fmt: skip
    assert not check or done.returncode == 0, done.stderr
    return done.stdout.strip()


KILL = """
import os, pathlib, sys
for entry in pathlib.Path("/proc").glob("[0-9]*"):
    words = (entry / "cmdline").read_bytes().decode().split("\\0")
    if words[0].split("/")[-1] == sys.argv[1] and sys.argv[2] in words[1]:
        os.kill(int(entry.name), 9)
"""


def kill_within(container, program, word=""):
    """Kill processes of a container from within, by their program and their first argument."""
    # When the container ends by that, so does this command, with an error.
    run_docker("exec", container, "python3", "-c", KILL, program, word, check=False)


def why_not():
    """Say what is missing for the image to be built and run; nothing where nothing is."""
    try:
        docker.find_engine()
    except ServerError as error:
        return str(error)
    if docker.has_image(BASE_IMAGE):
        return ""
    with contextlib.suppress(subprocess.TimeoutExpired):
        pull = ["docker", "pull", "--quiet", BASE_IMAGE]
        if subprocess.run(pull, capture_output=True, timeout=PULL_SECONDS).returncode == 0:
            return ""
    return f"the image {BASE_IMAGE} is not on this machine and could not be downloaded"


def needs_docker():
    """Skip a test where Docker cannot be used; fail it where it should be."""
    if reason := why_not():
        (pytest.fail if os.environ.get(REQUIRED_VARIABLE) else pytest.skip)(reason)


@pytest.fixture(scope="session")
def kit_image(tmp_path_factory):
    """Build the image from the files that git has or would take, as a checkout has them.

    What did not change comes from the engine's cache.
    """
    needs_docker()
    tree = tmp_path_factory.mktemp("clean tree")
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    for name in filter(None, names.decode().split("\0")):
        if (ROOT / name).exists():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tree / name, follow_symlinks=False)
    with one_at_a_time(tmp_path_factory.getbasetemp().parent):
        before = image_id()
        done = subprocess.run(
            ["make", "image"],
            cwd=tree,
            env=os.environ | {"REVISION": "test"},
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        if before not in ("", image_id()):
            run_docker("image", "rm", before, check=False)
    return docker.KIT_IMAGE


def image_id():
    name = ("image", "inspect", "--format={{.Id}}", docker.KIT_IMAGE)
    return run_docker(*name, check=False)


@contextlib.contextmanager
def one_at_a_time(folder: Path):
    """Hold the lock by which the processes of one test run take turns."""
    with (folder / "docker-build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def containers_of(repository):
    """Return the containers, also ended ones, that a model repository is mounted in."""
    every = ("ps", "--all", "--quiet", "--no-trunc", f"--filter=volume={repository}")
    return run_docker(*every).split()


@pytest.fixture
def nothing_is_left(tiny_repository, wait_until):
    """In the end there is no container of the test's own repository."""
    yield
    wait_until(lambda: not containers_of(tiny_repository))
