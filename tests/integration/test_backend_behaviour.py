"""What the backend promises beyond right results, each in a real Triton."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import oneflow as flow
import psutil
import pytest
import tritonclient.http as httpclient
from oneflow import nn
from tritonclient.utils import InferenceServerException

from serving_kit.errors import ServerError
from serving_kit.server import supervisor
from serving_kit.server.triton import TritonServer

SECONDS = 60
#: What the backend logs when it does without a plan that it was to have.
NO_PLAN = "batches run row by row where no plan was verified"


def parameter(key, value):
    return f'parameters {{ key: "{key}" value: {{ string_value: "{value}" }} }}\n'


def some_rows(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def plain(make_tiny_model, tiny, save_graph):
    """Two versions of the tiny graph, and a configuration that says nothing about tensors."""
    model = make_tiny_model('backend: "oneflow"\nversion_policy: { all { } }')
    save_graph(tiny.module(2 * tiny.W), [tiny.EXAMPLE], model.folder / "2")
    model.load()
    return model


@pytest.fixture(scope="module")
def batching(make_tiny_model):
    """The tiny graph with all that the backend does about requests; its output is left out."""
    model = make_tiny_model(
        'backend: "oneflow"\nmax_batch_size: 4\n'
        'input [ { name: "INPUT_0" data_type: TYPE_FP32 dims: [ 3 ] } ]\n'
        "dynamic_batching { max_queue_delay_microseconds: 200000 }\n"
        + parameter("batch_sizes", 4) + parameter("reject_non_finite", "true")
    )  # fmt: skip
    model.load()
    return model


@pytest.mark.parametrize(("name", "dims"), [("plain", [1, 3]), ("batching", [3])])
def test_what_config_pbtxt_leaves_out_is_read_from_the_graph(request, name, dims):
    model = request.getfixturevalue(name)
    with model.client() as client:
        config = client.get_model_config(model.name)
    for kind in ("input", "output"):
        (entry,) = config[kind]
        assert entry["name"] == f"{kind.upper()}_0"
        assert (entry["data_type"], entry["dims"]) == ("TYPE_FP32", dims)


@pytest.fixture
def own_repository(tmp_path, tiny, tiny_version):
    """A repository of a test's own, with the tiny graph as the model "tiny"."""
    model = tmp_path / "models" / "tiny"
    model.mkdir(parents=True)
    (model / "1").symlink_to(tiny_version)
    (model / "config.pbtxt").write_text(tiny.CONFIG)
    return model.parent


def test_the_checks_are_the_same_without_auto_completion_and_beside_stray_modules(
    own_repository, tiny, tmp_path, monkeypatch
):
    (own_repository / "tiny" / "config.pbtxt").write_text(tiny.CONFIG.replace("[ 3 ]", "[ 4 ]"))
    for name in ("json", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    server = TritonServer(own_repository, options=["--disable-auto-complete-config"])
    with pytest.raises(ServerError, match=r"INPUT_0 has dims \[4\], but the graph has \[3\]"):
        server.start()


def test_versions_of_a_model_are_served_side_by_side(plain, tiny):
    x = some_rows(1)
    for version, w in (("1", tiny.W), ("2", 2 * tiny.W)):
        found = plain.send(x, version=version)["OUTPUT_0"]
        assert np.allclose(found, tiny.expected(x, w), rtol=1e-5)


def test_requests_are_joined_and_every_one_gets_its_own_result(batching, tiny, wait_until):
    rows = [some_rows(1, seed) for seed in range(12)]
    with batching.client() as client:

        def counted(what):
            return client.get_inference_statistics(batching.name)["model_stats"][0][what]

        inferences, executions = counted("inference_count"), counted("execution_count")
        with ThreadPoolExecutor(12) as pool:
            results = list(pool.map(batching.send, rows))
        # A moment after the last response.
        wait_until(lambda: counted("inference_count") == inferences + 12)
        assert counted("execution_count") < executions + 12
    assert NO_PLAN not in batching.log()
    for x, result in zip(rows, results, strict=True):
        assert np.allclose(result["OUTPUT_0"], tiny.expected(x), rtol=1e-5)


def test_values_that_are_not_finite(plain, batching, tiny):
    for value in (np.nan, np.inf):
        x = np.float32([[value, 1, 2]])
        assert np.isnan(plain.send(x)["OUTPUT_0"]).any() == np.isnan(value)
        with pytest.raises(InferenceServerException) as caught:
            batching.send(x)
        assert caught.value.status() == "400"
        assert "INPUT_0 has NaN or infinite values, which this model refuses" in str(caught.value)
    assert np.allclose(batching.send(tiny.EXAMPLE)["OUTPUT_0"], tiny.expected(tiny.EXAMPLE))


class SoftmaxOverTheBatch(nn.Module):
    """What cannot be batched: its batched graph has the right shapes, and wrong values."""

    def forward(self, x):
        return x * flow.softmax(x, dim=0)


def test_a_graph_that_mixes_its_rows_is_run_row_by_row(empty_model, save_graph):
    save_graph(SoftmaxOverTheBatch(), [some_rows(1)], empty_model.folder / "1")
    empty_model.write_config(
        'backend: "oneflow"\nmax_batch_size: 4\n' + parameter("batch_sizes", "2")
    )
    empty_model.load()
    rows = some_rows(3)
    assert np.array_equal(empty_model.send(rows)["OUTPUT_0"], rows)
    reason = "works along the batch dimension"
    assert len(re.findall(f"{NO_PLAN}: softmax '.+' {reason}", empty_model.log())) == 1


class Slow(nn.Module):
    """Takes some ms, most of them for a product; the rest looks up rows of a table.

    OneFlow aborts its process over a negative index.
    """

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 768)
        self.product = nn.Parameter(flow.rand(768, 768))

    def forward(self, x):
        return self.table(x).sum(dim=1) + flow.matmul(self.product, self.product)[:1]


