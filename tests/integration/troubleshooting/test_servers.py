"""The messages of starting servers, with Docker or without, in docs/troubleshooting.md."""

import contextlib
import functools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from provoking import SECONDS, of_another_test, provokes, raised
from tritonclient.utils import InferenceServerException

from oneflow_backend.worker_process import WorkerError, find_python
from serving_kit.errors import (
    ServerError,
)
from serving_kit.server import docker, embedded, ports, registry, supervisor
from serving_kit.server.triton import TritonServer, choose

docker_tests = of_another_test("test_docker_server")
engine = docker_tests.machine
#: Whatever is refused leaves nothing.
pytestmark = pytest.mark.usefixtures("is_clean")


def refuse_start(repository, **named):
    return raised(ServerError, TritonServer(repository, **named).start)


@provokes("Triton ended before it was ready")
def test_triton_ended_before_it_was_ready(tiny_repository, empty_repository):
    (tiny_repository / "tiny" / "1" / "model.py").write_text("raise ValueError")
    return [
        refuse_start(tiny_repository),
        refuse_start(empty_repository, options=["--no-such-option"]),
    ]


@provokes("Triton was started again")
def test_triton_was_started_again(empty_repository, impatient, triton, monkeypatch):
    with TritonServer(empty_repository) as server:
        for _ in range(5):
            triton(server.run_dir).kill()
            with contextlib.suppress(ServerError):
                server.wait_until_ready(SECONDS)
        said = [server.log()]
    for command in (["sh", "-c", "kill -9 $$"], ["/nowhere/tritonserver"]):
        order = {"command": command, "inside": True}
        monkeypatch.setattr(embedded.EmbeddedLauncher, "order", lambda *_, order=order: order)
        said.append(refuse_start(empty_repository))
    return [*said, process_1_that_cannot_drain()]


def process_1_that_cannot_drain():
    words = [sys.executable, Path(supervisor.__file__).parent, "run", "tritonserver"]
    drained = os.environ | {supervisor.DRAIN_VARIABLE: "5s"}
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=SECONDS, check=False, env=drained
    )
    return done.stderr


@provokes("Triton was not ready in time")
def test_triton_was_not_ready_in_time(tiny_repository):
    return refuse_start(tiny_repository, ready_timeout=0.1)


@provokes("A port is taken")
def test_a_port_is_taken(empty_repository, closed, tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "SERVERS", tmp_path / "servers")
    with socket.create_server((ports.HOST, 0)) as other:
        taken = other.getsockname()[1]
        said = [
            refuse_start(empty_repository, http_port=taken),
            refuse_start(empty_repository, http_port=closed.ports[0]),
            refuse_start(empty_repository, options=[f"--grpc-port={taken}"]),
        ]
    detached = TritonServer(empty_repository, detached=True).start()
    try:
        in_another_way = {"models": ["other"], "detached": True, "http_port": detached.ports[0]}
        return [*said, refuse_start(empty_repository, **in_another_way)]
    finally:
        detached.stop()


@provokes("A port or an address cannot be used")
def test_a_port_or_an_address_cannot_be_used(empty_repository):
    return [
        refuse_start(empty_repository, http_port=70000),
        refuse_start(empty_repository, address="192.0.2.1"),
    ]


@provokes("There is no repository")
def test_there_is_no_repository(tmp_path):
    return refuse_start(tmp_path / "nowhere")


@provokes("The server is already running")
def test_the_server_is_already_running(closed):
    return raised(ServerError, closed.start)


@provokes("A library is missing")
def test_a_library_is_missing(empty_repository, tmp_path, monkeypatch):
    # Away from its package, the stub finds the libraries beside it no more.
    stub = Path(shutil.copy(embedded._stub(), tmp_path))
    python_only = embedded._library_path().rpartition(":")[2]
    missing = [
        {"embedded._library_path": lambda: "/nowhere"},
        {"embedded._stub": lambda: stub, "embedded._library_path": lambda: python_only},
        {"embedded.importlib.util.find_spec": lambda name: None},
    ]
    said = []
    for replaced in missing:
        with monkeypatch.context() as patch:
            for name, function in replaced.items():
                patch.setattr(f"serving_kit.server.{name}", function)
            said.append(refuse_start(empty_repository))
    return said


@provokes("No room in shared memory")
def test_no_room_in_shared_memory(empty_repository, monkeypatch):
    usage = shutil.disk_usage("/dev/shm")._replace(free=3 << 20)
    monkeypatch.setattr(embedded.shutil, "disk_usage", lambda folder: usage)
    return refuse_start(empty_repository)


