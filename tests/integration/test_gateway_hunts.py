"""Servers behind a gateway are killed, scaled, restarted; commands, logins, and what is left."""

import base64
import hashlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from test_gateway import (
    HUGE,
    HUGE_DATA,
    LENGTH,
    PAIR,
    SECONDS,
    Clients,
    hunt,
    kill,
    kill_a_triton,
    send,
    tensor_of,
)
from tritonclient.utils import InferenceServerException

from serving_kit import cli
from serving_kit.server import Access, ReplicatedServer, TritonServer, running_servers, runs
from serving_kit.server import registry as server_registry
from serving_kit.server.supervisor import STUB

pytestmark = pytest.mark.long

#: Longer than a server that broke a connection is left out.
QUIET_SECONDS = 1.5
ENDED = "the server ended during the request, and no other server could respond; send it again"


@pytest.fixture(scope="module")
def graphs(tmp_path_factory, tiny, tiny_version):
    """Two servers with a model of OneFlow, for the long hunts."""
    folder = tmp_path_factory.mktemp("graphs")
    shutil.copytree(tiny_version, folder / "tiny" / "1")
    (folder / "tiny" / "config.pbtxt").write_text(tiny.CONFIG)
    with ReplicatedServer(folder) as server:
        yield server


def end_both_tritons(server, processes_named, wait_until):
    for victim in server.servers:
        kill_a_triton(victim, processes_named, wait_until)
        time.sleep(QUIET_SECONDS)


def scale(server, *_):
    server.scale(3)
    assert len(server.servers) == server.ready_servers() == 3
    server.scale(2)
    assert len(server.servers) == server.ready_servers() == 2


def end_stub(server, processes_named, wait_until):
    victim = server.servers[0]
    kill(processes_named, victim, STUB)
    wait_until(lambda: "tiny is loaded again" in victim.log())


def end_workers(server, processes_named, wait_until):
    for _ in range(3):
        for victim in server.servers:
            for process in processes_named(victim.run_dir, "python"):
                if "worker.py" in " ".join(process.cmdline()):
                    process.kill()
            time.sleep(0.5)


HUNTS = {
    "both servers killed, one after the other": end_both_tritons,
    "a rolling restart": lambda server, *_: server.restart(),
    "scaling from 2 to 3 and back": scale,
    "a stub killed": end_stub,
    "workers killed": end_workers,
}


@pytest.mark.parametrize("what", HUNTS)
def test_no_request_is_lost_when(what, graphs, tiny, processes_named, wait_until):
    clients = Clients(graphs, "tiny", tiny.EXAMPLE, tiny.expected(tiny.EXAMPLE))
    hunt(what, clients, wait_until, lambda: HUNTS[what](graphs, processes_named, wait_until))
    assert graphs.ready_servers() == 2


def test_no_picture_is_lost_when_a_triton_is_killed(small_repository, processes_named, wait_until):
    image = np.random.default_rng(1).uniform(0, 255, (1, 3, 64, 64)).astype(np.float32)
    with ReplicatedServer(small_repository) as server:
        with httpclient.InferenceServerClient(server.url) as client:
            tensor = tensor_of(httpclient, image)
            expected = client.infer("small", [tensor]).as_numpy("OUTPUT_0")

        def end():
            kill_a_triton(server.servers[0], processes_named, wait_until)

        clients = Clients(server, "small", image, expected)
        hunt("pictures, one of two servers killed", clients, wait_until, end)


def test_json_where_it_is_opened_ends_one_server_and_no_further_one(is_clean, tiny_repository):
    """A request that ended its server is not sent to the next one if it may have been the cause."""
    body = json.dumps({"inputs": [HUGE | {"shape": [2], "data": [1, 2]}]}).encode()
    with ReplicatedServer(tiny_repository, access=Access(json=True)) as server:
        status, response = send(server, body)
        assert status == 200 and json.loads(response)["outputs"][0]["data"] == [1, 2]
        status, sentence = send(server, HUGE_DATA)
        assert (status, sentence) == (503, ENDED)
        assert send(server, body)[0] == 200
        time.sleep(QUIET_SECONDS)
        assert len(server.restarts()) == 1
        # Beside binary tensors it stays closed, and so does a length that is none.
        assert send(server, HUGE_DATA, headers=[(LENGTH, str(len(HUGE_DATA)))])[0] == 400
        assert send(server, HUGE_DATA, headers=[(LENGTH, "00")])[0] == 400


