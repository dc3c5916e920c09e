"""What tests with servers share: small models, ports, and servers to ask or to load models into."""

import contextlib
import gc
import itertools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import tritonclient.http as httpclient
from docker_engine import kit_image, nothing_is_left  # noqa: F401 - fixtures
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from serving_kit.client.inference import infer
from serving_kit.models import repository_for
from serving_kit.paths import MODEL_REPOSITORY
from serving_kit.server import TritonServer, runs, supervisor
from serving_kit.server.ports import HOST

SIZE = 64
LOAD_SECONDS = 300
INSTALL_SECONDS = 300
SECONDS = 60

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def small_version(tmp_path_factory):
    """A version folder of StyleNet for 64 x 64 pixels: small, but no graph so short that
    OneFlow 0.9.0 may crash on it."""
    from serving_kit.export.version import export_version
    from serving_kit.stylenet.network import load_stylenet

    version = tmp_path_factory.mktemp("small") / "1"
    example = np.random.default_rng(0).uniform(0, 255, (1, 3, SIZE, SIZE)).astype(np.float32)
    export_version(load_stylenet(), [example], version, source="a test")
    return version


@pytest.fixture(scope="session")
def flowvision(tmp_path_factory):
    """A folder with flowvision 0.2.1, which only builds with setuptools before 80.

    It is the last one for OneFlow 0.9.0, and needs tabulate, which the environment has not.
    """
    folder = tmp_path_factory.mktemp("flowvision")
    constraint = folder / "build.txt"
    constraint.write_text("setuptools<80\n")
    command = [Path(sys.executable).with_name("uv"), "pip", "install", "--no-deps"]
    command += ["--python", sys.executable, "--target", folder / "site"]
    command += ["--build-constraints", constraint, "flowvision==0.2.1", "tabulate==0.10.0"]
    # uv leaves the lock of what it builds among the temporary files; and it trusts what the system
    # trusts, as in the set-up.
    own = {"TMPDIR": str(folder), "UV_SYSTEM_CERTS": "true"}
    subprocess.run(command, env={**os.environ, **own}, check=True, timeout=INSTALL_SECONDS)
    return folder / "site"


@pytest.fixture
def small_repository(tmp_path, small_version):
    """A repository of a test's own, to be broken: one model, small."""
    model = tmp_path / "models" / "small"
    shutil.copytree(small_version, model / "1")
    (model / "config.pbtxt").write_text(small_config("small"))
    return model.parent


def small_config(name):
    text = (MODEL_REPOSITORY / "fast_neural_style" / "configs" / "cpu.pbtxt").read_text()
    return text.replace("fast_neural_style", name).replace("256, 256", f"{SIZE}, {SIZE}")


@pytest.fixture(scope="session")
def save_graph():
    """Saves a module as a version, without a run: OneFlow 0.9.0 may crash on a short graph."""
    import oneflow as flow

    from serving_kit.export.version import InferenceGraph

    def save_graph(module, examples, version):
        graph = InferenceGraph(module.eval())
        graph._compile(*map(flow.tensor, examples))
        version.mkdir(parents=True)
        flow.save(graph, str(version / "model"))
        del graph
        gc.collect()

    return save_graph


class Tiny:
    """A graph of a few bytes for three numbers, and what it gives."""

    W, B = np.float32([0.5, -2, 3]), np.float32([1, 0, -1])
    EXAMPLE = np.float32([[1, 2, 3]])
    CONFIG = """\
backend: "oneflow"
max_batch_size: 1
input [ { name: "INPUT_0" data_type: TYPE_FP32 dims: [ 3 ] } ]
output [ { name: "OUTPUT_0" data_type: TYPE_FP32 dims: [ 3 ] } ]
instance_group [ { kind: KIND_CPU } ]
"""

    def expected(self, x, w=W):
        return 1 / (1 + np.exp(-(x * w + self.B)))

    def module(self, w=W):
        import oneflow as flow
        from oneflow import nn

        class Module(nn.Module):
            def __init__(self, b):
                super().__init__()
                self.w, self.b = nn.Parameter(flow.tensor(w)), nn.Parameter(flow.tensor(b))

            def forward(self, x):
                return flow.sigmoid(x * self.w + self.b)

        return Module(self.B)


@pytest.fixture(scope="session")
def tiny():
    return Tiny()


@pytest.fixture(scope="session")
def tiny_version(tmp_path_factory, tiny, save_graph):
    """A version folder of the tiny graph."""
    version = tmp_path_factory.mktemp("tiny") / "1"
    save_graph(tiny.module(), [tiny.EXAMPLE], version)
    return version


