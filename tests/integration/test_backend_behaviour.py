"""What the backend promises beyond right answers, each in a real Triton."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import oneflow as flow
import psutil
import pytest
import tritonclient.http as httpclient
from oneflow import nn
from tritonclient.utils import InferenceServerException

from oneflow_backend.saved_graph import SavedGraph
from serving_kit.client.inference import infer
from serving_kit.errors import ServerError
from serving_kit.export.version import export_version
from serving_kit.server import supervisor
from serving_kit.server.triton import TritonServer
from serving_kit.stylenet.network import load_stylenet

SECONDS = 60
#: What the backend logs when it does without a plan that it was to have.
NO_PLAN = "batches run row by row where no plan was proven"


def random_image(seed, size=64):
    return np.random.default_rng(seed).uniform(0, 255, (1, 3, size, size)).astype(np.float32)


def http_client(server):
    return httpclient.InferenceServerClient(server.url, network_timeout=SECONDS)


def parameter(key, value):
    return f'parameters {{ key: "{key}" value: {{ string_value: "{value}" }} }}\n'


@pytest.fixture(scope="module")
def small_graph(small_version):
    """What ``small_model`` must answer: its graph, in this process."""
    with SavedGraph(small_version / "model") as graph:
        yield graph


@pytest.mark.parametrize(
    ("text", "dims"),
    [
        ('backend: "oneflow"', [1, 3, 64, 64]),
        ('backend: "oneflow"\nmax_batch_size: 4', [3, 64, 64]),
        ('backend: "oneflow"\nmax_batch_size: 1\ninput [ { name: "INPUT_0"\n'
         "  data_type: TYPE_FP32\n  dims: [ 3, 64, 64 ] } ]", [3, 64, 64]),
    ],
)  # fmt: skip
def test_what_config_pbtxt_leaves_out_is_read_from_the_graph(small_model, small_graph, text, dims):
    small_model.write_config(text)
    small_model.load()
    with small_model.client() as client:
        config = client.get_model_config(small_model.name)
    answer = small_model.infer(random_image(0))
    for kind, name in (("input", "INPUT_0"), ("output", "OUTPUT_0")):
        (entry,) = config[kind]
        assert (entry["name"], entry["data_type"], entry["dims"]) == (name, "TYPE_FP32", dims)
    assert np.array_equal(answer, small_graph(random_image(0))[0])


def test_without_auto_completion_the_checks_are_the_same(small_repository):
    config = small_repository / "small" / "config.pbtxt"
    config.write_text(config.read_text().replace("3, 64, 64", "3, 64, 65"))
    server = TritonServer(small_repository, options=["--disable-auto-complete-config"])
    with pytest.raises(ServerError, match=r"INPUT_0 has dims \[3, 64, 65\], but the graph has"):
        server.start()


def test_requests_are_joined_and_every_one_gets_its_own_answer(
    small_model, small_graph, wait_until
):
    small_model.write_config(
        'backend: "oneflow"\nmax_batch_size: 4\n'
        "dynamic_batching { max_queue_delay_microseconds: 200000 }\n" + parameter("batch_sizes", 4)
    )
    small_model.load()
    images = [random_image(seed) for seed in range(12)]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(small_model.infer, images))
    assert NO_PLAN not in small_model.log()
    with small_model.client() as client:

        def counted(what):
            return client.get_inference_statistics(small_model.name)["model_stats"][0][what]

        wait_until(lambda: counted("inference_count") == 12)  # a moment after the last answer
        assert counted("execution_count") < 12
    for image, answer in zip(images, answers, strict=True):
        (expected,) = small_graph(image)
        assert np.abs(answer - expected).max() <= 1e-5 * np.abs(expected).max()


class SoftmaxOverTheBatch(nn.Module):
    """What cannot be batched: its batched graph has the right shapes, and wrong values."""

    def __init__(self):
        super().__init__()
        self.stylenet = load_stylenet()

    def forward(self, x):
        return self.stylenet(x) * flow.softmax(x, dim=0)


def test_a_graph_that_mixes_its_rows_is_run_row_by_row(empty_model):
    version = empty_model.folder / "1"
    export_version(SoftmaxOverTheBatch(), [random_image(0)], version)
    empty_model.write_config(
        'backend: "oneflow"\nmax_batch_size: 4\n' + parameter("batch_sizes", "2")
    )
    empty_model.load()
    rows = np.concatenate([random_image(seed) for seed in range(3)])
    together = empty_model.infer(rows)
    assert empty_model.log().count(f"{NO_PLAN}: OUTPUT_0 of 2 rows") == 1
    with SavedGraph(version / "model") as graph:
        alone = [graph(rows[i : i + 1])[0] for i in range(3)]
    assert np.array_equal(together, np.concatenate(alone))


def test_values_that_are_not_finite(small_model):
    image = random_image(0)
    image[0, 0, 0, 0] = np.nan
    small_model.load()
    assert np.isnan(small_model.infer(image)).any()
    small_model.write_config('backend: "oneflow"\n' + parameter("reject_non_finite", "true"))
    small_model.load()
    for value in (np.nan, np.inf):
        image[0, 0, 0, 0] = value
        tensor = httpclient.InferInput("INPUT_0", image.shape, "FP32")
        tensor.set_data_from_numpy(image)
        with small_model.client() as client, pytest.raises(InferenceServerException) as caught:
            client.infer(small_model.name, [tensor])
        assert caught.value.status() == "400"
        assert "INPUT_0 has NaN or infinite values, which this model refuses" in str(caught.value)
    assert np.isfinite(small_model.infer(random_image(0))).all()


def test_two_instances_run_in_two_processes_at_a_time(small_model):
    small_model.write_config('backend: "oneflow"\ninstance_group [ { count: 2, kind: KIND_CPU } ]')
    small_model.load()
    both = small_model.workers()
    assert len(both) == 2
    before = [sum(process.cpu_times()[:2]) for process in both]
    images = [random_image(seed) for seed in range(8)] * 5
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(small_model.infer, images))
    after = [sum(process.cpu_times()[:2]) for process in both]
    spent = np.subtract(after, before)
    assert spent.min() > 0.2 * spent.max()


def test_versions_of_a_model_are_served_side_by_side(small_model):
    export_version(load_stylenet("red_ember"), [random_image(0)], small_model.folder / "2")
    small_model.write_config('backend: "oneflow"\nversion_policy: { all { } }')
    small_model.load()
    tensor = httpclient.InferInput("INPUT_0", [1, 3, 64, 64], "FP32")
    tensor.set_data_from_numpy(random_image(0))
    for version in ("1", "2"):
        with small_model.client() as client:
            answer = client.infer(small_model.name, [tensor], model_version=version)
        with SavedGraph(small_model.folder / version / "model") as graph:
            assert np.array_equal(answer.as_numpy("OUTPUT_0"), graph(random_image(0))[0])


def test_loading_again_and_again_grows_nothing(small_repository, soak, wait_until):
    # A server of its own: the connections of others would be counted with its descriptors.
    with (
        TritonServer(small_repository, model_control=True) as server,
        http_client(server) as client,
    ):
        (triton,) = [
            process
            for process in map(psutil.Process, supervisor.processes_of(server.run_dir))
            if process.name() == "tritonserver"
        ]

        def state():
            processes = len(supervisor.processes_of(server.run_dir))
            segments = len(list(Path("/dev/shm").glob(f"{server.run_dir.name}*")))
            return np.array([processes, segments, triton.num_fds()])

        def reload(times):
            for _ in range(times):
                client.unload_model("small")
                client.load_model("small")
            infer(random_image(0), model="small", url=server.url)

        reload(2)
        before, memory = state(), triton.memory_info().rss
        # Processes, segments and descriptors are counted: one that stays shows at the first time.
        reload(100 if soak else 2)
        # Triton closes the last request's connection a moment after its client has.
        wait_until(lambda: (state() <= before).all())
        assert triton.memory_info().rss < memory + 20 * 2**20


def test_a_worker_does_not_outlive_its_stub(small_repository):
    with TritonServer(small_repository) as server:
        processes = map(psutil.Process, supervisor.processes_of(server.run_dir))
        (stub,) = [process for process in processes if "stub" in process.name()]
        (worker,) = stub.children()
        worker.suspend()  # not even a stopped one
        stub.kill()
        worker.wait(SECONDS)


class Poisonable(nn.Module):
    """Looks up rows of a table; OneFlow aborts its process over a negative index."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 512)
        self.slow = nn.Parameter(flow.rand(768, 768))

    def forward(self, x):
        # The product takes time, so that OneFlow 0.9.0's trouble with short graphs stays out.
        return self.table(x).sum(dim=1) + (self.slow @ self.slow)[:1, :512]