@provokes("A space in the temporary folder")
def test_a_space_in_the_temporary_folder(empty_repository, tmp_path, monkeypatch):
    spaced = tmp_path / "a space"
    spaced.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(spaced))
    said = refuse_start(empty_repository)
    assert not list(spaced.iterdir())
    return said


@provokes("A model.py where the server is started")
def test_a_model_py_where_the_server_is_started(empty_repository, tmp_path, monkeypatch):
    (tmp_path / "model.py").write_text("")
    monkeypatch.chdir(tmp_path)
    return refuse_start(empty_repository)


@provokes("An option that the kit sets itself")
def test_an_option_that_the_kit_sets_itself():
    return raised(ServerError, TritonServer, options=["--id=mine"])


@provokes("escapes backend directory")
def test_escapes_backend_directory(empty_repository, monkeypatch):
    (empty_repository / "small" / "1").mkdir(parents=True)
    (empty_repository / "small" / "config.pbtxt").write_text('backend: "oneflow"')

    def link(file, target):
        Path(target).symlink_to(file)

    copytree = functools.partial(shutil.copytree, copy_function=link)
    monkeypatch.setattr(embedded.shutil, "copytree", copytree)
    return refuse_start(empty_repository)


@provokes("No Python for the worker")
def test_no_python_for_the_worker(monkeypatch):
    monkeypatch.delenv("ONEFLOW_BACKEND_PYTHON", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "base_exec_prefix", "/nowhere")
    return raised(WorkerError, find_python)


@provokes("The server mode does not exist")
def test_the_server_mode_does_not_exist():
    return raised(ServerError, choose, "cloud")


@provokes("Loading models is closed")
def test_loading_models_is_closed(closed):
    with httpclient.InferenceServerClient(closed.url) as client:
        over_http = raised(InferenceServerException, client.load_model, "small")
    with grpcclient.InferenceServerClient(closed.grpc_url) as client:
        return [over_http, raised(InferenceServerException, client.load_model, "small")]


@provokes("Shared memory is closed")
def test_shared_memory_is_closed(closed):
    def register(client):
        return raised(
            InferenceServerException, client.register_system_shared_memory, "pictures", "any", 16
        )

    with httpclient.InferenceServerClient(closed.url) as client:
        over_http = register(client)
    with grpcclient.InferenceServerClient(closed.grpc_url) as client:
        return [over_http, register(client)]


@provokes("JSON is closed")
def test_json_is_closed(empty_repository):
    with (
        TritonServer(empty_repository, json=False) as server,
        httpclient.InferenceServerClient(server.url) as client,
    ):
        return raised(InferenceServerException, client.infer, "small", [])


@provokes("Docker is not available")
def test_docker_is_not_available(engine, monkeypatch):
    engine.set(info=docker_tests.DOWN)
    said = [choose().why, raised(ServerError, choose, "docker")]
    engine.script("docker", "#!/bin/sh\nexec sleep 5\n")
    with monkeypatch.context() as patch:
        patch.setattr(docker, "INFO_SECONDS", 0.1)
        said.append(choose().why)
    monkeypatch.setenv("PATH", "/nowhere")
    return [*said, choose().why]


@provokes("The image is missing")
def test_the_image_is_missing(engine, empty_repository):
    said = [refuse_start(empty_repository, mode="docker")]
    engine.set(gpus=[docker_tests.T4], info=docker_tests.NVIDIA)
    answers = f"cat <<END\n{json.dumps(docker_tests.NVIDIA)}\nEND"
    engine.script("docker", f"#!/bin/sh\n[ $1 != pull ] || exit 1\n{answers}\n[ $1 != image ]\n")
    return [*said, refuse_start(empty_repository, mode="docker", image="me/mine:1")]


@provokes("The image needs a GPU")
def test_the_image_needs_a_gpu(engine):
    return raised(ServerError, choose, "docker", docker.ORIGINAL_IMAGE)


@provokes("A colon in the path")
def test_a_colon_in_the_path(engine, tmp_path):
    engine.set(gpus=[docker_tests.T4], info=docker_tests.NVIDIA, images=[docker.ORIGINAL_IMAGE])
    (tmp_path / "a:b").mkdir()
    server = TritonServer(tmp_path / "a:b", mode="docker", image=docker.ORIGINAL_IMAGE)
    return raised(ServerError, server.command)
