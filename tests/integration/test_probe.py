"""The readiness probe of Kubernetes: it infers, and sees what no health address of Triton does."""

import json
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tritonclient.http as httpclient

from serving_kit.server import TritonServer, supervisor
from serving_kit.server.supervisor import probe
from serving_kit.server.supervisor.api import Api
from serving_kit.server.supervisor.web import request

SECONDS = 60
#: Triton 2.51 may crash when a model is unloaded in the moment in which it was loaded.
UNLOAD_PAUSE_SECONDS = 0.1
#: Waits for the seconds in a file beside it, and refuses zeros where another file is.
MODEL = """
import time
from pathlib import Path
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, _):
        self.folder = Path(__file__).parent

    def execute(self, requests):
        if (self.folder / "seconds").exists():
            time.sleep(float((self.folder / "seconds").read_text()))
        if (self.folder / "refuse").exists():
            raise ValueError("this model takes no zeros")
        return [pb_utils.InferenceResponse([request.inputs()[0]]) for request in requests]
"""
#: Inputs of all kinds.
CONFIG = """
backend: "python"
max_batch_size: {batch}
input [
  {{ name: "FLAG" data_type: TYPE_BOOL dims: [ 2 ] }},
  {{ name: "HALF" data_type: TYPE_FP16 dims: [ -1, 3 ] }},
  {{ name: "LONG" data_type: TYPE_INT64 dims: [ 2 ] }},
  {{ name: "BYTE" data_type: TYPE_UINT8 dims: [ -1 ] }},
  {{ name: "TEXT" data_type: TYPE_STRING dims: [ -1, 2 ] }},
  {{ name: "MORE" data_type: TYPE_FP32 dims: [ 1 ] optional: true }}
]
output [ {{ name: "FLAG" data_type: TYPE_BOOL dims: [ 2 ] }} ]
instance_group [ {{ kind: KIND_CPU }} ]
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A Triton whose supervisor does not load a model again; each test has a model of its own."""
    repository = tmp_path_factory.mktemp("models")
    for name, batch in (("calm", 0), ("batched", 4), ("slow", 0), ("dead", 0), ("busy", 0)):
        version = repository / name / "1"
        version.mkdir(parents=True)
        (version / "model.py").write_text(MODEL)
        (version.parent / "config.pbtxt").write_text(CONFIG.format(batch=batch))
    with TritonServer(repository, options=["--model-control-mode=none"]) as server:
        yield server


@pytest.fixture
def api(served, triton, monkeypatch):
    """Its API, as the probe finds it, which here is never content with an earlier response."""
    monkeypatch.setattr(probe, "RECENT_SECONDS", 0)
    return Api(triton(served.run_dir).cmdline())


def said_of(api, name):
    """What the probe says of one model: others may have died in other tests."""
    return [each for each in probe.why_not_ready(api).split("; ") if f" {name} " in f"{each} "]


def counts(server, name):
    """How often a model responded, and how often it did not."""
    with httpclient.InferenceServerClient(server.url) as client:
        (found,) = client.get_inference_statistics(name)["model_stats"]
    return [found["inference_stats"][key]["count"] for key in ("success", "fail")]


def send_zeros(api, name):
    path = f"/v2/models/{name}"
    config = json.loads(request(api.address, api.port, f"{path}/config")[1])
    body, headers = probe.zeros(config)
    return request(api.address, api.port, f"{path}/infer", body, headers, SECONDS)[0]


def kill_stub(server, name, processes_named):
    (stub,) = [
        each
        for each in processes_named(server.run_dir, supervisor.STUB)
        if f"/{name}/" in each.cmdline()[1]
    ]
    stub.kill()


@pytest.mark.long
@pytest.mark.parametrize("name", ["calm", "batched"])
def test_a_model_gets_a_request_unless_it_has_just_responded(served, api, name, monkeypatch):
    first = counts(served, name)[0]
    assert not said_of(api, name)
    assert counts(served, name) == [first + 1, 0]
    monkeypatch.setattr(probe, "RECENT_SECONDS", 60)
    assert not said_of(api, name)
    assert counts(served, name) == [first + 1, 0]


