"""The messages that requests bring about in docs/troubleshooting.md."""

import http.client
import json
import shutil
import time

import numpy as np
import oneflow as flow
import psutil
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from geventhttpclient._parser import HTTPParseError
from oneflow import nn
from provoking import SECONDS, parameter, provokes, raised
from tritonclient.utils import InferenceServerException

from oneflow_backend.complaints import explain
from serving_kit.client.inference import infer
from serving_kit.errors import (
    ClientError,
)
from serving_kit.export.version import export_version
from serving_kit.server import TritonServer, ports, runs, supervisor
from serving_kit.server.supervisor import probe
from serving_kit.server.supervisor.api import Api


class Embedding(nn.Module):
    """Rows of a table, times their softmax over the batch, with something that takes time.

    OneFlow aborts over an index outside of the table, and rows are not independent.
    """

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 512)
        self.slow = nn.Parameter(flow.rand(768, 768))

    def forward(self, x):
        rows = self.table(x).sum(dim=1)
        return rows * flow.softmax(rows, dim=0) + (self.slow @ self.slow)[:1, :512]


@pytest.fixture(scope="module")
def served(make_small_model):
    """A small model that is loaded, and refuses what is not finite."""
    model = make_small_model()
    with (model.folder / "config.pbtxt").open("a") as config:
        config.write(parameter("reject_non_finite", "true"))
    model.load()
    return model


def send(model, array, *, name="INPUT_0", kind="FP32", wanted="OUTPUT_0", called=None, version=""):
    """Send one request."""
    with model.client() as client:
        tensor = httpclient.InferInput(name, array.shape, kind).set_data_from_numpy(array)
        outputs = [httpclient.InferRequestedOutput(wanted)]
        client.infer(called or model.name, [tensor], version, outputs=outputs)


def ask(model, array, **named):
    """Send a request that is refused; return the error's words."""
    return raised(InferenceServerException, send, model, array, **named)


@provokes("The shape is wrong")
def test_the_shape_is_wrong(served, image):
    return [ask(served, image[:, :, :32]), ask(served, np.concatenate([image, image]))]


@provokes("The type is wrong")
def test_the_type_is_wrong(served, image):
    doubles = image.astype(np.float64)
    return [ask(served, doubles), ask(served, doubles, kind="FP64")]


@provokes("The name is wrong")
def test_the_name_is_wrong(served, make_small_model, image):
    gone = make_small_model()
    gone.write_config('backend: "oneflow"')
    gone.load()
    gone.unload()
    deadline = time.monotonic() + SECONDS
    while "no available versions" not in (last := ask(gone, image)):
        assert time.monotonic() < deadline, last
        time.sleep(0.05)
    return [
        ask(served, image, name="image"),
        ask(served, image, wanted="OUTPUT_1"),
        ask(served, image, called="fast_neural_stile"),
        ask(served, image, version="9"),
        last,
    ]


@provokes("A model is overloaded")
def test_a_model_is_overloaded(make_small_model, image):
    """Twenty requests at once, to a queue for two and to one in which requests may hardly wait."""
    errors = []
    for policy in ("max_queue_size: 2", "default_timeout_microseconds: 1"):
        model = make_small_model()
        with (model.folder / "config.pbtxt").open("a") as config:
            config.write(f"\ndynamic_batching {{ default_queue_policy {{ {policy} }} }}\n")
        model.load()
        with httpclient.InferenceServerClient(model.server.url, concurrency=20) as client:
            tensor = httpclient.InferInput("INPUT_0", image.shape, "FP32")
            tensor.set_data_from_numpy(image)
            pending = [client.async_infer(model.name, [tensor]) for _ in range(20)]
            errors += filter(None, map(error_of, pending))
    return [" ".join(errors)]


def error_of(pending):
    """Return the words of the error that a request has brought about; None if it has not."""
    try:
        pending.get_result()
    except InferenceServerException as error:
        return error.message()


@provokes("The request is not JSON")
def test_the_request_is_not_json(served):
    host, port = served.server.url.split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=SECONDS)
    connection.request("POST", f"/v2/models/{served.name}/infer", '{"inputs": [')
    said = connection.getresponse().read().decode()
    connection.close()
    return json.loads(said)["error"]


@provokes("Values that are not numbers")
def test_values_that_are_not_numbers(served, image):
    return ask(served, np.full_like(image, np.nan))


@provokes("Nothing responds at the address")
def test_nothing_responds_at_the_address(image, served, port):
    url = f"{ports.HOST}:{port}"
    with httpclient.InferenceServerClient(url) as client:
        refused = raised(ConnectionRefusedError, client.is_server_live)
    with httpclient.InferenceServerClient(served.server.url, network_timeout=0.001) as client:
        tensor = httpclient.InferInput("INPUT_0", image.shape, "FP32").set_data_from_numpy(image)
        late = raised(TimeoutError, client.infer, served.name, [tensor])
    return [raised(ClientError, infer, image, url=url), refused, late]


@provokes("HTTP was sent to the gRPC port, or gRPC to the HTTP port")
def test_http_was_sent_to_the_grpc_port_or_grpc_to_the_http_port(closed):
    with grpcclient.InferenceServerClient(closed.url) as client:
        over_grpc = raised(InferenceServerException, client.is_server_live)
    with httpclient.InferenceServerClient(closed.grpc_url) as client:
        over_http = raised(HTTPParseError, client.is_server_live)
    return [over_grpc, f"HTTPParseError: {over_http}"]


