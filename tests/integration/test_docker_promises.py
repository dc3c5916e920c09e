"""The kit's promises where the server is a container on a real Docker engine."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from docker_engine import containers_of, run_docker

from serving_kit import cli
from serving_kit.errors import ServerError
from serving_kit.paths import ROOT
from serving_kit.server import TritonServer, registry, running_servers, runs
from serving_kit.server.ports import HOST

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("kit_image", "is_clean")]

SECONDS = 120
SEED = 17
#: How each of thirty servers ends: twenty are stopped, something is killed with -9 in the others.
ENDS = [
    *["stop"] * 20,
    *["owner, at its start"] * 3,
    *["owner"] * 2,
    *["supervisor"] * 2,
    *["client", "supervisor and client", "container"],
]
#: What a test of the engine itself does without.
LARGE = ("oneflow*", "nvidia", "cv2", "opencv*", "pillow*")
OWNER = """
import sys
from serving_kit.server import TritonServer
port = int(sys.argv[2])
ports = {"http_port": port, "grpc_port": port + 1, "metrics_port": port + 2}
with TritonServer(sys.argv[1], mode="docker", **ports) as server:
    print((server.run_dir / "container").read_text(), flush=True)
    sys.stdin.read()
"""


def id_of(server):
    return (server.run_dir / "container").read_text()


def wanted(port):
    return {"http_port": port, "grpc_port": port + 1, "metrics_port": port + 2}


@pytest.fixture
def kit(nothing_is_left, tmp_path, monkeypatch, capsys):
    """Gives a command to the command line; returns exit code, output and errors."""
    monkeypatch.setattr(registry, "SERVERS", tmp_path / "servers")
    monkeypatch.setenv("SERVING_KIT_SERVERS", str(tmp_path / "servers"))

    def kit(*arguments):
        capsys.readouterr()
        code = cli.main([str(argument) for argument in arguments])
        return code or 0, *capsys.readouterr()

    yield kit
    for server in running_servers():
        server.stop()


# --- make serve, make status, make stop ------------------------------------------------------


def test_serve_status_stop(kit, tiny_repository, port):
    serve = ("serve", "--server", "docker", "--repository", tiny_repository, "--port", port)
    code, output, errors = kit(*serve)
    assert (code, errors) == (0, "")
    name = f"Triton 2.51.0 in Docker (oneflow-serving-kit, CPU) on 127.0.0.1:{port}"
    assert "choice    docker on the CPU: there is no NVIDIA GPU (nvidia-smi lists none)" in output
    assert re.search(rf"^server    {re.escape(name)}, ready in [\d.]+ s$", output, re.M)
    (identity,) = containers_of(tiny_repository)
    assert kit("status")[:2] == (
        0,
        f"server    {name}: ready\nmodels    tiny, from {tiny_repository}\n",
    )
    # The same once more: it is taken as it is.
    assert "was running already" in kit(*serve)[1]
    assert containers_of(tiny_repository) == [identity]
    assert kit("stop")[1] == f"stopped   {name}\n"
    assert kit("status")[0] == 1


def test_two_starts_at_once_end_with_one_server(kit, tiny_repository, port):
    serve = [sys.executable, "-m", "serving_kit", "serve", "--server", "docker"]
    serve += ["--repository", tiny_repository, "--port", str(port)]
    both = [subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=SECONDS)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted("was running already" in output for output in outputs) == [False, True]
    assert len(containers_of(tiny_repository)) == 1


def test_a_container_that_died_is_told_and_replaced(kit, tiny_repository, port):
    serve = ("serve", "--server", "docker", "--repository", tiny_repository, "--port", port)
    assert kit(*serve)[0] == 0
    (identity,) = containers_of(tiny_repository)
    run_docker("kill", identity)
    run_docker("wait", identity, check=False)
    assert kit("status")[0] == 1
    code, output, _ = kit(*serve)
    assert code == 0 and "was running already" not in output
    assert containers_of(tiny_repository) != [identity]


# --- What is in the way ----------------------------------------------------------------------


def test_a_port_is_taken(tiny_repository, port, nothing_is_left):
    said = pytest.raises(ServerError, match=f"port {port} of {HOST} is taken by another")
    with socket.create_server((HOST, port)), said:
        TritonServer(tiny_repository, mode="docker", **wanted(port)).start()


def test_a_port_is_taken_while_the_container_starts(
    tiny_repository, port, monkeypatch, nothing_is_left
):
    """Docker refuses it then."""
    launcher = "serving_kit.server.kit_image.KitImageLauncher"
    monkeypatch.setattr(f"{launcher}.find_ports", lambda *_, **__: (port, port + 1, port + 2))
    said = pytest.raises(ServerError, match="address already in use")
    with socket.create_server((HOST, port)), said:
        TritonServer(tiny_repository, mode="docker", **wanted(port)).start()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_docker_is_not_ours_to_use(tiny_repository, tmp_path, monkeypatch):
    """The real engine refuses the real docker command of another user."""
    command = tmp_path / "bin" / "docker"
    command.parent.mkdir()
    own = shutil.which("docker")
    command.write_text(
        f'#!/bin/sh\nexec setpriv --reuid=65534 --regid=65534 --clear-groups {own} "$@"\n'
    )
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(command.parent), prepend=os.pathsep)
    monkeypatch.setenv("HOME", str(tmp_path))
    said = r"the Docker engine does not respond \(.*permission denied.*\); choose the embedded"
    with pytest.raises(ServerError, match=said):
        TritonServer(tiny_repository, mode="docker").start()


# --- An engine that goes away ----------------------------------------------------------------


@pytest.fixture(scope="module")
def other_engine(kit_image):
    """A second engine, to be ended, with the kit's image but for OneFlow, which is large."""
    if os.getuid() != 0 or not shutil.which("dockerd"):
        pytest.skip("only root can start a second engine, with dockerd")
    # Not one of pytest's: the paths of sockets have 107 characters at most.
    folder = Path(tempfile.mkdtemp())

    def engine(verb):
        subprocess.run([ROOT / ".ci" / "engine.sh", verb, folder], check=True, timeout=SECONDS)

    engine("start")
    try:
        with pytest.MonkeyPatch.context() as patch:
            config = json.loads(run_docker("inspect", "--format={{json .Config}}", kit_image))
            left_out = ["proc", "sys", "dev", *(f"opt/oneflow/{name}" for name in LARGE)]
            tar = ["tar", "-C", "/", *(f"--exclude=./{name}" for name in left_out), "-c", "."]
            changes = [f"ENTRYPOINT {json.dumps(config['Entrypoint'])}", f"USER {config['User']}"]
            changes += [f'ENV {name}="{value}"' for name, value in map(split, config["Env"])]
            run = ["docker", "run", "--rm", "--user=0", kit_image, *tar]
            with subprocess.Popen(run, stdout=subprocess.PIPE) as export:
                patch.setenv("DOCKER_HOST", f"unix://{folder}/docker.sock")
                load = ["docker", "import", *(f"--change={change}" for change in changes)]
                load += ["-", kit_image]
                subprocess.run(load, stdin=export.stdout, stdout=subprocess.DEVNULL, check=True)
        yield folder, engine
    finally:
        engine("stop")
        shutil.rmtree(folder)


