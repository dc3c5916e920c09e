"""demo.zip: built once, and run as a user runs it who has nothing but the file.

Where the painting does not matter, a model of a few lines paints (the fixture ``light_demo``).
"""

import contextlib
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import uuid
import zipfile
from pathlib import Path
from urllib.request import urlopen

import cv2
import psutil
import pytest

from serving_kit.client.images import read_image
from serving_kit.paths import CAT, ROOT
from serving_kit.server.supervisor import restarts

PYTHON = Path(sys._base_executable).resolve()
UV = Path(sys.executable).with_name("uv")
#: What has to be done is done within this time, or hangs.
SECONDS = 300
#: What the kit is made of that demo.zip is built from.
SOURCES = ("assets", "backends", "demo.zip-builder", "model_repository", "src", "tools")


#: A model in place of multi_style that is there at once: it makes a negative.
NEGATIVE = """
import triton_python_backend_utils as utils

class TritonPythonModel:
    def execute(self, requests):
        photos = [utils.get_input_tensor_by_name(request, "INPUT_0") for request in requests]
        return [
            utils.InferenceResponse([utils.Tensor("OUTPUT_0", 255 - photo.as_numpy())])
            for photo in photos
        ]
"""

#: Where each command of docs/publishing.md is run.
RUN_BY = {
    "make demo.zip": "the fixture built",
    "python3 -m zipfile -e demo.zip demo": "the fixture demo",
    "bash demo/run.sh": "test_run_sh_from_nothing",
    "bash run_cloud.sh": "test_run_cloud_ends_the_page_with_triton",
    "docker run --rm --init --publish=7860:7860": "by hand: needs a Docker engine, installs 5 GB",
}


def build(root, folder, **variables):
    """Build demo.zip of a clone into a folder; return the file and what was said."""
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, root / "demo.zip-builder"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(root / "src"), **variables},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "demo.zip", done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """What ``make demo.zip`` makes and says here."""
    clone = tmp_path_factory.mktemp("one")
    for name in ("Makefile", "demo.zip-builder"):
        (clone / name).symlink_to(ROOT / name)
    (clone / "tools").mkdir()
    (clone / "tools" / "set_up.sh").write_text("exit 0\n")
    (clone / ".venv" / "bin").mkdir(parents=True)
    python = clone / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = run("make demo.zip", clone, kept)
    assert (done.returncode, done.stderr) == (0, "")
    return clone / "demo.zip", done.stdout


