"""perf_analyzer runs out of the wheels, against a real Triton, and says why when it cannot."""

import numpy as np
import pytest

from serving_kit.client import perf_analyzer
from serving_kit.client.perf_analyzer import analyze
from serving_kit.errors import ClientError

PICTURE = np.full((3, 64, 64), 100, np.float32)
OPTIONS = ("--concurrency-range=1:2", "--measurement-mode=count_windows")


def test_it_measures_each_number_of_requests_at_once(small_model):
    small_model.load()
    one, two = analyze(
        small_model.name, PICTURE, small_model.server.grpc_url, *OPTIONS,
        "--measurement-request-count=2",
    )  # fmt: skip
    assert (one.concurrency, two.concurrency) == (1, 2)
    for load in (one, two):
        assert load.rate > 0
        assert 0 < load.p50 <= load.p95
    with small_model.client() as client:
        (statistics,) = client.get_inference_statistics(small_model.name)["model_stats"]
    assert statistics["inference_count"] >= 2 * 3 * 2


def test_what_it_cannot_do_is_told(loading_server):
    with pytest.raises(ClientError, match=r"^perf_analyzer: .*'nobody' is not found"):
        analyze("nobody", PICTURE, loading_server.grpc_url)


def test_a_wheel_without_its_libraries_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(perf_analyzer, "WHEEL", tmp_path)
    with pytest.raises(ClientError, match=r"needs libb64\.so\.0d, and nvidia-pytriton has no"):
        analyze("any", PICTURE, "127.0.0.1:1")
