"""Triton in a process of one's own, through its C API.

Each test runs a program: what goes wrong in C ends a process, which is not to be pytest's.
"""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from serving_kit.errors import ServerError
from serving_kit.server import c_api, embedded

SECONDS = 60
#: What the programs begin with: a server for the repository of their first argument.
START = """
import gc, os, sys, time, weakref
import numpy as np
from serving_kit.errors import ServerError
from serving_kit.server.c_api import requests
from serving_kit.server.c_api import RunFolder, check, ffi, library, message, outputs, owned, send

lib = library()

def start(*models):
    folder = RunFolder(sys.argv[1])
    options = owned(lib.TRITONSERVER_ServerOptionsNew)
    check(lib.TRITONSERVER_ServerOptionsSetModelRepositoryPath(options, bytes(folder.models)))
    check(lib.TRITONSERVER_ServerOptionsSetBackendDirectory(options, bytes(folder.backends)))
    prefix = b"shm-region-prefix-name", folder.shm_prefix
    check(lib.TRITONSERVER_ServerOptionsSetBackendConfig(options, b"python", *prefix))
    explicit = lib.TRITONSERVER_MODEL_CONTROL_EXPLICIT
    check(lib.TRITONSERVER_ServerOptionsSetModelControlMode(options, explicit))
    check(lib.TRITONSERVER_ServerOptionsSetGpuMetrics(options, False))
    check(lib.TRITONSERVER_ServerOptionsSetPinnedMemoryPoolByteSize(options, 0))
    check(lib.TRITONSERVER_ServerOptionsSetExitTimeout(options, 30))
    check(lib.TRITONSERVER_ServerOptionsSetLogFile(options, bytes(folder.log)))
    server = owned(lib.TRITONSERVER_ServerNew, options)
    with folder.environment():
        for model in models:
            check(lib.TRITONSERVER_ServerLoadModel(server, model))
    return folder, server

def request_for(server, x, model=b"tiny", name=b"INPUT_0", size=None):
    request = owned(lib.TRITONSERVER_InferenceRequestNew, server, model, -1)
    kind = lib.TRITONSERVER_StringToDataType(b"FP32")
    check(lib.TRITONSERVER_InferenceRequestAddInput(request, name, kind, x.shape, x.ndim))
    data = ffi.from_buffer(x)
    check(lib.TRITONSERVER_InferenceRequestAppendInputData(
        request, name, data, size or len(data), lib.TRITONSERVER_MEMORY_CPU, 0))
    return request, data

def infer(server, x, **named):
    return outputs(send(server, *request_for(server, x, **named)))["OUTPUT_0"]

def wait_until(condition):
    # Triton says a moment after the response that it is done with the request.
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)

PAIR = np.float32([1, 2])
"""
#: A model that takes its time, or raises.
SLOW = """
import time
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    def execute(self, requests):
        print("the model was asked", flush=True)
        x = requests[0].inputs()[0].as_numpy()
        if x[0] < 0:
            raise ValueError("no square root of this")
        time.sleep(float(x[0]))
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT_0", x)])]
"""

pytestmark = pytest.mark.usefixtures("is_clean")