@pytest.fixture(scope="module")
def slow_version(tmp_path_factory, save_graph):
    version = tmp_path_factory.mktemp("slow") / "1"
    module = Slow()
    save_graph(module, [np.array([[1, 2]])], version)
    return module, version


@pytest.fixture
def slow_model(empty_model, slow_version):
    (empty_model.folder / "1").symlink_to(slow_version[1])
    return empty_model


def test_two_instances_run_in_two_processes_at_a_time(slow_model):
    slow_model.write_config('backend: "oneflow"\ninstance_group [ { count: 2, kind: KIND_CPU } ]')
    slow_model.load()
    both = slow_model.workers()
    assert len(both) == 2
    before = [sum(process.cpu_times()[:2]) for process in both]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(slow_model.send, [np.array([[1, 2]])] * 80))
    after = [sum(process.cpu_times()[:2]) for process in both]
    spent = np.subtract(after, before)
    assert spent.min() > 0.2 * spent.max()


def test_a_poisonous_request_ends_as_its_own_error_and_harms_no_other(slow_model, slow_version):
    slow_model.write_config(
        'backend: "oneflow"\nmax_batch_size: 8\n'
        "dynamic_batching { max_queue_delay_microseconds: 300000 }\n"
        + parameter("max_retries", "0") + parameter("batch_sizes", "")
    )  # fmt: skip
    slow_model.load()
    rows = [np.array([[i, i + 1]]) for i in range(4)]
    poison = np.array([[-1, 0]])

    def send(row):
        try:
            return slow_model.send(row)["OUTPUT_0"]
        except InferenceServerException as error:
            return str(error)

    with ThreadPoolExecutor(8) as pool:
        first, failure, *others = pool.map(send, [rows[0], poison, *rows[1:]])
    assert "OneFlow's process died once on this request: an id or index is outside the" in failure
    assert "-1 is negative (operator gather, as used by an embedding)" in failure
    assert "Check failed" not in failure
    assert "Check failed: indices[i] >= 0 (-1 vs. 0)" in slow_model.log()
    with flow.no_grad():
        expected = [slow_version[0](flow.tensor(row)).numpy() for row in rows]
    results = [first, *others, send(rows[0])]
    for found, right in zip(results, [*expected, expected[0]], strict=True):
        assert np.allclose(found, right, rtol=1e-5)


class Slower(nn.Module):
    """Takes some tenths of a second a row."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(flow.rand(1200, 1200) / 600)

    def forward(self, x):
        w = self.w
        for _ in range(6):
            w = flow.matmul(w, self.w)
        return flow.matmul(w, x.reshape(-1, 1200, 1)).reshape(-1, 1200)


@pytest.fixture(scope="module")
def slower_version(tmp_path_factory, save_graph):
    version = tmp_path_factory.mktemp("slower") / "1"
    save_graph(Slower(), [np.zeros((1, 1200), np.float32)], version)
    return version


def test_no_request_waits_for_those_that_come_behind_it(empty_model, slower_version):
    (empty_model.folder / "1").symlink_to(slower_version)
    empty_model.write_config(
        'backend: "oneflow"\nmax_batch_size: 8\n'
        "dynamic_batching { max_queue_delay_microseconds: 200000 }\n" + parameter("batch_sizes", "")
    )
    empty_model.load()
    x = np.random.default_rng(0).random((8, 1200), np.float32)

    def send(rows):
        began = time.monotonic()
        return empty_model.send(rows)["OUTPUT_0"], time.monotonic() - began

    alone, _ = send(x[:1])
    together, seconds = send(x)
    assert np.array_equal(together[:1], alone)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(send, [x[i : i + 1] for i in range(4)]))
    for found, expected in zip(results, together, strict=False):
        assert np.array_equal(found[0][0], expected)
    took = [took for _, took in results]
    assert max(took) - min(took) > 1.5 * seconds / 8


@pytest.fixture
def own_server(own_repository):
    with TritonServer(own_repository, model_control=True) as server:
        yield server


def processes(server):
    return [psutil.Process(pid) for pid in supervisor.processes_of(server.run_dir)]


@pytest.mark.long
def test_loading_again_and_again_grows_nothing(own_server, wait_until):
    (triton,) = [process for process in processes(own_server) if process.name() == "tritonserver"]

    def state():
        segments = len(list(Path("/dev/shm").glob(f"{own_server.run_dir.name}*")))
        return np.array([len(processes(own_server)), segments, triton.num_fds()])

    with httpclient.InferenceServerClient(own_server.url, network_timeout=SECONDS) as client:
        client.load_model("tiny")

        def reload():
            time.sleep(0.1)  # unloaded at once, it may crash Triton (docs/architecture.md)
            client.unload_model("tiny")
            client.load_model("tiny")

        reload()
        before, memory = state(), triton.memory_info().rss
        for _ in range(25):
            reload()
        # Processes, segments and descriptors are counted: one that stays shows at the first time.
        wait_until(lambda: (state() <= before).all())
        assert triton.memory_info().rss < memory + 20 * 2**20


def test_a_worker_does_not_outlive_its_stub(own_server):
    with httpclient.InferenceServerClient(own_server.url, network_timeout=SECONDS) as client:
        client.load_model("tiny")
    (stub,) = [process for process in processes(own_server) if "stub" in process.name()]
    (worker,) = stub.children()
    worker.suspend()  # not even a stopped one
    stub.kill()
    worker.wait(SECONDS)
