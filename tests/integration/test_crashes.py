"""OneFlow's process may crash, be killed or hang: every request gets its own, right result."""

import contextlib
import http.client
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import oneflow as flow
import pytest
import tritonclient.grpc as grpcclient
from oneflow import nn
from tritonclient.utils import InferenceServerException

from serving_kit.server.ports import HOST

SECONDS = 60
CLIENTS = 4
W = np.float32([0.5, -2, 3, 1.25])
SHORT = """\
backend: "oneflow"
max_batch_size: 8
dynamic_batching { }
parameters { key: "run_timeout_seconds" value: { string_value: "5" } }
"""


class Product(nn.Module):
    """The shortest graph: its one operator is run in the Eager engine."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(flow.tensor(W))

    def forward(self, x):
        return x * self.w


class Sums(Product):
    """One that OneFlow's engine for graphs runs, because of cumsum; it crashes on short graphs."""

    def forward(self, x):
        return flow.cumsum(x * self.w, 1)


def restarts(model):
    """Return what Triton's metrics say about the model's workers; 0 when they say nothing."""
    connection = http.client.HTTPConnection(HOST, model.server.ports[2], timeout=SECONDS)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics", headers={"Connection": "close"})
        text = connection.getresponse().read().decode()
    pattern = rf'^oneflow_worker_restarts_total{{model="{model.name}",version="1"}} (\d+)'
    found = re.search(pattern, text, re.M)
    return int(found[1]) if found else 0


class Load:
    """Clients that send to the same server without a pause, until one fails or the block ends."""

    def __init__(self, send, count):
        self.done = [0] * count
        self._send, self._end = send, threading.Event()
        self._pool = ThreadPoolExecutor(count)
        self._clients = [self._pool.submit(self._work, i) for i in range(count)]

    def _work(self, i):
        while not self._end.is_set():
            self._send(i)
            self.done[i] += 1

    def wait_until(self, condition):
        deadline = time.monotonic() + SECONDS
        while not condition():
            for client in self._clients:
                assert not client.done() or client.result()
            assert time.monotonic() < deadline, f"waited too long; responses: {self.done}"
            time.sleep(0.01)

    def wait_for_new_requests(self):
        """Wait until every client has sent, and got the response to, a request from now on."""
        before = list(self.done)  # the next response of each may be to an older request
        self.wait_until(lambda: all(np.subtract(self.done, before) >= 2))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._end.set()
        self._pool.shutdown()
        for client in self._clients:
            client.result()


@pytest.mark.parametrize(
    ("graph", "requests"),
    [
        (Sums, 400),
        # Without its core of its own OneFlow crashed within some thousand runs.
        pytest.param(Sums, 20_000, marks=pytest.mark.long),
        pytest.param(Product, 30_000, marks=pytest.mark.long),
    ],
)
def test_a_short_graph_responds_to_every_request(empty_model, save_graph, graph, requests):
    module = graph()
    save_graph(module, [W[None]], empty_model.folder / "1")
    empty_model.write_config(SHORT)
    empty_model.load()

    def count_wrong(seed):
        rng, wrong = np.random.default_rng(seed), 0
        with grpcclient.InferenceServerClient(empty_model.server.grpc_url) as client:
            for _ in range(requests // CLIENTS):
                x = rng.integers(-9, 9, (1, 4)).astype(np.float32)  # sums of these are exact
                expected = np.cumsum(x * W, 1) if graph is Sums else x * W
                tensor = grpcclient.InferInput("INPUT_0", x.shape, "FP32").set_data_from_numpy(x)
                response = client.infer(empty_model.name, [tensor])
                wrong += not np.array_equal(response.as_numpy("OUTPUT_0"), expected)
        return wrong

    with ThreadPoolExecutor(CLIENTS) as pool:
        wrong = list(pool.map(count_wrong, range(CLIENTS)))
    print(f"{requests} requests took {restarts(empty_model)} restarts of the worker")
    assert wrong == [0] * CLIENTS


@pytest.fixture
def tiny_model(make_tiny_model):
    model = make_tiny_model()
    yield model
    model.unload()


#: Here the real worker, in the real server, has to come back each time. What depends on the moment
#: of a kill is the business of test_backend_isolation.py.
@pytest.mark.parametrize("kills", [2, pytest.param(25, marks=pytest.mark.long)])
def test_a_worker_that_is_killed_costs_no_request(tiny_model, tiny, kills):
    def send(i):
        x = np.float32([[i, 1, -1]])
        assert np.allclose(tiny_model.send(x)["OUTPUT_0"], tiny.expected(x), rtol=1e-5)

    tiny_model.load()
    with Load(send, CLIENTS) as load:
        load.wait_for_new_requests()
        for _ in range(kills):
            (worker,) = tiny_model.workers()
            worker.kill()
            load.wait_until(lambda dead=worker: tiny_model.workers() not in ([], [dead]))
            load.wait_for_new_requests()
        assert restarts(tiny_model) >= kills


@pytest.mark.long
def test_a_stub_that_is_killed_costs_the_other_instance_nothing(make_tiny_model, tiny):
    """Its own requests fail; the model is there all the time, and has two new instances then."""
    model = make_tiny_model(tiny.CONFIG.replace("kind:", "count: 2 kind:"))
    model.load()
    workers = model.workers()
    assert len(workers) == 2
    seen = []

    def send(i):
        x = np.float32([[i, 1, -1]])
        tensor = grpcclient.InferInput("INPUT_0", x.shape, "FP32").set_data_from_numpy(x)
        try:
            # HTTP would share its threads with the request to load the model.
            y = clients[i].infer(model.name, [tensor]).as_numpy("OUTPUT_0")
        except InferenceServerException as error:
            seen.append(error.message())
        else:
            assert np.allclose(y, tiny.expected(x), rtol=1e-5)
            seen.append("")

    def is_loaded_again():
        return f"{model.name} is loaded again" in model.server.log()

    with contextlib.ExitStack() as stack:
        url = model.server.grpc_url
        clients = [
            stack.enter_context(grpcclient.InferenceServerClient(url)) for _ in range(CLIENTS)
        ]
        load = stack.enter_context(Load(send, CLIENTS))
        load.wait_for_new_requests()
        workers[0].parent().kill()
        begin = len(seen)
        load.wait_until(is_loaded_again)
        end = len(seen)
        load.wait_until(lambda: len({*model.workers()} - {*workers}) == 2)
        load.wait_for_new_requests()
    assert "" in seen[begin:end]
    assert {re.sub(r"model_\d+_\d(_\d)?", "<name>", text) for text in seen} <= {
        "", "Stub process '<name>' is not healthy."
    }  # fmt: skip
    model.unload()


def test_a_worker_that_hangs_is_replaced(tiny_model, tiny):
    with (tiny_model.folder / "config.pbtxt").open("a") as config:
        config.write('parameters { key: "run_timeout_seconds" value: { string_value: "1" } }\n')
    tiny_model.load()
    (worker,) = tiny_model.workers()
    worker.suspend()
    # The client itself gives up after 60 s.
    assert np.allclose(tiny_model.send(tiny.EXAMPLE)["OUTPUT_0"], tiny.expected(tiny.EXAMPLE))
    assert restarts(tiny_model) == 1
    assert worker not in tiny_model.workers()