@pytest.mark.long
def test_a_model_that_is_slow_or_refuses_zeros_is_no_reason(served, api, monkeypatch):
    folder = served.model_repository / "slow" / "1"
    (folder / "refuse").touch()
    assert send_zeros(api, "slow") == 500
    assert not said_of(api, "slow")
    (folder / "refuse").unlink()
    (folder / "seconds").write_text("2")
    monkeypatch.setattr(probe, "RUN_SECONDS", 0.5)
    with ThreadPoolExecutor() as pool:  # a client's request, and the probe's behind it
        waiting = pool.submit(send_zeros, api, "slow")
        time.sleep(0.2)
        assert not said_of(api, "slow")
        assert not waiting.done()
    assert waiting.result() == 200


@pytest.mark.long
def test_a_dead_process_is_seen_where_health_sees_nothing(served, api, processes_named):
    kill_stub(served, "dead", processes_named)
    assert said_of(api, "dead") == ["the process that serves dead died"]
    assert request(api.address, api.port, "/v2/health/ready")[0] == 200
    assert request(api.address, api.port, "/v2/models/dead/ready")[0] == 200


@pytest.mark.long
def test_a_dead_process_is_seen_behind_other_requests(served, api, processes_named, monkeypatch):
    """Triton takes a second over each, so that the probe's own does not come in time."""
    kill_stub(served, "busy", processes_named)
    monkeypatch.setattr(probe, "RUN_SECONDS", 1.5)
    with ThreadPoolExecutor() as pool:
        waiting = [pool.submit(send_zeros, api, "busy") for _ in range(4)]
        time.sleep(0.2)
        assert said_of(api, "busy") == ["the process that serves busy died"]
        assert not all(each.done() for each in waiting)
    assert {each.result() for each in waiting} == {500}


@pytest.mark.long
def test_a_model_that_is_not_there_is_a_reason(tiny_repository, triton, wait_until):
    with TritonServer(tiny_repository, model_control=True) as server:
        api = Api(triton(server.run_dir).cmdline())
        assert probe.why_not_ready(api) == ""
        # A new version takes the place of the old one, which is unloaded.
        shutil.copytree(tiny_repository / "tiny" / "1", tiny_repository / "tiny" / "2")
        with httpclient.InferenceServerClient(server.url) as client:
            client.load_model("tiny")
            wait_until(lambda: len(client.get_model_repository_index()) == 2)
            assert probe.why_not_ready(api) == ""
            time.sleep(UNLOAD_PAUSE_SECONDS)
            client.unload_model("tiny")
            assert probe.why_not_ready(api).startswith("tiny is not loaded: un")
            wait_until(lambda: "unloading" not in probe.why_not_ready(api))
        assert probe.why_not_ready(api) == "tiny is not loaded: unloaded"


@pytest.mark.long
def test_a_server_without_models_is_not_ready(empty_repository, triton):
    with TritonServer(empty_repository) as server:
        assert probe.why_not_ready(Api(triton(server.run_dir).cmdline())) == "no model is loaded"


def alone(*command):
    """Run a command where it sees no other processes, as in a container."""
    command = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", *command]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)


#: A program called as Triton is, at whose port nobody responds.
CODE = "'import time; time.sleep(60)'"
STAND_IN = f"exec -a /opt/tritonserver/bin/tritonserver {sys.executable} -c {CODE}"


@pytest.mark.skipif(alone("true").returncode != 0, reason="no namespaces for users here")
@pytest.mark.parametrize(
    ("before", "said"),
    [
        ("true", "tritonserver is not running"),
        (f"({STAND_IN} --http-port={{port}})", "Triton does not respond ([Errno 111]"),
    ],
)
def test_the_verb_says_why_and_fails(port, before, said):
    verb = f"{sys.executable} {Path(supervisor.__file__).parent} probe"
    done = alone("bash", "-c", f"{before.format(port=port)} & sleep 0.5; {verb}")
    assert done.returncode == 1
    assert done.stderr.startswith(said)
