"""What the gateway's pod does before it is stopped in Kubernetes, with a real Envoy."""

import contextlib
import http.client
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from kubernetes_dns import RESOLV_CONF, TRITON_PORT
from kubernetes_objects import FOLDER, ROOT

from serving_kit.server.ports import HOST

SECONDS = 30
ADMIN = "gateway-admin"


def container():
    deployment, *_ = yaml.safe_load_all((FOLDER / "base" / "gateway.yaml").read_text())
    return deployment["spec"]["template"]["spec"]["containers"][0]


@pytest.fixture
def envoy(tmp_path, port, other_port, wait_until):
    """Envoy with the pod's command, at other ports, and its administration under another name."""
    text = (ROOT / "deploy" / "gateway" / "envoy.yaml").read_text()
    assert f"@{ADMIN}" in text
    config = yaml.safe_load(text.replace(f"@{ADMIN}", f"@{tmp_path.name}-{port}"))
    listeners = {each["name"]: each for each in config["static_resources"]["listeners"]}
    config["static_resources"]["listeners"] = [listeners["http"]]
    address = listeners["http"]["address"]["socket_address"]
    address |= {"address": HOST, "port_value": port}
    (tmp_path / "envoy.yaml").write_text(yaml.safe_dump(config))
    program, *options = container()["command"]
    options = [word.replace("/etc/envoy", str(tmp_path)) for word in options]
    command = [Path(sys.executable).with_name(program), *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: responds(port))
        yield tmp_path, process
    finally:
        process.kill()
        process.wait()


def responds(port):
    with contextlib.suppress(OSError), contextlib.closing(connection_to(port)) as client:
        return bool(ask(client))


def connection_to(port):
    return http.client.HTTPConnection(HOST, port, timeout=SECONDS)


def ask(client):
    """A path that the gateway refuses itself, so that no server is needed."""
    client.request("GET", "/v2/repository/index")
    response = client.getresponse()
    response.read()
    assert response.status == 403
    return {"connection": response.getheader("connection")}


@pytest.mark.long
def test_a_gateway_that_stops_asks_its_clients_to_leave(envoy, port):
    folder, process = envoy
    client = connection_to(port)
    assert ask(client) == ask(client) == {"connection": None}
    *command, code = container()["lifecycle"]["preStop"]["exec"]["command"]
    assert ADMIN in code
    code = code.replace(ADMIN, f"{folder.name}-{port}").replace("sleep(10)", "sleep(2)")
    started = time.monotonic()
    hook = subprocess.Popen([shutil.which(command[0]), *command[1:], code])
    try:
        while ask(client) != {"connection": "close"}:
            assert time.monotonic() - started < SECONDS
        assert ask(client) == {"connection": "close"}  # a new connection is still taken
        assert hook.poll() is None
        assert hook.wait(SECONDS) == 0
    finally:
        client.close()
        hook.kill()
        hook.wait()
    process.terminate()
    assert process.wait(SECONDS) == 0


def alone(*command):
    """Run a command in a network of its own, with files that may be covered by others."""
    command = ["unshare", "--user", "--map-root-user", "--net", "--mount", *command]
    return subprocess.run(command, capture_output=True, text=True, timeout=2 * SECONDS)


@pytest.mark.long
@pytest.mark.skipif(alone("true").returncode != 0, reason="no namespaces for users here")
def test_the_gateway_finds_the_servers_by_a_pods_list_of_domains(tmp_path):
    """The name "triton" alone; a cluster's DNS knows it with namespace and domain only."""
    text = (ROOT / "deploy" / "gateway" / "envoy.yaml").read_text()
    server = "address: triton, port_value: 8000"
    assert server in text
    text = text.replace(server, f"address: triton, port_value: {TRITON_PORT}")
    (tmp_path / "envoy.yaml").write_text(text)
    (tmp_path / "resolv.conf").write_text(RESOLV_CONF)
    program, *options = container()["command"]
    options = [word.replace("/etc/envoy", str(tmp_path)) for word in options]
    command = [sys.executable, Path(__file__).with_name("kubernetes_dns.py")]
    command += [Path(sys.executable).with_name(program), *options]
    script = f"ip link set lo up && mount --bind {tmp_path}/resolv.conf /etc/resolv.conf"
    done = alone("bash", "-c", f'{script} && exec "$@"', "bash", *map(str, command))
    assert done.stdout.strip() == "(200, 'ready')", done.stdout + done.stderr
