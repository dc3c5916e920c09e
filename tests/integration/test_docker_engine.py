"""The kit's image on a real Docker engine; skipped, with the reason, where there is none.

``test_docker_promises`` has what the kit does with it, ``test_docker_server`` what needs no engine.
"""

import contextlib
import http.client
import json
import os
import re
import shlex
import signal
import subprocess
import threading
import time

import numpy as np
import psutil
import pytest
from docker_engine import kill_within, run_docker

from serving_kit.client import infer, load_image
from serving_kit.models import repository_for
from serving_kit.paths import CAT
from serving_kit.server import TritonServer, docker, runs
from serving_kit.server.ports import HOST
from serving_kit.stylenet import style_weights

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("kit_image")]

SECONDS = 60
#: A start with a tiny model; a machine that is busy with other tests takes several times as long.
START_SECONDS = 30


@pytest.fixture
def container(tiny_repository, port, nothing_is_left):
    """A server of the tiny model in Docker."""
    ports = {"http_port": port, "grpc_port": port + 1, "metrics_port": port + 2}
    with TritonServer(tiny_repository, mode="docker", **ports) as server:
        yield server


def id_of(server):
    return (server.run_dir / "container").read_text()


def kill(server, program, word=""):
    kill_within(id_of(server), program, word)


def ask(url):
    x = np.float32([1, 2])
    assert (infer(x, model="tiny", url=url) == x).all()


def get(url, path, body=None):
    """Send a GET, or with a body a POST; return the status, or None without a response."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        connection = http.client.HTTPConnection(url, timeout=SECONDS)
        with contextlib.closing(connection):
            connection.request("GET" if body is None else "POST", path, body)
            return connection.getresponse().status


class Client(threading.Thread):
    """Asks without a pause until told to end; notes when a request failed or did not."""

    def __init__(self, url):
        super().__init__(daemon=True)
        self.url, self.is_to_end = url, threading.Event()
        self.good, self.failed = [], []

    def run(self):
        while not self.is_to_end.is_set():
            try:
                ask(self.url)
                self.good.append(time.monotonic())
            except Exception:
                self.failed.append(time.monotonic())
                time.sleep(0.02)


def test_every_model_responds_as_the_embedded_server_does(server):
    with TritonServer(repository_for(), mode="docker") as container:
        assert all(container.models().values()) and len(container.models()) == 5
        for model, weights in (("fast_neural_style", ()), ("multi_style", (blend(),))):
            image, *_ = load_image(CAT, 256, 256)
            one, other = (
                infer(image, *weights, model=model, url=s.url) for s in (server, container)
            )
            assert (one == other).all()
        one, other = map(stylize_jpeg, (server, container))
        assert one == other and one[:2] == b"\xff\xd8"
        megabytes = memory_of(id_of(container)) / 1e6
        print(f"the container takes {megabytes:.0f} MB")
        assert megabytes < 700


def memory_of(identity):
    """Return the bytes that a container takes; the kernel's cache of files does not count."""
    usage = run_docker("stats", "--no-stream", "--format={{.MemUsage}}", identity).split(" / ")[0]
    number, unit = re.fullmatch(r"([\d.]+)([KMG])iB", usage).groups()
    return float(number) * 1024 ** (1 + "KMG".index(unit))


def blend():
    return style_weights({"starry_night": 0.7, "red_ember": 0.3})


def stylize_jpeg(server):
    connection = http.client.HTTPConnection(server.url, timeout=SECONDS)
    with contextlib.closing(connection):
        headers = {
            "Inference-Header-Content-Length": "0", "Content-Type": "application/octet-stream"
        }  # fmt: skip
        connection.request("POST", "/v2/models/stylize_jpeg/infer", CAT.read_bytes(), headers)
        response = connection.getresponse()
        body = response.read()
        assert response.status == 200, body
        return body[int(response.headers["Inference-Header-Content-Length"]) :]


def test_a_killed_triton_is_started_again_in_the_same_container(container, wait_until):
    clients = [Client(container.url) for _ in range(2)]
    for client in clients:
        client.start()
    wait_until(lambda: all(client.good for client in clients))
    before, killed = id_of(container), time.monotonic()
    kill(container, "tritonserver")
    wait_until(lambda: all(client.failed for client in clients))
    wait_until(lambda: all(client.good[-1] > client.failed[-1] for client in clients))
    for client in clients:
        client.is_to_end.set()
        client.join()
    assert max(max(client.failed) for client in clients) - killed < START_SECONDS
    assert "Triton was ended by signal 9 (SIGKILL)" in container.log()
    assert container.exit_code() is None and id_of(container) == before
    # All shared memory is the new one's: the tiny model has one region.
    assert len(run_docker("exec", before, "ls", "/dev/shm").split()) == 1


def test_bodies_that_ended_triton(container, wait_until):
    assert get(container.url, "/v2/models/tiny/infer", "[" * 500_000) == 500
    assert "supervisor" not in container.log()
    shape = {"name": "INPUT_0", "shape": [8589934592], "datatype": "FP32", "data": [1]}
    assert get(container.url, "/v2/models/tiny/infer", json.dumps({"inputs": [shape]})) is None
    wait_until(lambda: "started again" in container.log() and container.is_ready())
    ask(container.url)


def test_a_model_whose_process_died_is_loaded_again(container, wait_until):
    time.sleep(1)  # a process that dies before its first look is not known
    kill(container, "triton_python_backend_stub", "/tiny/")
    wait_until(lambda: "tiny is loaded again" in container.log())
    ask(container.url)