@pytest.mark.parametrize("way", ["basic", "token"])
def test_tls_and_a_login(is_clean, tiny_repository, tmp_path, way):
    pair = tmp_path / "cert.pem", tmp_path / "key.pem"
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -addext"
    words = [*make.split(), "subjectAltName=IP:127.0.0.1", "-keyout", pair[1], "-out", pair[0]]
    subprocess.run(words, check=True, capture_output=True, timeout=SECONDS)
    login = tmp_path / "login"
    if way == "basic":
        digest = base64.b64encode(hashlib.sha1(b"secret").digest()).decode()
        login.write_text(f"ann:{{SHA}}{digest}\n")
        access = Access(tls_cert=pair[0], tls_key=pair[1], basic_auth=login)
        header = f"Basic {base64.b64encode(b'ann:secret').decode()}"
    else:
        login.write_text("0123456789abcdef\n")
        access = Access(tls_cert=pair[0], tls_key=pair[1], token=login)
        header = "Bearer 0123456789abcdef"
    with ReplicatedServer(tiny_repository, replicas=1, access=access) as server:
        assert server.is_ready() and server.models() == {"tiny": True}
        trust = {"ssl": True, "ssl_options": {"ca_certs": str(pair[0])}}
        with httpclient.InferenceServerClient(server.url, **trust) as client:
            check_login(client, httpclient, header)
            assert client.is_server_ready()  # as probes have no login
        trust = {"ssl": True, "root_certificates": str(pair[0])}
        with grpcclient.InferenceServerClient(server.grpc_url, **trust) as client:
            check_login(client, grpcclient, header)


def check_login(client, api, header):
    tensor = tensor_of(api, PAIR)
    good = {"authorization": header}
    assert np.array_equal(client.infer("tiny", [tensor], headers=good).as_numpy("OUTPUT_0"), PAIR)
    for bad in ({}, {"authorization": f"{header}x"}):
        with pytest.raises(InferenceServerException, match="the gateway requires a login"):
            client.infer("tiny", [tensor], headers=bad)


#: Owns two servers behind a gateway.
OWNER = """
import sys
from serving_kit.server import ReplicatedServer
with ReplicatedServer(sys.argv[1]) as server:
    print(server.run_dir, *(each.run_dir for each in server.servers), flush=True)
    sys.stdin.read()
"""


def test_a_killed_owner_leaves_nothing(is_clean, tiny_repository, wait_until):
    words = [sys.executable, "-c", OWNER, tiny_repository]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        run_dirs = owner.stdout.readline().split()
        assert len(run_dirs) == 3
        owner.kill()
    wait_until(lambda: not any(Path(run_dir).exists() for run_dir in run_dirs))


@pytest.fixture
def kit(tmp_path, monkeypatch, capsys):
    """Gives a command of the command line; returns exit code and output."""
    monkeypatch.setattr(server_registry, "SERVERS", tmp_path / "servers")
    monkeypatch.setenv("SERVING_KIT_SERVERS", str(tmp_path / "servers"))

    def kit(*arguments):
        capsys.readouterr()
        code = cli.main([str(argument) for argument in arguments])
        return code or 0, "".join(capsys.readouterr())

    yield kit
    for server in running_servers():
        server.stop()


def test_the_commands_know_the_gateway_and_its_servers(is_clean, kit, tiny_repository, port):
    serve = ["serve", "--replicas", 2, "--repository", tiny_repository, "--port", port]
    code, output = kit(*serve)
    assert code == 0 and f"server    gateway of 2 servers on 127.0.0.1:{port}, ready in" in output
    code, output = kit(*serve)
    assert code == 0 and "was running already" in output
    code, output = kit("serve", "--repository", tiny_repository, "--port", port)
    assert code == 1 and f"port {port} is taken by gateway of 2 servers on" in output
    (server,) = running_servers()
    code, output = kit("status")
    assert code == 0 and output.count("replica   embedded Triton 2.51.0 on") == 2
    # A server of the same models that a notebook asks for is none of the gateway's.
    with TritonServer(tiny_repository, detached=True) as other:
        assert not other.found_running
    run_dirs = [server.run_dir, *(each.run_dir for each in server.servers)]
    code, output = kit("stop")
    assert code == 0 and "stopped   gateway of 2 servers" in output
    assert not any(run_dir.exists() for run_dir in run_dirs)


def test_servers_whose_gateway_was_killed_are_found_and_stopped(
    is_clean, kit, tiny_repository, port
):
    kit("serve", "--replicas", 2, "--repository", tiny_repository, "--port", port)
    (server,) = running_servers()
    owner = psutil.Process(runs.supervisor_of(server.run_dir))
    (envoy,) = owner.children()
    owner.kill()
    envoy.wait(60)
    code, output = kit("stop")
    assert code == 0 and output.count("stopped   embedded Triton") == 2
    assert running_servers() == []


def test_a_detached_gateway_is_scaled_by_another_process(is_clean, kit, tiny_repository, port):
    kit("serve", "--replicas", 2, "--repository", tiny_repository, "--port", port)
    server = ReplicatedServer(tiny_repository, detached=True, http_port=port).start()
    assert server.found_running
    server.scale(3)
    (found,) = running_servers()
    assert len(found.servers) == found.ready_servers() == found.spec.replicas == 3
    server.scale(1)
    (found,) = running_servers()
    assert len(found.servers) == found.ready_servers() == found.spec.replicas == 1
