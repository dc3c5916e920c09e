"""What the backend promises beyond right answers, each in a real Triton."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import oneflow as flow
import psutil
import pytest
import tritonclient.http as httpclient
from oneflow import nn
from tritonclient.utils import InferenceServerException

from serving_kit import supervisor
from serving_kit.client import infer
from serving_kit.errors import ServerError
from serving_kit.export import export_version
from serving_kit.saved_graph import SavedGraph
from serving_kit.server import TritonServer
from serving_kit.stylenet import load_stylenet

RELOADS = 5


def random_image(seed, size=64):
    return np.random.default_rng(seed).uniform(0, 255, (1, 3, size, size)).astype(np.float32)


def workers(server):
    """The processes of the backend in which OneFlow runs."""
    processes = [psutil.Process(pid) for pid in supervisor.processes_of(server._run_dir)]
    return [process for process in processes if "worker.py" in " ".join(process.cmdline())]


def write_config(repository, text, model="small"):
    (repository / model / "config.pbtxt").write_text(text)


def parameter(key, value):
    return f'parameters {{ key: "{key}" value: {{ string_value: "{value}" }} }}\n'


def http_client(server):
    return httpclient.InferenceServerClient(server.url)


@pytest.mark.parametrize(
    ("text", "dims"),
    [
        ('backend: "oneflow"', [1, 3, 64, 64]),
        ('backend: "oneflow"\nmax_batch_size: 4', [3, 64, 64]),
        ('backend: "oneflow"\nmax_batch_size: 1\ninput [ { name: "INPUT_0"\n'
         "  data_type: TYPE_FP32\n  dims: [ 3, 64, 64 ] } ]", [3, 64, 64]),
    ],
)  # fmt: skip
def test_what_config_pbtxt_leaves_out_is_read_from_the_graph(small_repository, text, dims):
    write_config(small_repository, text)
    with TritonServer(small_repository) as server:
        with http_client(server) as client:
            config = client.get_model_config("small")
        answer = infer(random_image(0), model="small", url=server.url)
    for kind, name in (("input", "INPUT_0"), ("output", "OUTPUT_0")):
        (entry,) = config[kind]
        assert (entry["name"], entry["data_type"], entry["dims"]) == (name, "TYPE_FP32", dims)
    with SavedGraph(small_repository / "small" / "1" / "model") as graph:
        assert np.array_equal(answer, graph(random_image(0))[0])


def test_without_auto_completion_the_checks_are_the_same(small_repository):
    config = small_repository / "small" / "config.pbtxt"
    config.write_text(config.read_text().replace("3, 64, 64", "3, 64, 65"))
    server = TritonServer(small_repository, options=["--disable-auto-complete-config"])
    with pytest.raises(ServerError, match=r"INPUT_0 has dims \[3, 64, 65\], but the graph has"):
        server.start()


def test_a_mistyped_parameter_is_told_at_load(small_repository):
    write_config(small_repository, 'backend: "oneflow"\n' + parameter("max_retrys", "2"))
    with pytest.raises(ServerError, match="parameter max_retrys is unknown; the backend has: max"):
        TritonServer(small_repository).start()


def test_requests_are_joined_and_every_one_gets_its_own_answer(small_repository):
    write_config(
        small_repository,
        'backend: "oneflow"\nmax_batch_size: 4\n'
        "dynamic_batching { max_queue_delay_microseconds: 200000 }\n" + parameter("batch_sizes", 4),
    )
    images = [random_image(seed) for seed in range(12)]
    with TritonServer(small_repository) as server:
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(lambda x: infer(x, model="small", url=server.url), images))
        with http_client(server) as client:
            (statistics,) = client.get_inference_statistics("small")["model_stats"]
        assert "batches run row by row" not in server.log()
    assert statistics["inference_count"] == 12
    assert statistics["execution_count"] < 12
    with SavedGraph(small_repository / "small" / "1" / "model") as graph:
        for image, answer in zip(images, answers, strict=True):
            (expected,) = graph(image)
            assert np.abs(answer - expected).max() <= 1e-5 * np.abs(expected).max()


class SoftmaxOverTheBatch(nn.Module):
    """What cannot be batched: its batched graph has the right shapes, and wrong values."""

    def __init__(self):
        super().__init__()
        self.stylenet = load_stylenet()

    def forward(self, x):
        return self.stylenet(x) * flow.softmax(x, dim=0)


def test_a_graph_that_mixes_its_rows_is_run_row_by_row(small_repository):
    model = small_repository / "small"
    shutil.rmtree(model / "1")
    export_version(SoftmaxOverTheBatch(), [random_image(0)], model / "1")
    write_config(
        small_repository,
        'backend: "oneflow"\nmax_batch_size: 4\n' + parameter("batch_sizes", "2"),
    )
    rows = np.concatenate([random_image(seed) for seed in range(3)])
    with TritonServer(small_repository) as server:
        together = infer(rows, model="small", url=server.url)
        log = server.log()
    assert log.count("batches run row by row where no plan was proven: OUTPUT_0 of 2 rows") == 1
    with SavedGraph(model / "1" / "model") as graph:
        alone = [graph(rows[i : i + 1])[0] for i in range(3)]
    assert np.array_equal(together, np.concatenate(alone))


def test_values_that_are_not_finite(small_repository):
    image = random_image(0)
    image[0, 0, 0, 0] = np.nan
    with TritonServer(small_repository) as server:
        assert np.isnan(infer(image, model="small", url=server.url)).any()
    write_config(small_repository, 'backend: "oneflow"\n' + parameter("reject_non_finite", "true"))
    with TritonServer(small_repository) as server, http_client(server) as client:
        for value in (np.nan, np.inf):
            image[0, 0, 0, 0] = value
            tensor = httpclient.InferInput("INPUT_0", image.shape, "FP32")
            tensor.set_data_from_numpy(image)
            with pytest.raises(InferenceServerException) as caught:
                client.infer("small", [tensor])
            assert caught.value.status() == "400"
            assert "INPUT_0 has NaN or infinite values, which this model refuses" in str(
                caught.value
            )
        assert np.isfinite(infer(random_image(0), model="small", url=server.url)).all()


def test_two_instances_run_in_two_processes_at_a_time(small_repository):
    write_config(
        small_repository, 'backend: "oneflow"\ninstance_group [ { count: 2, kind: KIND_CPU } ]'
    )
    with TritonServer(small_repository) as server:
        both = workers(server)
        assert len(both) == 2
        before = [sum(process.cpu_times()[:2]) for process in both]
        images = [random_image(seed) for seed in range(8)] * 5
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda x: infer(x, model="small", url=server.url), images))
        after = [sum(process.cpu_times()[:2]) for process in both]
    spent = np.subtract(after, before)
    assert spent.min() > 0.2 * spent.max()


def test_versions_of_a_model_are_served_side_by_side(small_repository):
    model = small_repository / "small"
    export_version(load_stylenet("red_ember"), [random_image(0)], model / "2")
    write_config(small_repository, 'backend: "oneflow"\nversion_policy: { all { } }')
    tensor = httpclient.InferInput("INPUT_0", [1, 3, 64, 64], "FP32")
    tensor.set_data_from_numpy(random_image(0))
    with TritonServer(small_repository) as server, http_client(server) as client:
        answers = [
            client.infer("small", [tensor], model_version=version).as_numpy("OUTPUT_0")
            for version in ("1", "2")
        ]
    for version, answer in zip(("1", "2"), answers, strict=True):
        with SavedGraph(model / version / "model") as graph:
            assert np.array_equal(answer, graph(random_image(0))[0])


def test_loading_again_and_again_grows_nothing(small_repository):
    options = ["--model-control-mode=explicit", "--load-model=small"]
    with TritonServer(small_repository, options=options) as server, http_client(server) as client:
        (triton,) = [
            process
            for process in map(psutil.Process, supervisor.processes_of(server._run_dir))
            if process.name() == "tritonserver"
        ]

        def state():
            processes = len(supervisor.processes_of(server._run_dir))
            segments = len(list(Path("/dev/shm").glob(f"{server._run_dir.name}*")))
            return processes, segments, triton.num_fds()

        def reload(times):
            for _ in range(times):
                client.unload_model("small")
                client.load_model("small")
            infer(random_image(0), model="small", url=server.url)

        reload(2)
        before, memory = state(), triton.memory_info().rss
        reload(RELOADS)
        assert state() == before
        assert triton.memory_info().rss < memory + 20 * 2**20


def test_a_worker_does_not_outlive_its_stub(small_repository):
    with TritonServer(small_repository) as server:
        (worker,) = workers(server)
        stub = worker.parent()
        assert "triton_python_backend_stub" in stub.name() or "stub" in " ".join(stub.cmdline())
        worker.suspend()  # not even a stopped one
        stub.kill()
        worker.wait(30)


class Poisonable(nn.Module):
    """Looks up rows of a table; OneFlow aborts its process over a negative index."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 512)
        self.slow = nn.Parameter(flow.rand(768, 768))

    def forward(self, x):
        # The product takes time, so that OneFlow 0.9.0's trouble with short graphs stays out.
        return self.table(x).sum(dim=1) + (self.slow @ self.slow)[:1, :512]