def test_a_poisonous_request_ends_as_its_own_error_and_harms_no_other(empty_model):
    module = Poisonable().eval()
    export_version(module, [np.array([[1, 2]])], empty_model.folder / "1")
    empty_model.write_config(
        'backend: "oneflow"\nmax_batch_size: 8\n'
        "dynamic_batching { max_queue_delay_microseconds: 300000 }\n"
        + parameter("max_retries", "1") + parameter("batch_sizes", "")
    )  # fmt: skip
    empty_model.load()
    rows = [np.array([[i, i + 1]]) for i in range(6)]
    poison = np.array([[-1, 0]])

    def ask(row):
        with empty_model.client() as client:
            tensor = httpclient.InferInput("INPUT_0", row.shape, "INT64")
            tensor.set_data_from_numpy(row)
            return client.infer(empty_model.name, [tensor]).as_numpy("OUTPUT_0")

    def ask_or_fail(row):
        try:
            return ask(row)
        except InferenceServerException as error:
            return error

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask_or_fail, [rows[0], poison, *rows[1:]]))
    failure = answers.pop(1)
    again = ask(rows[0])
    assert "OneFlow's process died 2 times over this request: was ended by signal 6" in str(failure)
    assert "Check failed" in str(failure)
    assert "OneFlow's process was ended by signal 6" in empty_model.log()
    with flow.no_grad():
        expected = [module(flow.tensor(row)).numpy() for row in rows]
    for found, right in zip([*answers, again], [*expected, expected[0]], strict=True):
        assert np.allclose(found, right, rtol=1e-5)
