"""Docker's side of the server, with a stand-in for the docker command that records its calls.

It stays for what cannot be run here: GPU flags, OneFlow's original image, and how a way is chosen
on machines unlike this one. The kit's image is run on a real engine by ``test_docker_engine`` and
``test_docker_promises``.
"""

import contextlib
import json
import os
import sys
from pathlib import Path

import pytest

from serving_kit.errors import ServerError
from serving_kit.server import (
    TritonServer,
    choose,
    docker,
    launcher,
    registry,
    running_servers,
)

SECONDS = 30

STAND_IN = """#!{python}
import http.server, json, os, re, signal, sys
from pathlib import Path

folder = Path(__file__).parent
arguments = sys.argv[1:]


def record(*words):
    with (folder / "calls").open("a") as calls:
        calls.write(json.dumps([*words]) + "\\n")


record(*arguments)
state = json.loads((folder / "state.json").read_text())
if arguments[0] == "info":
    print(json.dumps(state["info"]))
    sys.exit("ServerErrors" in state["info"])
if arguments[:2] == ["image", "inspect"]:
    sys.exit(arguments[2] not in state["images"])
if arguments[0] == "run":
    if state.get("run_error"):
        sys.exit(state["run_error"])
    text = " ".join(arguments)
    Path(re.search("--cidfile=(\\\\S+)", text)[1]).write_text("c0ffee")
    (folder / "host").write_text(os.environ.get("DOCKER_HOST", ""))
    port = re.search("--publish=[^:]+:(\\\\d+):8000|--http-port=(\\\\d+)|()$", text)
    port = int(port[1] or port[2] or 8000)
    name = re.search("--id=(\\S+)", text)[1]

    class Triton(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({{"name": name, "version": "2.17.0"}}).encode())

        def log_message(self, *words):
            pass

    def stop(*_):
        record("(container was asked to stop)")
        os._exit(0)

    signal.signal(signal.SIGTERM, stop)
    http.server.HTTPServer(("127.0.0.1", port), Triton).serve_forever()
"""
ENGINE = {"ServerVersion": "28.1.1", "Runtimes": {"runc": {}}, "CDISpecDirs": []}
NVIDIA = ENGINE | {"Runtimes": {"runc": {}, "nvidia": {}}}
DOWN = {"ServerVersion": "", "ServerErrors": ["Cannot connect to the Docker daemon"]}
T4 = "0, Tesla T4, 7.5"
H100 = "0, NVIDIA H100 PCIe, 9.0"


class Machine:
    """A pretended machine: its docker command, its GPUs, and what was asked of docker."""

    def __init__(self, folder):
        self.folder = folder
        self.state = {"info": ENGINE, "images": []}

    def set(self, gpus=(), **state):
        self.state |= state
        (self.folder / "state.json").write_text(json.dumps(self.state))
        listing = "\n".join(gpus)
        self.script("nvidia-smi", f"#!/bin/sh\ncat <<END\n{listing}\nEND\n")
        self.script("docker", STAND_IN.format(python=sys.executable))

    def script(self, name, text):
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(0o755)

    def calls(self, verb=None):
        with contextlib.suppress(FileNotFoundError):
            lines = (self.folder / "calls").read_text().splitlines()
            return [call for call in map(json.loads, lines) if verb in (None, call[0])]
        return []