@provokes("The server refused")
def test_the_server_refused(served, image):
    too_low = image[:, :, :32]
    return raised(ClientError, infer, too_low, model=served.name, url=served.server.url)


@provokes("Stub process is not healthy")
def test_stub_process_is_not_healthy(served, image, wait_until, triton, monkeypatch):
    monkeypatch.setattr(probe, "RECENT_SECONDS", 0)
    (worker,) = served.workers()
    stub = worker.parent()
    owner = psutil.Process(runs.supervisor_of(served.server.run_dir))
    owner.suspend()  # or it would mend it
    try:
        stub.kill()
        said = ask(served, image)
        seen = probe.why_not_ready(Api(triton(served.server.run_dir).cmdline()))
    finally:
        owner.resume()
    wait_until(lambda: f"supervisor: {served.name} is loaded again" in served.server.log())
    return [said, seen, served.server.log()]


#: In the folder of a model, it takes the place of Triton's own.
DEADLY_STUB = """\
#!/bin/sh
[ $# = 0 ] && exit 1  # Triton tries it so
kill -KILL $$
"""


@provokes("A model whose process died cannot be loaded again")
def test_a_model_whose_process_died_cannot_be_loaded_again(
    tiny_repository, processes_named, wait_until
):
    with TritonServer(tiny_repository, model_control=True) as server:
        away = (tiny_repository / "tiny" / "1").rename(tiny_repository.parent / "away")
        processes_named(server.run_dir, supervisor.STUB)[0].kill()
        wait_until(lambda: "tiny cannot be loaded again" in server.log())
        away.rename(tiny_repository / "tiny" / "1")
        stub = tiny_repository / "tiny" / supervisor.STUB
        stub.write_text(DEADLY_STUB)
        stub.chmod(0o755)
        wait_until(lambda: "forever; ending Triton" in server.log())
        stub.unlink()
        wait_until(server.is_ready)
        return server.log()


@pytest.fixture(scope="module")
def poisonable(make_small_model):
    """A model that a request can end, and whose batches cannot be joined."""
    model = make_small_model()
    shutil.rmtree(model.folder / "1")
    export_version(Embedding().eval(), [np.array([[1, 2]])], model.folder / "1")
    settings = {"max_retries": "0", "batch_sizes": "2", "run_timeout_seconds": "2"}
    model.write_config(
        'backend: "oneflow"\nmax_batch_size: 2\n'
        + "".join(parameter(key, value) for key, value in settings.items())
    )
    model.load()
    return model


@provokes("Batches run row by row")
def test_batches_run_row_by_row(poisonable):
    return poisonable.log()


#: The last words of OneFlow 0.9.0 with the number of the signal, as they were seen.
LAST_WORDS = (
    (6, "dim_gather_kernel_util.h:61] Check failed: x <= dim_length (5 vs. 3) RuntimeError: index "
     "5 is out of bounds for dimension 1 with size 3"),
    (6, "one_hot_kernel.cpp:51] Check failed: idx < depth (5 vs. 3) "),
    (6, "inv_kernels.cpp:58] (Batch element 0): the inversion could not be completed because the "
     "input matrix is singular."),
    (6, "bernoulli_kernel.cpp:64] Check failed: prob >= 0.0 && prob <= 1.0 "),
    (6, "some_kernel.cpp:1] Check failed: a == b"),
    (6, "terminate called after throwing an instance of 'oneflow::RuntimeException'\n"
     "  what():  Error: allocate failed"),
    (6, ""), (8, ""), (9, ""), (11, ""),
)  # fmt: skip


@provokes("OneFlow's process died")
def test_oneflows_process_died(poisonable):
    poisoned = ask(poisonable, np.array([[-1, 0]]), kind="INT64")
    good = np.array([[1, 2]])
    send(poisonable, good, kind="INT64")  # when it is answered, the next worker has loaded
    (worker,) = poisonable.workers()
    worker.suspend()
    fatal = "F20260101 04:33:47.949875 17984 "
    return [
        poisonable.log(),
        poisoned,
        ask(poisonable, good, kind="INT64"),
        *(
            explain(-signal, fatal + words if "]" in words else words, running=True)[0]
            for signal, words in LAST_WORDS
        ),
    ]


class Inverse(nn.Module):
    """What OneFlow dies of for one of the inputs that are tried at load."""

    def forward(self, x):
        return flow.inverse(x)


@provokes("A trial run is skipped at load")
def test_a_trial_run_is_skipped_at_load(empty_model, save_graph):
    save_graph(Inverse(), [np.eye(2, dtype=np.float32)[None]], empty_model.folder / "1")
    empty_model.write_config('backend: "oneflow"\nmax_batch_size: 2')
    empty_model.load()
    return empty_model.log()


@provokes("Triton does not change its log file")
def test_triton_does_not_change_its_log_file(closed):
    said = []
    with httpclient.InferenceServerClient(closed.url) as client:
        for change, settings in (
            (client.update_log_settings, {"log_file": "/tmp/x"}),
            (lambda settings: client.update_trace_settings(settings=settings), {"trace_file": "x"}),
        ):
            said.append(raised(InferenceServerException, change, settings))
    return said