def test_the_probe_runs_in_the_container(container):
    probe = ["docker", "exec", id_of(container), "python3", "-IS"]
    probe += ["/opt/serving-kit/supervisor", "probe"]
    assert subprocess.run(probe, timeout=SECONDS).returncode == 0


def test_five_ends_within_a_minute_are_the_last(container, wait_until):
    for count in range(1, 6):
        wait_until(container.is_ready)
        time.sleep(1)
        kill(container, "tritonserver")
        wait_until(lambda count=count: container.log().count("was ended by signal 9") == count)
    wait_until(lambda: container.exit_code() == 128 + signal.SIGKILL)
    assert "the 5th time within 60 s; not started again" in container.log()
    assert id_of(container) not in run_docker("ps", "--all", "--quiet", "--no-trunc")


@pytest.mark.parametrize(
    "end", ["docker stop", "docker kill", "docker rm", "supervisor", "client", "both"]
)
def test_however_it_ends_nothing_is_left(container, wait_until, end):
    supervisor = runs.supervisor_of(container.run_dir)
    (client,) = (p.pid for p in psutil.Process(supervisor).children() if p.name() == "docker")
    identity = id_of(container)
    began = time.monotonic()
    if end == "docker stop":
        with contextlib.closing(http.client.HTTPConnection(container.url)) as idle:
            idle.request("GET", "/v2")
            idle.getresponse().read()  # the connection is kept
            run_docker("stop", "--time=30", identity)
            assert time.monotonic() - began < 10
    elif end == "docker kill":
        run_docker("kill", identity)
    elif end == "docker rm":
        run_docker("rm", "--force", identity)
    if end in ("client", "both"):
        os.kill(client, signal.SIGKILL)
    if end in ("supervisor", "both"):
        os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: identity not in run_docker("ps", "--all", "--quiet", "--no-trunc"))
    assert time.monotonic() - began < START_SECONDS
    wait_until(lambda: not container.is_ready())


@pytest.mark.parametrize(
    ("flags", "end"),
    [
        (["--user=4321:4321"], ["stop", "--time=30"]),
        ([], ["kill", "--signal=HUP"]),
        (["--init"], ["kill", "--signal=TERM"]),
    ],
)
def test_the_command_to_be_pasted(tiny_repository, port, nothing_is_left, wait_until, flags, end):
    """In the background, as another user, and with an init beside the supervisor."""
    wanted = {"http_port": port, "grpc_port": port + 1, "metrics_port": port + 2}
    words = shlex.split(TritonServer(tiny_repository, mode="docker", **wanted).command())
    identity = run_docker("run", "--detach", *flags, *words[2:])
    url = f"{HOST}:{port}"
    wait_until(lambda: get(url, "/v2/health/ready") == 200)
    ask(url)
    log = logs_of(identity)
    assert "Started HTTPService" in log
    run_docker(*end, identity)
    wait_until(lambda: identity not in run_docker("ps", "--all", "--quiet", "--no-trunc"))


LOCKED_DOWN = (
    "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges"
)  # fmt: skip


@pytest.mark.parametrize("user", [(), ("--user=4321:4321",)])
def test_without_a_command_it_serves_as_the_machine_can(tiny_repository, port, wait_until, user):
    mount = f"--mount=type=bind,source={tiny_repository},target=/models,readonly"
    flags = ("--detach", "--rm", "--shm-size=1g", *LOCKED_DOWN, f"--publish={HOST}:{port}:8000")
    identity = run_docker("run", *flags, *user, mount, docker.KIT_IMAGE)
    try:
        wait_until(lambda: get(f"{HOST}:{port}", "/v2/health/ready") == 200)
        ask(f"{HOST}:{port}")
        said = "no GPU can be seen here: the models are served on the CPU, with --model-config-name"
        assert logs_of(identity).splitlines()[0] == f"{said}=cpu"
        owners = run_docker("exec", identity, "stat", "--format=%u", "/proc/1")
        assert owners == ("4321" if user else "1000")
        health = ("inspect", "--format={{.State.Health.Status}}", identity)
        wait_until(lambda: run_docker(*health) == "healthy")
    finally:
        run_docker("stop", identity)
    assert get(f"{HOST}:{port}", "/v2/health/ready") is None


def test_a_command_is_run_as_it_is_given():
    run = ("run", "--rm", *LOCKED_DOWN, docker.KIT_IMAGE)
    assert run_docker(*run, "echo", "as", "given") == "as given"
    assert run_docker(*run, "sh", "-c", "command -v tritonserver") == (
        "/opt/tritonserver/bin/tritonserver"
    )


def test_the_health_check_says_what_is_wrong():
    command = ("python3", "-IS", "/opt/serving-kit/health.py")
    done = subprocess.run(
        ["docker", "run", "--rm", docker.KIT_IMAGE, *command], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Triton does not respond on port 8000: ")


def test_the_image_says_what_it_is():
    labels = json.loads(run_docker("inspect", "--format={{json .Config.Labels}}", docker.KIT_IMAGE))
    prefix = "org.opencontainers.image."
    assert labels[f"{prefix}title"] == docker.KIT_IMAGE
    names = ("description", "licenses", "version", "revision", "base.name")
    assert all(labels[f"{prefix}{name}"] for name in names)


def logs_of(identity):
    done = subprocess.run(
        ["docker", "logs", identity], capture_output=True, text=True, timeout=SECONDS, check=True
    )
    return done.stdout + done.stderr
