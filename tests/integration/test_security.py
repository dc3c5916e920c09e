"""The commands of docs/security.md do what they say."""

import json
import os
import re
import subprocess
import sys
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
import tritonclient.grpc as grpcclient

from serving_kit.paths import ROOT
from serving_kit.server import registry, running_servers

SECONDS = 90


def commands():
    text = (ROOT / "docs" / "security.md").read_text()
    blocks = re.findall(r"^```shell\n(.*?)^```", text, re.S | re.M)
    return [line for block in blocks for line in block.splitlines()]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command of the page in a folder of its own, on a port that is free."""
    monkeypatch.setattr(registry, "SERVERS", tmp_path / "servers")
    monkeypatch.setenv("SERVING_KIT_SERVERS", str(tmp_path / "servers"))
    (tmp_path / "models").mkdir()

    def run(command, port):
        command = command.replace(".venv/bin/python", sys.executable)
        command = command.replace(" serve ", f" serve --repository models --port {port} ")
        command = command.replace("127.0.0.1:8000", f"127.0.0.1:{port}")
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            env=os.environ,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    yield run
    for server in running_servers():
        server.stop()


def test_the_page_has_these_commands():
    assert len(commands()) == 6


def status(server, path, method="GET"):
    try:
        body = b"{}" if method == "POST" else None
        with urlopen(Request(f"http://{server.url}{path}", body, method=method)) as answer:
            return answer.status
    except HTTPError as error:
        return error.code


def test_open_to_the_network(run, port):
    output = run(commands()[4], port)
    assert "warning   anyone who can reach this machine can use it: see docs/security.md" in output
    (server,) = running_servers()
    assert status(server, "/v2/models/any/infer", "POST") == 403


def test_restricted_groups(run, port):
    run(commands()[5], port)
    (server,) = running_servers()
    for path in ("/v2/systemsharedmemory/status", "/v2/trace/setting", "/v2/logging"):
        assert status(server, path) == 403
    assert status(server, "/v2/repository/index", "POST") == 403
    assert status(server, "/v2") == status(server, "/v2/health/ready") == 200


def test_the_gateway_with_tls_and_a_token(run, port, tmp_path):
    *before, ask = commands()[:4]
    for command in before:
        output = run(command, port)
    assert "warning   anyone who can reach this machine can use it: see docs/security.md" in output
    assert '"version":"2.51.0"' in run(ask, port)
    without = ask.replace("Authorization", "X-Nothing").replace("--fail", "")
    assert json.loads(run(without, port)) == {
        "error": "the gateway requires a login in the header Authorization"
    }
    (server,) = running_servers()
    trust = {"ssl": True, "root_certificates": str(tmp_path / "cert.pem")}
    login = {"authorization": f"Bearer {(tmp_path / 'token').read_text().strip()}"}
    with grpcclient.InferenceServerClient(server.grpc_url, **trust) as client:
        assert client.is_server_ready(headers=login)
    assert all(each.spec.address == "127.0.0.1" for each in server.servers)