@pytest.fixture
def poisonable(tmp_path):
    repository = tmp_path / "models"
    version = repository / "table" / "1"
    module = Poisonable().eval()
    export_version(module, [np.array([[1, 2]])], version)
    write_config(
        repository,
        'backend: "oneflow"\nmax_batch_size: 8\n'
        "dynamic_batching { max_queue_delay_microseconds: 300000 }\n"
        + parameter("max_retries", "1") + parameter("batch_sizes", ""),
        "table",
    )  # fmt: skip

    def expected(row):
        with flow.no_grad():
            return module(flow.tensor(row)).numpy()

    return repository, expected


def test_a_poisonous_request_ends_as_its_own_error_and_harms_no_other(poisonable):
    repository, expected = poisonable
    rows = [np.array([[i, i + 1]]) for i in range(6)]
    poison = np.array([[-1, 0]])

    def ask(row):
        with http_client(server) as client:
            tensor = httpclient.InferInput("INPUT_0", row.shape, "INT64")
            tensor.set_data_from_numpy(row)
            return client.infer("table", [tensor]).as_numpy("OUTPUT_0")

    def ask_or_fail(row):
        try:
            return ask(row)
        except InferenceServerException as error:
            return error

    with TritonServer(repository) as server, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask_or_fail, [rows[0], poison, *rows[1:]]))
        failure = answers.pop(1)
        again = ask(rows[0])
        log = server.log()
    assert "OneFlow's process died 2 times over this request: was ended by signal 6" in str(failure)
    assert "Check failed" in str(failure)
    assert "OneFlow's process was ended by signal 6" in log
    for row, answer in zip(rows, answers, strict=True):
        assert np.allclose(answer, expected(row), rtol=1e-5)
    assert np.allclose(again, expected(rows[0]), rtol=1e-5)