def begin(repository, program):
    """Start a program in a process group of its own, as a kernel is."""
    return subprocess.Popen(
        [sys.executable, "-u", "-c", START + textwrap.dedent(program), repository],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run(repository, program):
    """Run a program to its end; return what it printed."""
    with begin(repository, program) as process:
        said, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, said
    return said


@pytest.fixture
def slow_repository(tiny_repository):
    (tiny_repository / "tiny" / "1" / "model.py").write_text(SLOW)
    return tiny_repository


def test_a_request_leaves_no_memory(tiny_repository):
    """Not even until Python's garbage is collected, which may be after the server is stopped."""
    run(
        tiny_repository,
        """
        folder, server = start(b"tiny")
        gc.collect()
        gc.disable()
        class Data(np.ndarray):
            pass
        x = np.arange(2, dtype="f4").view(Data)
        gone = weakref.ref(x)
        response = send(server, *request_for(server, x))
        assert len(requests._buffers) == 1
        assert outputs(response)["OUTPUT_0"].tolist() == [0, 1]
        assert not requests._buffers
        del x, response
        wait_until(lambda: not requests._under_way and gone() is None)

        for _ in range(200):
            infer(server, PAIR)
        assert not requests._buffers
        ask = lib.TRITONSERVER_ServerModelStatistics, server, b"tiny", -1
        wait_until(lambda: message(*ask)["model_stats"][0]["inference_count"] == 201)
        began = time.monotonic()
        ffi.release(server)
        assert time.monotonic() - began < 20, "a request is still there"
        folder.stop()
        """,
    )


def test_what_triton_refuses_is_one_sentence_and_leaves_nothing(slow_repository):
    said = run(
        slow_repository,
        """
        folder, server = start(b"tiny")
        gc.collect()
        gc.disable()
        for named in (
            {"x": PAIR, "model": b"nobody"}, {"x": np.float32([1])}, {"x": PAIR, "name": b"X"},
            {"x": PAIR, "size": 4}, {"x": np.float32([-1, 0])},
        ):
            try:
                infer(server, **named)
            except ServerError as error:
                print(error)
        try:
            check(lib.TRITONSERVER_ServerLoadModel(server, b"nobody"))
        except ServerError as error:
            print(error)
        try:
            check(lib.TRITONSERVER_ServerIsReady(None, ffi.new("bool *")))
        except TypeError as error:
            print(error)
        assert infer(server, np.float32([0, 1])).tolist() == [0, 1]
        wait_until(lambda: not requests._buffers and not requests._under_way)
        began = time.monotonic()
        del server
        assert time.monotonic() - began < 20, "a request is still there"
        folder.stop()
        """,
    )
    assert said.splitlines() == [
        "Triton refused (Not found): Request for unknown model: 'nobody' is not found",
        "Triton refused (Invalid argument): unexpected shape for input 'INPUT_0' for model 'tiny'. "
        "Expected [2], got [1]",
        "Triton refused (Invalid argument): unexpected inference input 'X' for model 'tiny'",
        "Triton refused (Invalid argument): input byte size mismatch for input 'INPUT_0' for model "
        "'tiny'. Expected 8, got 4",
        "Triton refused (Internal): Failed to process the request(s) for model 'tiny_0', "
        "message: ValueError: no square root of this",
        "Triton refused (Internal): failed to load 'nobody', failed to poll from model repository",
        "initializer for ctype 'TRITONSERVER_Server *' must be a cdata pointer, not NoneType",
    ]


def test_servers_in_turn_and_an_environment_as_it_was(slow_repository):
    run(
        slow_repository,
        """
        before = dict(os.environ), os.stat(1), os.stat(2), set(os.listdir("/proc/self/fd"))
        for _ in range(2):
            folder, server = start(b"tiny")
            assert (dict(os.environ), os.stat(1), os.stat(2)) == before[:3]
            assert infer(server, np.float32([0, 3])).tolist() == [0, 3]
            assert "the model was asked" in folder.log.read_text()  # and not on our output
            server = None
            folder.stop()
        """,
    )


def wait_for(process, line):
    assert any(said.strip() == line for said in process.stdout), "it ended before that"


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process_leaves_nothing(slow_repository, signal_number):
    program = """
        folder, server = start(b"tiny")
        infer(server, np.float32([0, 0]))
        print("now")
        infer(server, np.float32([30, 0]))
    """
    with begin(slow_repository, program) as process:
        wait_for(process, "now")
        time.sleep(0.2)
        process.send_signal(signal_number)
        assert process.wait(SECONDS) == -signal_number
    # is_clean looks for what is left.


def test_a_process_that_ends_without_stopping_leaves_nothing(slow_repository):
    run(slow_repository, 'folder, server = start(b"tiny"); infer(server, np.float32([0, 0]))')


def test_ctrl_c_ends_the_waiting_only(slow_repository):
    """As in JupyterLab, where the kernel's whole process group gets the signal."""
    program = """
        folder, server = start(b"tiny")
        print("now")
        try:
            infer(server, np.float32([2, 0]))
        except KeyboardInterrupt:
            assert len(requests._under_way) == 1
        assert infer(server, np.float32([0, 5])).tolist() == [0, 5]
        wait_until(lambda: not requests._buffers and not requests._under_way)
        server = None
        folder.stop()
        print("whole")
    """
    with begin(slow_repository, program) as process:
        wait_for(process, "now")
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)
        said, _ = process.communicate(timeout=SECONDS)
    assert said.splitlines()[-1] == "whole", said


def test_a_library_that_cannot_be_opened_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "_site_packages", lambda: tmp_path)
    with pytest.raises(ServerError, match="there is no libtritonserver in "):
        c_api.library.__wrapped__()
    library = tmp_path / "nvidia_pytriton.libs" / "libtritonserver-0.so"
    library.parent.mkdir()
    library.write_text("no library")
    with pytest.raises(ServerError, match=r"Triton's C API cannot be used here: .*; is nvidia-pyt"):
        c_api.library.__wrapped__()
