"""The messages of the gateway in docs/troubleshooting.md: Envoy, before a server that is none."""

import contextlib
import gzip
import http.client
import http.server
import importlib.util
import json
import subprocess
import threading
import time

import pytest
import tritonclient.grpc as grpcclient
import yaml
from provoking import SECONDS, provokes, raised
from tritonclient.utils import InferenceServerException

from serving_kit import cli
from serving_kit.errors import ServerError
from serving_kit.server import Access, ReplicatedServer, gateway, ports, supervisor

INFER = "/v2/models/any/infer"
LENGTH = "Inference-Header-Content-Length"
DATA = b'{"inputs":[{"name":"X","shape":[8589934592],"datatype":"FP32","data":[1]}]}'


class Upstream(http.server.BaseHTTPRequestHandler):
    """Is healthy, and breaks the connection over every inference, or is too slow."""

    seconds = 0

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self):
        time.sleep(self.seconds)
        self.close_connection = True

    def log_message(self, *_):
        pass


class Slow(Upstream):
    """Does not respond."""

    seconds = 1


@contextlib.contextmanager
def envoy(folder, access, upstream=None, change=None):
    """Run Envoy; give the ports of HTTP, gRPC and metrics.

    Args:
        folder: for its files.
        access: who gets in.
        upstream: the class of the server behind it; None for no server.
        change: what to change in the configuration.
    """
    own = ports.free_ports((None, None, None))
    with contextlib.ExitStack() as stack:
        servers = []
        if upstream:
            server = http.server.ThreadingHTTPServer((ports.HOST, 0), upstream)
            stack.callback(server.server_close)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.shutdown)
            servers = [(server.server_port,) * 3]
        config = gateway.for_this_machine(gateway.configuration(access), "gateway", ports.HOST, own)
        if change:
            change(config["static_resources"])
        (folder / gateway.FILE).write_text(yaml.safe_dump(config))
        gateway.write_servers(folder, servers)
        command = [gateway._envoy(), "--config-path", gateway.FILE, *gateway.OPTIONS]
        log = stack.enter_context((folder / "log").open("wb"))
        process = stack.enter_context(
            subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
        )
        stack.callback(process.kill)
        deadline = time.monotonic() + SECONDS
        while not is_up(own[2]):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        yield own


def is_up(port):
    with contextlib.suppress(OSError):
        return supervisor.request(ports.HOST, port, "/name")[0] == 200
    return False


def send(port, path=INFER, body=b"", **headers):
    connection = http.client.HTTPConnection(ports.HOST, port, timeout=SECONDS)
    with contextlib.closing(connection):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("POST", path, body, named)
        return json.loads(connection.getresponse().read())["error"]


def length(value):
    return {LENGTH.replace("-", "_"): str(value)}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A gateway without a server."""
    with envoy(tmp_path_factory.mktemp("gateway"), Access()) as own:
        yield own


@provokes("The gateway refuses a request")
def test_the_gateway_refuses_a_request(alone):
    port, grpc_port, _ = alone
    with grpcclient.InferenceServerClient(f"{ports.HOST}:{grpc_port}") as client:
        compressed = raised(
            InferenceServerException, client.infer, "any", [], compression_algorithm="gzip"
        )
    form = {"Content_Type": "application/x-www-form-urlencoded"}
    twice = http.client.HTTPConnection(ports.HOST, port, timeout=SECONDS)
    twice.putrequest("POST", INFER)
    for name, value in ((LENGTH, "0"), (LENGTH, "2"), ("Content-Length", "2")):
        twice.putheader(name, value)
    twice.endheaders(b"{}")
    with contextlib.closing(twice):
        there_twice = twice.getresponse().read().decode()
    return [
        send(port, body=DATA),
        send(port, body=DATA, **length(len(DATA))).replace('\\"', '"'),
        send(port, "/v2/repository/index"),
        send(port, body=b"a=b", **form),
        send(port, body=gzip.compress(b"x"), Content_Encoding="gzip", **length(0)),
        compressed,
        send(port, body=b"{}", **length("00")),
        there_twice,
        send(port, body=b"{}", **length(3)),
        send(port, body=b"[" * 40_000, **length(40_000)),
    ]


@provokes("A body is too large for the gateway")
def test_a_body_is_too_large_for_the_gateway(alone):
    return send(alone[0], body=bytes((64 << 20) + 1), **length(0))


@provokes("The gateway requires a login")
def test_the_gateway_requires_a_login(tmp_path):
    token = tmp_path / "token"
    token.write_text("0123456789abcdef")
    with envoy(tmp_path, Access(token=token)) as own:
        return send(own[0], body=DATA)


@provokes("The gateway has no response")
def test_the_gateway_has_no_response(tmp_path, alone):
    def set_timeout(resources):
        for route in gateway._routes(resources["listeners"][0]):
            if "route" in route:
                route["route"]["timeout"] = "0.2s"

    def take_no_request(resources):
        for cluster in resources["clusters"][:2]:
            cluster["circuit_breakers"]["thresholds"][0]["max_requests"] = 0

    said = [send(alone[0], body=b"x", **length(0))]
    for upstream, change in ((Upstream, None), (Slow, set_timeout), (Upstream, take_no_request)):
        with envoy(tmp_path, Access(), upstream, change) as own:
            said.append(send(own[0], body=b"x", **length(0)))
    return said


@provokes("A login or a certificate cannot be used")
def test_a_login_or_a_certificate_cannot_be_used(tmp_path):
    file, other = tmp_path / "file", tmp_path / "other"
    said = [
        raised(ServerError, Access, tls_cert=file),
        raised(ServerError, Access, basic_auth=file, token=other),
        raised(ServerError, Access, token=file),
    ]
    file.write_text("\n")
    said.append(raised(ServerError, Access, token=file))
    file.write_text("no such thing\n")
    return [
        *said,
        raised(ServerError, Access, token=file),
        raised(ServerError, Access, basic_auth=file),
        raised(ServerError, Access, tls_cert=file, tls_key=file),
    ]


@provokes("Several servers cannot be started")
def test_several_servers_cannot_be_started(tmp_path, capsys, monkeypatch):
    assert cli.main(["serve", "--replicas", "2", "--dry-run"]) == 1
    said = [
        capsys.readouterr().err,
        raised(ServerError, ReplicatedServer, tmp_path, replicas=0),
        raised(ServerError, ReplicatedServer, tmp_path, model_control=True),
    ]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    return [*said, raised(ServerError, gateway._envoy)]


def test_a_request_that_may_have_ended_its_server_is_sent_once_more_and_json_is_not(tmp_path):
    """Whatever the client asks for: one server stands here for all that the gateway would try."""
    wish = {"X_Envoy_Max_Retries": "7", "X_Envoy_Retry_On": "5xx"}
    tries = []

    class Counting(Upstream):
        def do_POST(self):
            tries.append(self.headers["Inference-Header-Content-Length"])
            super().do_POST()

    with envoy(tmp_path, Access(json=True), Counting) as own:
        for headers, sent in ((length(0), 2), ({}, 1)):
            tries.clear()
            send(own[0], body=DATA, **headers, **wish)
            assert len(tries) == sent
