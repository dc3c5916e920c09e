"""perf_analyzer runs out of the wheels, against a real Triton, and says why when it cannot."""

from pathlib import Path

import numpy as np
import pytest

from serving_kit.client import perf_analyzer
from serving_kit.client.perf_analyzer import analyze
from serving_kit.errors import ClientError

ROW = np.full(4, 100, np.float32)
#: Windows of so many requests, not of a time in which a busy machine may get none done.
OPTIONS = (
    "--concurrency-range=1:2", "--measurement-mode=count_windows", "--measurement-request-count=2",
)  # fmt: skip
#: It takes its time, on a busy machine, too: perf_analyzer drops what differs tenfold.
MODEL = """
import time
import triton_python_backend_utils as pb

class TritonPythonModel:
    def execute(self, requests):
        time.sleep(0.02)
        rows = [pb.get_input_tensor_by_name(request, "INPUT_0").as_numpy() for request in requests]
        return [pb.InferenceResponse([pb.Tensor("OUTPUT_0", each)]) for each in rows]
"""
CONFIG = """
backend: "python"
max_batch_size: 8
input { name: "INPUT_0" data_type: TYPE_FP32 dims: 4 }
output { name: "OUTPUT_0" data_type: TYPE_FP32 dims: 4 }
"""


SHARED = "--shared-memory=system"


def test_it_measures_each_number_of_requests_at_once(empty_model):
    (empty_model.folder / "1").mkdir()
    (empty_model.folder / "1" / "model.py").write_text(MODEL)
    empty_model.write_config(CONFIG)
    empty_model.load()
    one, two = analyze(empty_model.name, ROW, empty_model.server.grpc_url, *OPTIONS)
    assert (one.concurrency, two.concurrency) == (1, 2)
    for load in (one, two):
        assert load.rate > 0
        assert 0 < load.p50 <= load.p95
    with empty_model.client() as client:
        (statistics,) = client.get_inference_statistics(empty_model.name)["model_stats"]
    assert statistics["inference_count"] >= 2 * 3 * 2


def test_what_it_cannot_do_is_told(loading_server):
    with pytest.raises(ClientError, match=r"^perf_analyzer: .*'nobody' is not found"):
        analyze("nobody", ROW, loading_server.grpc_url)


@pytest.mark.long
def test_shared_memory_that_is_closed_is_told(loading_server, make_tiny_model):
    """Before perf_analyzer makes any: it would leave one with the name of the output behind."""
    model = make_tiny_model()
    model.load()
    segment = Path("/dev/shm/OUTPUT_0")
    was_there = segment.exists()
    with pytest.raises(ClientError, match="does not let clients register shared memory; start"):
        analyze(model.name, np.float32([1, 2, 3]), loading_server.grpc_url, SHARED)
    assert segment.exists() == was_there


def test_a_wheel_without_its_libraries_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(perf_analyzer, "WHEEL", tmp_path)
    with pytest.raises(ClientError, match=r"needs libb64\.so\.0d, and nvidia-pytriton has no"):
        analyze("any", ROW, "127.0.0.1:1")