def run(command, folder, environment):
    return subprocess.run(
        command.split(), cwd=folder, env=environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def demo(built, tmp_path_factory):
    """The folder in which demo.zip was unpacked, and nothing else."""
    folder = tmp_path_factory.mktemp("unpacked demo")
    shutil.copy(built[0], folder)
    done = run("python3 -m zipfile -e demo.zip demo", folder, os.environ)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return folder / "demo"


@pytest.fixture(scope="module")
def light_demo(demo, tmp_path_factory):
    """A demo whose only model needs no OneFlow, and whose files are not checked any more."""
    folder = tmp_path_factory.mktemp("light") / "demo"
    left_out = shutil.ignore_patterns(".venv", "SHA256SUMS", "model_repo", "result.jpg", "logs")
    shutil.copytree(demo, folder, ignore=left_out)
    model = folder / "model_repo" / "multi_style"
    (model / "1").mkdir(parents=True)
    (model / "1" / "model.py").write_text(NEGATIVE)
    config = (demo / "model_repo" / "multi_style" / "configs" / "cpu.pbtxt").read_text()
    (model / "config.pbtxt").write_text(config.replace('"oneflow"', '"python"'))
    return folder


@pytest.fixture
def machine(tmp_path):
    """The environment of somebody with a home of their own and no kit."""
    for name in ("home", "temporary", "commands"):
        (tmp_path / name).mkdir()
    (tmp_path / "commands" / "uv").symlink_to(UV)
    return {
        "PATH": f"{tmp_path / 'commands'}:{PYTHON.parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(tmp_path / "home"),
        "TMPDIR": str(tmp_path / "temporary"),
        "LANG": "C.UTF-8",
        # Where the machine's package index is set, and what it has downloaded already.
        "XDG_CONFIG_HOME": os.environ.get("XDG_CONFIG_HOME", str(Path.home() / ".config")),
        "UV_CACHE_DIR": subprocess.check_output([UV, "cache", "dir"], text=True).strip(),
        "SERVING_KIT_SERVER": "local",
        "SERVING_KIT_TEST_SESSION": os.environ["SERVING_KIT_TEST_SESSION"],
        "MARK_OF_THIS_TEST": uuid.uuid4().hex,
    }


def processes(environment):
    """The PIDs of the living processes that carry the mark of an environment."""
    mark = f"MARK_OF_THIS_TEST={environment['MARK_OF_THIS_TEST']}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


class Running:
    """run.sh or run_cloud.sh at work."""

    def __init__(self, script, environment):
        self.environment = environment
        self.temporary = Path(environment["TMPDIR"])
        self.said = self.temporary.parent / "said"
        self.runs = set()
        with self.said.open("wb") as output:
            self.process = subprocess.Popen(
                ["bash", script],
                cwd="/",
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def text(self):
        return self.said.read_text()

    def wait_for(self, pattern):
        """Return the match of a line that the script prints."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            if match := re.search(pattern, self.text(), re.M):
                return match
            assert self.process.poll() is None, self.text()
            time.sleep(0.1)
        raise AssertionError(self.text())

    def end(self, number=None):
        """Send a signal; return the exit code once nothing is left: no process, so no port."""
        self.runs |= {path.name for path in self.temporary.glob("serving-kit-run-*")}
        if number:
            self.process.send_signal(number)
        code = self.process.wait(SECONDS)
        deadline = time.monotonic() + 60
        while (left := self.leftovers()) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not left
        return code

    def leftovers(self):
        """Processes, temporary files and shared memory of this run."""
        segments = [segment for run in self.runs for segment in Path("/dev/shm").glob(f"{run}*")]
        return [*processes(self.environment), *self.temporary.iterdir(), *segments]


@pytest.fixture
def start(demo, machine):
    """Starts a script of a demo, and ends what a failed test leaves."""
    started = []

    def start(script=demo / "run.sh", **variables):
        started.append(Running(script, machine | variables))
        return started[-1]

    yield start
    for running in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.process.pid, signal.SIGTERM)
        running.process.wait(SECONDS)


def answers(url):
    with urlopen(url, timeout=SECONDS) as answer:
        return answer.status, answer.read().decode()


def not_in_a_clone(folder, names):
    """For ``copytree``: leave out what Python has compiled, and the exported versions of models."""
    return [
        name
        for name in names
        if name == "__pycache__" or (Path(folder) / name / "export.json").exists()
    ]


@pytest.mark.long
def test_built_twice_the_bytes_are_the_same(built, tmp_path):
    clone = tmp_path / "a clone"
    for name in SOURCES:
        shutil.copytree(ROOT / name, clone / name, ignore=not_in_a_clone, symlinks=True)
    shutil.copy(ROOT / "LICENSE", clone)
    for path in clone.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    again, said = build(clone, tmp_path / "there", TZ="Asia/Shanghai", LC_ALL="C")
    assert said == built[1]
    assert (
        hashlib.sha256(again.read_bytes()).digest()
        == hashlib.sha256(built[0].read_bytes()).digest()
    )


def test_what_is_in_it(built):
    file, said = built
    assert file.stat().st_size < 25_000_000
    assert re.search(r"^verified  multi_style: served and in-process results differ by", said, re.M)
    with zipfile.ZipFile(file) as packed:
        entries = packed.infolist()
        requirements = packed.read("requirements.txt").decode()
        texts = {
            entry.filename: packed.read(entry).decode()
            for entry in entries
            if entry.filename.endswith((".py", ".sh", ".md", ".txt", ".pbtxt", ".mlir"))
        }
    names = [entry.filename for entry in entries]
    assert names == sorted(names) and len(set(names)) == len(names)
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    modes = {entry.filename: entry.external_attr >> 16 for entry in entries}
    assert modes["run.sh"] == modes["tools/set_up.sh"] == 0o100755
    assert modes["infer.py"] == modes["model_repo/multi_style/config.pbtxt"] == 0o100644
    assert not any(name.startswith("/") or ".." in name.split("/") for name in names)
    assert not any(
        "__pycache__" in name or name.endswith((".pyi", "export.json")) for name in names
    )
    pins = re.findall(r"^([a-z0-9-]+)==", requirements, re.M)
    assert {"oneflow", "tritonclient", "gradio", "nvidia-pytriton", "uv"} <= set(pins)
    assert not {"jupyterlab", "pytest", "onnxruntime", "opencv-python"} & set(pins)
    assert requirements.count("--hash=sha256:") >= len(pins)
    for name, text in texts.items():
        assert str(ROOT) not in text and str(Path.home()) not in text, name


def commands_of(text):
    blocks = re.findall(r"^```shell\n(.*?)^```", text, re.S | re.M)
    return [line for block in blocks for line in block.splitlines()]


def test_run_sh_from_nothing(start, demo, machine):
    assert not (demo / ".venv").exists()
    running = start()
    page = running.wait_for(r"^page +(http://127\.0\.0\.1:\d+/)$")[1]
    running.wait_for("^stop")
    assert re.search(r"^choice    local on the CPU: asked for$", running.text(), re.M)
    # The cat was painted, and not only copied.
    assert read_image(demo / "result.jpg").shape == read_image(CAT).shape
    assert cv2.absdiff(read_image(demo / "result.jpg"), read_image(CAT)).mean() > 20
    status, text = answers(page)
    assert status == 200 and "OneFlow" in text
    assert answers(f"{page}health") == (200, '{"painter":"ready"}')

    http, grpc = re.search(r"^ports     HTTP (\S+), gRPC (\S+)$", running.text(), re.M).groups()
    commands = [line for line in commands_of((demo / "README.md").read_text()) if "infer" in line]
    assert len(commands) == 3
    for command in commands:
        url = grpc if "grpc" in command else http
        done = subprocess.run(
            f"{command} --url {url}", shell=True, cwd=demo, env=machine,
            capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        assert re.match(r"\w+\.jpg: 451 x 300 pixels, painted in \d+ ms\n", done.stdout)

    assert running.end(signal.SIGINT) == 130
    assert running.text().endswith("interrupted; everything that was started is stopped\n")
    assert not list(Path(machine["HOME"]).iterdir())


def test_both_readmes_have_the_same_commands(demo):
    english, chinese = (
        commands_of((demo / name).read_text()) for name in ("README.md", "README.zh.md")
    )
    assert english == chinese and english[0] == "bash run.sh" and english[-1] == "bash run_cloud.sh"


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_run_sh_is_asked_to_end_while_triton_loads(start, number):
    running = start()
    while not list(running.temporary.glob("serving-kit-run-*/supervisor.pid")):
        assert running.process.poll() is None, running.text()
        time.sleep(0.05)
    assert running.end(number) == 128 + number


@pytest.fixture
def cloud(start):
    """Starts run_cloud.sh with the kit's own Python and Triton in place of a container's."""
    python_packages = Path(sysconfig.get_path("purelib"))
    there = {
        "TRITONSERVER": str(python_packages / "pytriton" / "tritonserver" / "bin" / "tritonserver"),
        "DEMO_PYTHON": sys.executable,
        "DEMO_HOST": "127.0.0.1",
        "DEMO_PORT": "0",
        "DEMO_ROOT_PATH": "/demo",
    }

    def cloud(folder, **variables):
        return start(folder / "run_cloud.sh", **there | variables)

    return cloud


def kill(environment, program):
    """Kill the process of a run whose program, or first argument, has this name."""
    (pid,) = [
        process.pid
        for process in map(psutil.Process, processes(environment))
        if any(word.endswith(f"/{program}") for word in process.cmdline()[:2])
    ]
    os.kill(pid, signal.SIGKILL)


@pytest.mark.long
def test_run_cloud_ends_the_page_with_triton(cloud, demo):
    """Served by a Triton that is installed, and that is started again until it is given up."""
    running = cloud(demo)
    page = running.wait_for(r"^page +(http://127\.0\.0\.1:\d+/demo/)$")[1]
    assert "installed Triton 2.51.0 on 127.0.0.1:" in running.text()
    assert answers(page)[0] == 200
    log = demo / "logs" / "triton.log"
    for number in range(len(restarts.PAUSES)):
        kill(running.environment, "tritonserver")
        deadline = time.monotonic() + SECONDS
        while log.read_text().count("Triton responds again") <= number:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert answers(page)[0] == 200
    kill(running.environment, "tritonserver")
    assert running.end() == 1
    assert "\nerror: Triton ended with exit code -9, so the page is stopped, too" in running.text()
    assert "successfully loaded 'multi_style'" in log.read_text()
    assert (demo / "logs" / "page.log").read_text().startswith("page ")


def test_run_cloud_ends_triton_with_the_page(cloud, light_demo):
    running = cloud(light_demo)
    running.wait_for("^stop")
    kill(running.environment, "server.py")
    assert running.end() == 1
    assert "\nerror: the page ended with exit code -9, so Triton is stopped, too" in running.text()


def test_run_cloud_is_killed(cloud, light_demo):
    """run.sh becomes the same program."""
    running = cloud(light_demo)
    running.wait_for("^stop")
    assert running.end(signal.SIGKILL) == -signal.SIGKILL


def test_run_cloud_on_a_port_that_is_taken(cloud, light_demo):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        running = cloud(light_demo, DEMO_PORT=str(port))
        assert running.end() == 1
    assert re.search(rf"^error: the page, server\.py, did not start: .*port {port}: .*in use",
                     running.text(), re.M)  # fmt: skip


def test_run_cloud_without_triton(demo, machine):
    line = refusal(demo / "run_cloud.sh", machine | {"TRITONSERVER": "/none/bin/tritonserver"})
    assert line.startswith("run_cloud.sh: There is no /none/bin/tritonserver: start this where")


def refusal(script, environment):
    """Run a script that must refuse; return its one sentence."""
    done = subprocess.run(
        ["bash", script], cwd="/", env=environment, capture_output=True, text=True,
        timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and done.stdout == "", done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    return line


def test_a_damaged_file_is_refused(built, tmp_path, machine):
    demo = tmp_path / "demo"
    shutil.unpack_archive(built[0], demo)
    weights = demo / "model_repo/multi_style/1/model/module.paint.gamma/out"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    for script in ("run.sh", "run_cloud.sh"):
        line = refusal(demo / script, machine | {"TRITONSERVER": "/bin/true"})
        assert line.startswith(f"check: {weights.relative_to(demo)} is not as it was published: ")
    weights.write_bytes(whole)
    (demo / "infer.py").rename(demo / "infer")
    assert refusal(demo / "run.sh", machine).startswith("check: infer.py is not as it was ")
    (demo / "infer").rename(demo / "infer.py")
    sums = (demo / "SHA256SUMS").read_bytes()
    (demo / "SHA256SUMS").write_bytes(sums[:-20])
    assert "SHA256SUMS is not as it was" in refusal(demo / "run.sh", machine)
    check = ["bash", demo / "tools" / "check_files.sh"]
    (demo / "SHA256SUMS").write_bytes(sums)
    assert subprocess.run(check, capture_output=True, check=True).stderr == b""
    weights.unlink()
    (demo / "SHA256SUMS").unlink()  # as the sentence says, nothing is checked any more
    assert subprocess.run(check, capture_output=True, check=True).stderr == b""


def test_every_command_of_docs_publishing_is_known():
    commands = commands_of((ROOT / "docs" / "publishing.md").read_text())
    known = {known for known in RUN_BY for command in commands if command.startswith(known)}
    assert known == set(RUN_BY)
    assert all(command.startswith(tuple(RUN_BY)) for command in commands)