@pytest.fixture
def machine(tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.delenv("SERVING_KIT_SERVER")
    monkeypatch.setattr(registry, "SERVERS", tmp_path / "servers")
    machine = Machine(folder)
    machine.set()
    yield machine
    for server in running_servers():
        server.stop()


@pytest.fixture
def ports(port):
    """Ports of a test's own: of others another server may be quicker, and a second try follow."""
    return {"http_port": port, "grpc_port": port + 1, "metrics_port": port + 2}


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "models"
    (folder / "small").mkdir(parents=True)
    return folder


def test_auto_takes_the_embedded_server_and_says_why(machine, monkeypatch):
    def why(**state):
        machine.set(**state)
        choice = choose()
        assert (choice.mode, choice.device) == ("local", "cpu")
        return choice.why

    assert (
        why(info=DOWN) == "the Docker engine does not respond (Cannot connect to the Docker daemon)"
    )
    assert why(info=ENGINE) == "there is no NVIDIA GPU (nvidia-smi lists none)"
    assert why(gpus=[H100]) == (
        "OneFlow 0.9.0 has no kernels for GPU 0, NVIDIA H100 PCIe, compute capability 9.0"
    )
    assert why(gpus=[T4, H100]) == (
        "the Docker engine has no NVIDIA runtime; install the NVIDIA Container Toolkit"
    )
    assert why(gpus=[T4], info=NVIDIA) == "the image oneflow-serving-kit is not on this machine"
    machine.script("docker", "#!/bin/sh\necho nonsense\n")
    assert choose().why == "the Docker engine does not respond (no message)"
    monkeypatch.setenv("PATH", "/nowhere")
    assert choose().why == "there is no docker command on this machine"


@pytest.mark.parametrize(
    ("info", "flag"),
    [
        (NVIDIA, "--runtime=nvidia"),
        (
            ENGINE | {"DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=0"}]},
            "--gpus=all",
        ),
    ],
)
def test_auto_takes_docker_where_oneflow_can_use_the_gpu(machine, info, flag):
    machine.set(gpus=[T4], info=info, images=[docker.KIT_IMAGE])
    choice = choose()
    assert (choice.mode, choice.device) == ("docker", "gpu")
    assert choice.why == "Docker 28.1.1 with a GPU for OneFlow"
    assert choice.engine.gpu_flag == flag


def test_a_gpu_that_only_a_file_of_the_device_interface_names(machine, tmp_path):
    (tmp_path / "nvidia.yaml").write_text("cdiVersion: 0.5.0\n")
    info = ENGINE | {"CDISpecDirs": ["/nowhere", str(tmp_path)]}
    machine.set(gpus=[T4], info=info, images=[docker.KIT_IMAGE])
    assert choose().device == "gpu"


def test_an_owner_of_the_machine_can_overrule_auto(machine, monkeypatch):
    machine.set(gpus=[T4], info=NVIDIA, images=[docker.KIT_IMAGE])
    monkeypatch.setenv("SERVING_KIT_SERVER", "local")
    assert choose().mode == "local"
    assert choose("docker").mode == "docker"


def test_docker_is_wanted_and_cannot_be_had(machine):
    machine.set(info=DOWN)
    with pytest.raises(ServerError, match=r"does not respond .*; choose the embedded server: SERV"):
        choose("docker")
    machine.set(info=ENGINE)
    with pytest.raises(ServerError, match=r"needs a GPU, but there is no NVIDIA GPU .* choose the"):
        choose("docker", docker.ORIGINAL_IMAGE)
    assert choose("docker").device == "cpu"  # the kit's own serves on the CPU too


def test_the_original_guide_s_command(machine, repository, port, ports):
    machine.set(gpus=[T4], info=NVIDIA, images=[docker.ORIGINAL_IMAGE])
    server = TritonServer(repository, mode="docker", image=docker.ORIGINAL_IMAGE, **ports)
    with server:
        assert server.is_reachable_from_elsewhere
        assert str(server) == (
            f"Triton 2.17.0 in Docker (oneflowinc/oneflow-serving, GPU) on 127.0.0.1:{port}"
        )
        cidfile = f"--cidfile={server.run_dir}/container"
        identity = f"--id={server.run_dir.name}"
    (run,) = machine.calls("run")
    # Word for word that of the guide, but for the container's and the server's ID, and the ports.
    guide = (
        f"run --rm --runtime=nvidia --network=host {cidfile} -v{repository}:/models "
        "oneflowinc/oneflow-serving /opt/tritonserver/bin/tritonserver --model-store /models "
        f"--http-port={port} --grpc-port={port + 1} --metrics-port={port + 2} {identity}"
    )
    assert run == guide.split()
    assert machine.calls("(container was asked to stop)")
    assert machine.calls("rm") == [["rm", "--force", "c0ffee"]]


def test_the_original_guide_s_command_to_be_pasted(machine, repository):
    machine.set(gpus=[T4], info=NVIDIA)
    server = TritonServer(repository, mode="docker", image=docker.ORIGINAL_IMAGE)
    assert server.command() == (
        f"docker run --rm --runtime=nvidia --network=host -v{repository}:/models "
        "oneflowinc/oneflow-serving /opt/tritonserver/bin/tritonserver --model-store /models"
    )


