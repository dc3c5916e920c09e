"""deploy/swarm/ on a swarm of its own, by the commands of its README.

Skipped, with the reason, where there is no Docker engine, or another swarm.
"""

import contextlib
import shlex
import subprocess

import pytest
from docker_engine import kill_within, run_docker
from hunting import asks_for_the_token, nobody_notices, wait, write_gateway_with_token

from serving_kit.paths import ROOT
from serving_kit.server import supervisor
from serving_kit.server.ports import HOST
from serving_kit.server.supervisor import STUB

pytestmark = pytest.mark.long

README = ROOT / "deploy" / "swarm" / "README.md"
OF_STACK = "label=com.docker.stack.namespace=kit"
BRIDGE = "docker_gwbridge"
OF_TRITON = "label=com.docker.swarm.service.name=kit_triton"
SECONDS = 180


def run_from_readme(command, **environment):
    """Run a command that the README tells, with a learner's settings in the environment."""
    assert f"{command}\n" in README.read_text(), command
    return run_docker(*shlex.split(command)[1:], **environment)


def left():
    """Return what the stack and its swarm have on this engine."""
    found = run_docker("ps", "--all", "--quiet", f"--filter={OF_STACK}").split()
    found += run_docker("volume", "ls", "--quiet", f"--filter={OF_STACK}").split()
    networks = set(run_docker("network", "ls", "--format={{.Name}}").split())
    return [*found, *(networks & {"kit_kit", "ingress", BRIDGE})]


@pytest.fixture(scope="module")
def engine(kit_image):
    """An engine with the images, in no swarm, on which nothing of this test is left afterwards."""
    if run_docker("info", "--format={{.Swarm.LocalNodeState}}") != "inactive":
        pytest.skip("this engine is in a swarm already, and the test makes one of its own")
    before = left()
    with contextlib.ExitStack() as ends:
        ends.callback(lambda: wait(lambda: left() == before))
        if BRIDGE not in before:
            ends.callback(run_from_readme, f"docker network rm {BRIDGE}")
        yield ends


@pytest.fixture(scope="module")
def settings(port_of_module, tiny_and_picture):
    """The variables of the stack."""
    names = ("HTTP_PORT", "GRPC_PORT", "METRICS_PORT")
    ports = {name: str(port_of_module + i) for i, name in enumerate(names)}
    return {"MODELS": str(tiny_and_picture), **ports}


@pytest.fixture(scope="module")
def stack(engine, settings, port_of_module):
    """Two Tritons behind the gateway; gives the gateway's first port."""
    run_from_readme("docker swarm init --advertise-addr 127.0.0.1")
    engine.callback(run_from_readme, "docker swarm leave --force")
    engine.callback(remove)
    run_from_readme(
        "docker stack deploy --compose-file deploy/swarm/stack.yaml --resolve-image never kit",
        **settings,
    )
    wait(lambda: is_settled(2) and is_ready(port_of_module), SECONDS)
    return port_of_module


def remove():
    run_from_readme("docker stack rm kit")
    wait(lambda: not run_docker("ps", "--quiet", f"--filter={OF_STACK}"))
    if stopped := run_docker("ps", "--all", "--quiet", f"--filter={OF_STACK}").split():
        run_docker("rm", *stopped)  # the last of each task, which swarm keeps


def is_ready(port):
    with contextlib.suppress(OSError):
        return supervisor.request(HOST, port, "/v2/health/ready")[0] == 200
    return False


def tritons():
    """Return the running containers of Triton and their states."""
    lines = run_docker(
        "ps", "--no-trunc", f"--filter={OF_TRITON}", "--format={{.ID}} {{.Status}}"
    ).splitlines()
    return dict(line.split(maxsplit=1) for line in lines)


def is_settled(count):
    return len(tritons()) == count and all("(healthy)" in state for state in tritons().values())


def log_of(container):
    done = subprocess.run(
        ["docker", "logs", container], capture_output=True, text=True, timeout=SECONDS, check=True
    )
    return done.stdout + done.stderr


def test_the_name_has_the_addresses_of_all_tritons(stack):
    script = "import socket; print(*socket.gethostbyname_ex('triton')[2])"
    gateway = run_docker(
        "ps", "--quiet", "--filter=label=com.docker.swarm.service.name=kit_gateway"
    )
    assert len(run_docker("exec", gateway, "python3", "-c", script).split()) == 2


def test_a_tritonserver_is_killed(stack):
    container = next(iter(tritons()))
    with nobody_notices("a tritonserver was killed", stack):
        kill_within(container, "tritonserver")
        wait(lambda: "Triton responds again" in log_of(container))
    assert container in tritons()


def test_a_third_triton_comes(stack):
    with nobody_notices("two became three", stack):
        run_from_readme("docker service scale kit_triton=3")
        wait(lambda: is_settled(3))


def test_a_stub_a_worker_and_their_container_are_killed(stack):
    container = next(iter(tritons()))
    with nobody_notices("a stub was killed", stack):
        kill_within(container, STUB, "/tiny/")
        wait(lambda: "tiny is loaded again" in log_of(container))
    with nobody_notices("a worker was killed", stack):
        kill_within(container, "python3.10", "oneflow_backend/worker.py")
        wait(lambda: "OneFlow's process died" in log_of(container))
    with nobody_notices("a container was killed", stack):
        run_docker("kill", container)
        wait(lambda: container not in tritons() and is_settled(3))


def test_a_triton_goes(stack):
    with nobody_notices("three became two", stack):
        run_from_readme("docker service scale kit_triton=2")
        wait(lambda: is_settled(2))


def test_all_tritons_are_replaced(stack):
    before = set(tritons())
    with nobody_notices("all were replaced", stack):
        run_from_readme("docker service update --force kit_triton")
        wait(lambda: is_settled(2))
    assert not before & set(tritons())


def test_a_token(stack, settings, tmp_path):
    write_gateway_with_token(tmp_path / "gateway.yaml")
    run_from_readme(
        "docker stack deploy --compose-file deploy/swarm/stack.yaml "
        "--compose-file deploy/swarm/access.yaml --resolve-image never kit",
        **settings,
        GATEWAY_CONFIG=str(tmp_path / "gateway.yaml"),
    )
    wait(lambda: asks_for_the_token(stack))
