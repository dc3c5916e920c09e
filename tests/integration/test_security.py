"""The commands of docs/security.md do what they say."""

import contextlib
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
    assert len(commands()) == 4


def status(server, path, method="GET"):
    try:
        body = b"{}" if method == "POST" else None
        with urlopen(Request(f"http://{server.url}{path}", body, method=method)) as answer:
            return answer.status
    except HTTPError as error:
        return error.code


def test_open_to_the_network(run, port):
    output = run(commands()[0], port)
    assert "careful   whoever can reach this machine can use it: see docs/security.md" in output
    (server,) = running_servers()
    assert status(server, "/v2/models/any/infer", "POST") == 403


def test_restricted_groups(run, port):
    run(commands()[1], port)
    (server,) = running_servers()
    for path in ("/v2/systemsharedmemory/status", "/v2/trace/setting", "/v2/logging"):
        assert status(server, path) == 403
    assert status(server, "/v2/repository/index", "POST") == 403
    assert status(server, "/v2") == status(server, "/v2/health/ready") == 200


def test_grpc_with_tls(run, port, tmp_path):
    for command in commands()[2:]:
        run(command, port)
    (server,) = running_servers()
    client = grpcclient.InferenceServerClient(
        server.grpc_url, ssl=True, root_certificates=str(tmp_path / "cert.pem")
    )
    with contextlib.closing(client):
        assert client.is_server_ready()