@pytest.mark.parametrize("device", ["gpu", "cpu"])
def test_the_kit_s_image(machine, repository, ports, monkeypatch, device):
    machine.set(gpus=[T4] if device == "gpu" else [], info=NVIDIA, images=[docker.KIT_IMAGE])
    monkeypatch.setenv("DOCKER_HOST", "unix:///some.sock")
    user = {"gpu": [], "cpu": ["--user=1234:567"]}[device]  # root, and somebody else
    monkeypatch.setattr(docker.os, "getuid", lambda: 1234 if user else 0)
    monkeypatch.setattr(docker.os, "getgid", lambda: 567)
    with TritonServer(
        repository,
        mode="docker",
        model_control=True,
        shared_memory=True,
        options=["--log-info=0"],
        **ports,
    ) as server:
        http, grpc, metrics = server.ports
        cidfile = f"--cidfile={server.run_dir}/container"
        identity = f"--id={server.run_dir.name}"
        assert not server.is_reachable_from_elsewhere
    (run,) = machine.calls("run")
    assert run == [
        *("run", "--rm", cidfile, "--interactive", "--env=SERVING_KIT_OWNED=1"),
        *(["--runtime=nvidia"] if device == "gpu" else []),
        f"--publish=127.0.0.1:{http}:8000",
        f"--publish=127.0.0.1:{grpc}:8001",
        f"--publish=127.0.0.1:{metrics}:8002",
        *("--shm-size=1g", "--read-only", "--tmpfs=/tmp"),
        *("--cap-drop=ALL", "--security-opt=no-new-privileges", *user),
        f'--mount=type=bind,"source={repository}",target=/models,readonly',
        "oneflow-serving-kit",
        *("tritonserver", "--model-repository=/models"),
        *([] if device == "gpu" else launcher.CPU_OPTIONS),
        *("--exit-timeout-secs=5", identity, "--model-control-mode=explicit", "--load-model=*"),
        "--log-info=0",
    ]
    # What the docker command itself reads came through.
    assert (machine.folder / "host").read_text() == "unix:///some.sock"
    assert machine.calls("rm") == [["rm", "--force", "c0ffee"]]


def test_only_the_wanted_models_are_loaded_and_what_is_not_asked_for_stays_closed(
    machine, repository, ports
):
    machine.set(images=[docker.KIT_IMAGE])
    with TritonServer(repository, mode="docker", models=["small"], **ports):
        (run,) = machine.calls("run")
    assert run[-4:-2] == ["--model-control-mode=explicit", "--load-model=small"]
    groups = {
        -6: "shared-memory:serving-kit-shared-memory",
        -2: "model-repository:serving-kit-control",
    }
    for first, restricted in groups.items():
        secret = run[first].rpartition("=")[2]
        assert run[first : first + 2 or None] == [
            f"--http-restricted-api={restricted}={secret}",
            f"--grpc-restricted-protocol={restricted}={secret}",
        ]
        assert len(secret) == 32


def test_the_kit_s_image_is_not_built(machine, repository):
    with pytest.raises(ServerError, match="the image oneflow-serving-kit is not built yet; run: m"):
        TritonServer(repository, mode="docker").start()
    assert machine.calls("run") == []


def test_another_image_is_pulled_first(machine, repository, ports):
    machine.set(gpus=[T4], info=NVIDIA, run_error="docker: Error response from daemon: no space.")
    with pytest.raises(ServerError, match=r"before it was ready: Error response from daemon: no s"):
        TritonServer(repository, mode="docker", image="me/mine:1", **ports).start()
    assert machine.calls("pull") == [["pull", "me/mine:1"]]
    machine.script(
        "docker",
        "#!/bin/sh\n[ $1 != pull ] || exit 1\n"
        + f"cat <<END\n{json.dumps(NVIDIA)}\nEND\n[ $1 != image ]\n",
    )
    with pytest.raises(ServerError, match="Docker could not pull the image me/mine:1; its"):
        TritonServer(repository, mode="docker", image="me/mine:1", **ports).start()


def test_a_detached_container_is_found_and_stopped(machine, repository, ports):
    machine.set(gpus=[T4], info=NVIDIA, images=[docker.KIT_IMAGE])
    TritonServer(repository, mode="docker", detached=True, **ports).start()
    again = TritonServer(repository, mode="docker", detached=True, **ports).start()
    assert again.found_running and len(machine.calls("run")) == 1
    (server,) = running_servers()
    assert "in Docker (oneflow-serving-kit, GPU)" in str(server)
    server.stop()
    assert machine.calls("(container was asked to stop)")
    assert running_servers() == []
    assert not Path(again.run_dir).exists()
    # One that was taken can be started again in the same way.
    again.stop()
    with again:
        assert not again.found_running and len(machine.calls("run")) == 2
