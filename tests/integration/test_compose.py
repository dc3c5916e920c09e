"""deploy/compose.yaml, by the commands of deploy/README.md.

With Compose v2 where there is one, else with docker-compose 1.29.2, from a copy without the keys
that it refuses. Skipped, with the reason, without one of them or an engine.
"""

import os
import re
import shlex
import shutil
import subprocess
import time

import pytest
from docker_engine import REQUIRED_VARIABLE
from hunting import asks_for_the_token, nobody_notices, wait, write_gateway_with_token

from serving_kit.paths import ROOT
from serving_kit.server import supervisor
from serving_kit.server.ports import HOST

pytestmark = pytest.mark.long

README = ROOT / "deploy" / "README.md"
SECONDS = 180


def run(*command, **environment):
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=SECONDS, check=False,
        env=os.environ | environment, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def compose(kit_image, port, tiny_and_picture, tmp_path):
    """Runs a command of the README; whatever it started is removed."""
    has_v2 = not subprocess.run(["docker", "compose", "version"], capture_output=True).returncode
    if not (has_v2 or shutil.which("docker-compose")):
        missing = "there is neither Compose v2 (docker compose) nor docker-compose here"
        (pytest.fail if os.environ.get(REQUIRED_VARIABLE) else pytest.skip)(missing)
    names = ("HTTP_PORT", "GRPC_PORT", "METRICS_PORT")
    settings = {name: str(port + i) for i, name in enumerate(names)}
    settings["MODELS"] = str(tiny_and_picture)
    file = ROOT / "deploy" / "compose.yaml"
    old = tmp_path / "compose.yaml"
    text = re.sub(
        r"^name: .*\n| +bind:\n +create_host_path: .*\n", "", file.read_text(), flags=re.M
    )
    old.write_text('version: "3.8"\n' + text)

    def compose(command):
        assert f"{command}\n" in README.read_text(), command
        words = shlex.split(command)
        if not has_v2:
            project = ("--project-name=oneflow-serving-kit", f"--project-directory={file.parent}")
            files = {"deploy/compose.yaml": str(old)}
            words = ["docker-compose", *project, *(files.get(word, word) for word in words[2:])]
        return run(*words, **settings, GATEWAY_CONFIG=str(tmp_path / "gateway.yaml"))

    yield compose
    compose("docker compose --file deploy/compose.yaml down")
    of_project = "--filter=label=com.docker.compose.project=oneflow-serving-kit"
    assert not run("docker", "ps", "--all", "--quiet", of_project)
    assert not run("docker", "network", "ls", "--quiet", of_project)


def healthy():
    states = run(
        "docker", "ps", "--filter=name=oneflow-serving-kit", "--format={{.Names}} {{.Status}}"
    )
    return sum("triton" in state and "(healthy)" in state for state in states.splitlines())


def test_two_tritons_three_two_again_and_a_token(compose, port, tmp_path):
    up = "docker compose --file deploy/compose.yaml up --detach --scale triton="
    compose(f"{up}2")
    wait(lambda: healthy() == 2)
    assert supervisor.request(HOST, port, "/v2/health/ready")[0] == 200
    with nobody_notices("compose: two became three", port):
        compose(f"{up}3")
        wait(lambda: healthy() == 3)
    with nobody_notices("compose: three became two", port):
        began = time.monotonic()
        compose(f"{up}2")
        # Triton would wait 30 s for the connections of a gateway that did not notice.
        assert time.monotonic() - began < 25
    assert healthy() == 2
    # The gateway is replaced by one with a token; the Tritons stay.
    write_gateway_with_token(tmp_path / "gateway.yaml")
    compose(
        "docker compose --file deploy/compose.yaml --file deploy/compose.access.yaml "
        "up --detach --scale triton=2"
    )
    wait(lambda: asks_for_the_token(port))