@pytest.fixture
def wait_until():
    """Wait for what comes a moment later; what never comes fails the test."""

    def wait(condition):
        deadline = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < deadline, "waited too long"
            time.sleep(0.05)

    return wait


#: A model that needs Triton's python backend, and no OneFlow: its output is its input.
TINY_MODEL = """
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    def execute(self, requests):
        inputs = [request.inputs()[0].as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT_0", x)]) for x in inputs]
"""
TINY_CONFIG = """
backend: "python"
input [ { name: "INPUT_0" data_type: TYPE_FP32 dims: [ 2 ] } ]
output [ { name: "OUTPUT_0" data_type: TYPE_FP32 dims: [ 2 ] } ]
"""


@pytest.fixture
def empty_repository(tmp_path):
    """A repository without a model, with which Triton is ready at once."""
    folder = tmp_path / "no models"
    folder.mkdir()
    return folder


@pytest.fixture
def tiny_repository(tmp_path):
    """A repository whose model has a process and shared memory, as OneFlow's have.

    Over a space in the path of a repository, Triton alone would wait forever.
    """
    return write_tiny_model(tmp_path / "tiny models")


@pytest.fixture(scope="module")
def shared_tiny_repository(tmp_path_factory):
    """The same, for a server that a module's tests share."""
    return write_tiny_model(tmp_path_factory.mktemp("tiny models"))


def write_tiny_model(repository):
    version = repository / "tiny" / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(TINY_MODEL)
    (version.parent / "config.pbtxt").write_text(TINY_CONFIG)
    return repository


@pytest.fixture(scope="module")
def tiny_and_picture(tmp_path_factory):
    """A repository with the tiny model and fast_neural_style, which any user can read."""
    repository = tmp_path_factory.mktemp("models")
    write_tiny_model(repository)
    shutil.copytree(repository_for() / "fast_neural_style", repository / "fast_neural_style")
    for path in (*repository.parents[:3], repository, *repository.rglob("*")):
        path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
    return repository


@pytest.fixture
def port():
    """The first of three ports in a row, for HTTP, gRPC and metrics, that nobody else is given."""
    with three_ports() as first:
        yield first


@pytest.fixture(scope="module")
def port_of_module():
    """The same, for a server that all tests of a file share."""
    with three_ports() as first:
        yield first


@pytest.fixture
def other_port():
    """The same, for a second server."""
    with three_ports() as first:
        yield first


@contextlib.contextmanager
def three_ports():
    """Hold three ports in a row that are free; give the first.

    They stay bound, by sockets that do not listen. As long as each has SO_REUSEADDR, as Triton's
    and the kit's have, the kernel lets another socket have such a port by its number; but it
    gives it to none that asks for any free port.
    """
    while True:
        with contextlib.ExitStack() as held, contextlib.suppress(OSError, OverflowError):
            first = hold(held, 0)
            hold(held, first + 1)
            hold(held, first + 2)
            yield first
            return


def hold(held, port):
    holder = held.enter_context(socket.socket())
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind((HOST, port))
    return holder.getsockname()[1]


@pytest.fixture
def traces():
    """Returns everything that a run may leave: its folders, its processes, its shared memory."""

    def traces(run_dir):
        folder = [run_dir] if run_dir.exists() else []
        memory = supervisor.SHARED_MEMORY.glob(f"{supervisor.shm_prefix(run_dir)}*")
        return [*folder, *supervisor.processes_of(run_dir), *memory]

    return traces


@pytest.fixture
def is_clean(traces, wait_until):
    """Tells whether nothing is left of the runs of this test; in the end that must be so.

    The runs of other tests do not count: their servers may live on. No other process starts a
    server in this folder for temporary files: each session and worker has its own.
    """

    def runs_now():
        return set(Path(tempfile.gettempdir()).glob(f"{runs.RUN_PREFIX}*"))

    others = runs_now()

    def is_clean():
        return not any(traces(run_dir) for run_dir in runs_now() - others)

    yield is_clean
    wait_until(is_clean)


@pytest.fixture
def processes_named():
    """Returns the processes of a run that have a name (the kernel keeps 15 characters)."""

    def processes_named(run_dir, name):
        found = []
        for pid in supervisor.processes_of(run_dir):
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                if process.name().startswith(name[:15]):
                    found.append(process)
        return found

    return processes_named


@pytest.fixture
def triton(processes_named, wait_until):
    """Returns the process of a server's Triton, once there is one."""

    def triton(run_dir):
        wait_until(lambda: processes_named(run_dir, "tritonserver"))
        return processes_named(run_dir, "tritonserver")[0]

    return triton