def split(setting):
    return setting.split("=", 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_engine_goes_away(other_engine, monkeypatch, tiny_repository, wait_until, number):
    folder, engine = other_engine
    monkeypatch.setenv("DOCKER_HOST", f"unix://{folder}/docker.sock")
    engine("start")  # where the test before has ended it
    server = TritonServer(tiny_repository, mode="docker").start()
    run_dir, pid = server.run_dir, int((folder / "docker.pid").read_text())
    os.kill(pid, number)
    wait_until(lambda: server.exit_code() is not None and not psutil.pid_exists(pid))
    with pytest.raises(ServerError, match="the Docker engine does not respond"):
        TritonServer(tiny_repository, mode="docker").start()
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 30 and not run_dir.exists()
    # A container that outlived its engine ends when that is back.
    engine("start")
    wait_until(lambda: not containers_of(tiny_repository))
    with TritonServer(tiny_repository, mode="docker") as server:
        assert server.is_ready()


# --- Thirty starts ---------------------------------------------------------------------------


class Lane:
    """One server after the other on the same ports, each ended in another way."""

    def __init__(self, repository, port, seed):
        self.repository, self.port, self.random = repository, port, random.Random(seed)
        #: The containers that were seen.
        self.seen = []

    def run(self, ends):
        for end in ends:
            (self._end_of_owner if end.startswith("owner") else self._end_of_server)(end)
            self._wait_until_nothing_listens()

    def _end_of_owner(self, end):
        command = [sys.executable, "-c", OWNER, self.repository, str(self.port)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(command, text=True, **pipes) as owner:
            if end == "owner":
                self.seen.append(owner.stdout.readline().strip())
            else:
                time.sleep(self.random.uniform(0.5, 4))
            owner.send_signal(signal.SIGSTOP)  # so that it starts nothing more
            started = psutil.Process(owner.pid).children(recursive=True)
            owner.kill()
        # The container of a start that was cut off may listen for a moment, but not yet.
        assert not psutil.wait_procs(started, timeout=SECONDS)[1], "a supervisor goes on"

    def _end_of_server(self, end):
        with TritonServer(self.repository, mode="docker", **wanted(self.port)) as server:
            self.seen.append(id_of(server))
            supervisor = runs.supervisor_of(server.run_dir)
            clients = [p.pid for p in psutil.Process(supervisor).children() if p.name() == "docker"]
            if "client" in end:
                os.kill(clients[0], signal.SIGKILL)
            if "supervisor" in end:
                os.kill(supervisor, signal.SIGKILL)
            if end == "container":
                run_docker("kill", "--signal=KILL", self.seen[-1])

    def _wait_until_nothing_listens(self):
        deadline = time.monotonic() + SECONDS
        while any(map(listens, range(self.port, self.port + 3))):
            assert time.monotonic() < deadline, "a port is not free"
            time.sleep(0.1)


def listens(port):
    with contextlib.suppress(OSError):
        socket.create_connection((HOST, port), timeout=1).close()
        return True
    return False


def test_thirty_starts_and_stops_leave_nothing(tiny_repository, port, other_port, wait_until):
    ends = ENDS.copy()
    random.Random(SEED).shuffle(ends)
    began = time.monotonic()
    lanes = [Lane(tiny_repository, first, seed) for seed, first in enumerate((port, other_port))]
    with ThreadPoolExecutor(len(lanes)) as pool:
        shares = [ends[:15], ends[15:]]
        for done in [
            pool.submit(lane.run, share) for lane, share in zip(lanes, shares, strict=True)
        ]:
            done.result()
    wait_until(lambda: not containers_of(tiny_repository))
    seen = {identity for lane in lanes for identity in lane.seen}
    assert len(seen) == 30 - ENDS.count("owner, at its start")
    # The network that they were in, and what was mounted for them: files, and shared memory.
    networks = run_docker("network", "ls", "--quiet").split()
    network = run_docker("network", "inspect", *networks)
    volumes = run_docker("volume", "ls", "--quiet").split()
    known = run_docker("volume", "inspect", *volumes) if volumes else ""
    mounts = Path("/proc/mounts").read_text()
    for identity in seen:
        assert identity not in network + known + mounts
    killed, seconds = len(ends) - ends.count("stop"), time.monotonic() - began
    print(f"{len(ends)} starts, {killed} ended by kill -9, in {seconds:.0f} s: nothing is left")
