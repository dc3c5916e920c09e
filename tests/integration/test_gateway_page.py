"""The commands of deploy/gateway/README.md do what they say."""

import os
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
import tritonclient.http as httpclient
from test_gateway import HUGE_DATA, SECONDS, send, validate

from serving_kit.models import repository_for
from serving_kit.paths import CAT, ROOT
from serving_kit.server import Access, ReplicatedServer, registry, running_servers

pytestmark = pytest.mark.long


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """A place of a test's own where servers are recorded; all are stopped in the end."""
    monkeypatch.setattr(registry, "SERVERS", tmp_path / "servers")
    monkeypatch.setenv("SERVING_KIT_SERVERS", str(tmp_path / "servers"))
    yield
    for server in running_servers():
        server.stop()


def blocks(kind):
    """Return the code of deploy/gateway/README.md."""
    text = (ROOT / "deploy" / "gateway" / "README.md").read_text()
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.S | re.M)


def test_the_pages_make_commands(is_clean, recorded, tiny_repository, port):
    serve, status, stop = blocks("shell")[0].splitlines()
    environment = {name: value for name, value in os.environ.items() if "MAKE" not in name}

    def make(command):
        words = f"{command} PORT={port} REPOSITORY={shlex.quote(str(tiny_repository))}"
        done = subprocess.run(
            words, shell=True, cwd=ROOT, env=environment, capture_output=True, text=True,
            timeout=SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert f"server    gateway of 2 servers on 127.0.0.1:{port}" in make(serve)
    assert make(status).count("replica   embedded Triton 2.51.0 on") == 2
    assert "stopped   gateway of 2 servers on" in make(stop)


def test_the_pages_python(is_clean, tiny_repository):
    (code,) = blocks("python")
    assert "ReplicatedServer(replicas=2)" in code
    code = code.replace("(replicas=2)", f"({str(tiny_repository)!r}, replicas=2)")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=SECONDS, capture_output=True)


def test_the_pages_files(tmp_path):
    for block in blocks("shell")[1:]:
        command = block.replace(".venv/bin/python", sys.executable)
        subprocess.run(["bash", "-ec", command], cwd=tmp_path, check=True, timeout=SECONDS)
    validate(tmp_path / "gateway.yaml")
    assert (tmp_path / "token").read_text().strip() in (tmp_path / "gateway.yaml").read_text()
    Access(basic_auth=tmp_path / "users")


def test_a_picture_needs_no_header(is_clean, tmp_path):
    with ReplicatedServer(repository_for(), replicas=1, models=["stylize_jpeg"]) as server:
        url = f"http://{server.url}/v2/models/stylize_jpeg/infer"
        words = ["curl", "--silent", "--fail", "--request", "POST", "--upload-file", CAT, url]
        done = subprocess.run(words, capture_output=True, check=True, timeout=SECONDS)
        assert b"\xff\xd8\xff" in done.stdout
        assert send(server, HUGE_DATA, "/v2/models/stylize_jpeg/infer")[0] == 400
        tensor = httpclient.InferInput("PICTURE", [CAT.stat().st_size], "UINT8")
        tensor.set_data_from_numpy(np.frombuffer(CAT.read_bytes(), np.uint8))
        with httpclient.InferenceServerClient(server.url) as client:
            jpeg = client.infer("stylize_jpeg", [tensor]).as_numpy("JPEG")
        assert jpeg.tobytes().startswith(b"\xff\xd8\xff")
        assert not server.restarts()