@pytest.fixture
def impatient(tmp_path, monkeypatch):
    """A supervisor whose pauses are tenths of seconds, run by the path of another folder."""
    folder = tmp_path / "a copy" / "supervisor"
    shutil.copytree(Path(supervisor.__file__).parent, folder)
    text = (folder / "restarts.py").read_text()
    assert "PAUSES = (0, 1, 2, 4)" in text
    (folder / "restarts.py").write_text(text.replace("(0, 1, 2, 4)", "(0, 0.1, 0.1, 0.1)"))
    monkeypatch.setattr(supervisor, "__file__", str(folder / "__init__.py"))


@pytest.fixture(scope="session")
def server():
    """The server that tests share which only ask it: it serves ``model_repository/``."""
    with TritonServer(repository_for()) as server:
        yield server


#: Triton 2.51 may crash when a model is unloaded in the moment in which it was loaded or has sent a
#: response (docs/architecture.md). This is long after that moment, on a busy machine, too.
UNLOAD_PAUSE_SECONDS = 0.1


class Model:
    """A model in the repository of a running server, which loads it when told to."""

    def __init__(self, server, name):
        self.server, self.name = server, name
        self.folder = server.model_repository / name

    def client(self):
        """A client for a with block, in one thread."""
        return httpclient.InferenceServerClient(self.server.url, network_timeout=LOAD_SECONDS)

    def write_config(self, text):
        (self.folder / "config.pbtxt").write_text(text)

    def load(self):
        with self.client() as client:
            client.load_model(self.name)

    def unload(self):
        time.sleep(UNLOAD_PAUSE_SECONDS)
        with self.client() as client:
            client.unload_model(self.name)

    def infer(self, image):
        return infer(image, model=self.name, url=self.server.url)

    def send(self, *arrays, version=""):
        """Send INPUT_0, INPUT_1, ...; return the outputs by their names."""
        inputs = [
            httpclient.InferInput(f"INPUT_{i}", array.shape, np_to_triton_dtype(array.dtype))
            for i, array in enumerate(arrays)
        ]
        for tensor, array in zip(inputs, arrays, strict=True):
            tensor.set_data_from_numpy(array)
        with self.client() as client:
            response = client.infer(self.name, inputs, model_version=version)
        names = [output["name"] for output in response.get_response()["outputs"]]
        return {name: response.as_numpy(name) for name in names}

    def log(self):
        """What the backend has said about this model."""
        lines = self.server.log().splitlines()
        return "\n".join(line for line in lines if f"{self.name} version " in line)

    def workers(self):
        """The living processes in which OneFlow runs this model."""
        found = []
        for pid in supervisor.processes_of(self.server.run_dir):
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                program, *order = process.cmdline()[1:] or [""]
                if Path(program).name == "worker.py" and f"/{self.name}/" in order[0]:
                    found.append(process)
        return found


@pytest.fixture(scope="session")
def loading_server(tmp_path_factory):
    """The server that tests share which bring a model of their own; empty at first."""
    with TritonServer(tmp_path_factory.mktemp("models"), model_control=True) as server:
        yield server


@pytest.fixture
def model_called(loading_server):
    """Gives a test the model of a name in ``loading_server``; unloads and removes it at the end."""
    models = []

    def model_called(name):
        models.append(Model(loading_server, name))
        return models[-1]

    yield model_called
    for model in models:
        with contextlib.suppress(InferenceServerException):  # it was never loaded
            model.unload()
        shutil.rmtree(model.folder)


@pytest.fixture
def empty_model(model_called):
    """A model of a test's own, without a version and a configuration."""
    model = model_called(f"model_{next(_numbers)}")
    model.folder.mkdir()
    return model


@pytest.fixture
def small_model(empty_model, small_version):
    """The small StyleNet as a model of a test's own, not loaded yet, to be broken."""
    return fill(empty_model, small_version)


@pytest.fixture(scope="session")
def make_tiny_model(loading_server, tiny_version):
    """Makes models of the tiny graph, not loaded yet; nothing unloads or removes them."""

    def make_tiny_model(config=Tiny.CONFIG):
        model = Model(loading_server, f"model_{next(_numbers)}")
        model.folder.mkdir()
        shutil.copytree(tiny_version, model.folder / "1")
        model.write_config(config)
        return model

    return make_tiny_model


@pytest.fixture(scope="session")
def make_small_model(loading_server, small_version):
    """Makes more such models, for tests that need several; nobody unloads or removes them."""

    def make_small_model():
        model = Model(loading_server, f"model_{next(_numbers)}")
        model.folder.mkdir()
        return fill(model, small_version)

    return make_small_model


def fill(model, version):
    shutil.copytree(version, model.folder / "1")
    model.write_config(small_config(model.name))
    return model
