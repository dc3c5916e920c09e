"""Requests that are made to end Triton, among good ones of four clients.

``docs/security.md`` lists them. Those that Triton survives must cost no good request; the one that
ends it, only the requests of the moment in which Triton starts again.
"""

import itertools
import json
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc as grpc
import tritonclient.http as http
from test_restarts import FORM, HUGE, JSON, MB, post, post_chunks
from tritonclient.utils import InferenceServerException

from serving_kit.server import TritonServer

pytestmark = pytest.mark.long

CLIENTS, GOOD = 4, 100
#: Else a channel waits for one second before it connects again, then for up to two minutes.
RECONNECT_AT_ONCE = [
    (f"grpc.{which}_reconnect_backoff_ms", 100) for which in ("initial", "min", "max")
]
INFER = "/v2/models/tiny/infer"
NESTED = b'{"inputs":[{"name":"X","shape":[1],"datatype":"FP32","data":%b1%b}]}'
HARMLESS = {
    "nested lists": lambda server: post(
        server, INFER, JSON, NESTED % (b"[" * 37_500, b"]" * 37_500)
    ),
    "open lists": lambda server: post(server, "/v2/logging", JSON, b"[" * 110_000),
    "a form": lambda server: post(server, "/v2/health/ready", FORM, b"a" * int(4.2 * MB)),
    "chunks": lambda server: post_chunks(server, 530_000),
}
#: How many of each; 1,000 in chunks take two minutes.
COUNTS = {"nested lists": 1000, "open lists": 1000, "a form": 1000, "chunks": 100}
#: Of the one that ends Triton: so many at once, again and again. Five ends within a minute are
#: final, and no burst may end it twice.
BURST, BURSTS, SECONDS_BETWEEN = 250, 4, 16


class Clients:
    """Clients that send good requests to the tiny graph all the time, and do not try again."""

    def __init__(self, server, tiny, apis=(grpc, http)):
        self._server, self._tiny, self._apis = server, tiny, apis
        self._over = threading.Event()
        #: When each request failed, and how many got a good response.
        self.failures, self.good = [], 0
        self._lock = threading.Lock()

    def take_failures(self):
        """Return the failures so far, and forget them."""
        with self._lock:
            taken, self.failures = self.failures, []
        return taken

    def __enter__(self):
        self._pool = ThreadPoolExecutor(CLIENTS)
        self._futures = [self._pool.submit(self._send_all, seed) for seed in range(CLIENTS)]
        return self

    def __exit__(self, *exception):
        self._over.set()
        self._pool.shutdown()
        for future in self._futures:
            future.result()

    def _send_all(self, seed):
        api = self._apis[seed % len(self._apis)]
        url = self._server.url if api is http else self._server.grpc_url
        random = np.random.default_rng(seed)
        settings = {"channel_args": RECONNECT_AT_ONCE} if api is grpc else {}
        with api.InferenceServerClient(url, **settings) as client:
            while not self._over.is_set():
                x = random.standard_normal(self._tiny.EXAMPLE.shape).astype(np.float32)
                tensor = api.InferInput("INPUT_0", x.shape, "FP32").set_data_from_numpy(x)
                try:
                    found = client.infer("tiny", [tensor]).as_numpy("OUTPUT_0")
                except (InferenceServerException, OSError):
                    with self._lock:
                        self.failures.append(time.monotonic())
                    time.sleep(0.05)
                    continue
                assert np.allclose(found, self._tiny.expected(x), atol=1e-6)
                with self._lock:
                    self.good += 1


def sent_among_good_ones(count, clients):
    """Count to ``count``, and on until there were good responses enough meanwhile."""
    for number in itertools.count():
        if number >= count and clients.good >= GOOD:
            return
        yield number


@pytest.fixture
def repository(tmp_path, tiny, tiny_version):
    shutil.copytree(tiny_version, tmp_path / "tiny" / "1")
    (tmp_path / "tiny" / "config.pbtxt").write_text(tiny.CONFIG)
    return tmp_path


@pytest.mark.parametrize("kind", HARMLESS)
def test_what_triton_survives_costs_no_request(is_clean, repository, tiny, kind):
    with TritonServer(repository) as server, Clients(server, tiny) as clients:
        for _ in sent_among_good_ones(COUNTS[kind], clients):
            assert HARMLESS[kind](server).startswith("HTTP/1.1 ")
        assert server.is_ready() and not server.restarts()
    assert not clients.failures


def test_a_huge_shape_costs_no_request_where_json_is_refused(is_clean, repository, tiny):
    body = json.dumps(HUGE).encode()
    with TritonServer(repository, json=False) as server, Clients(server, tiny, [grpc]) as clients:
        for _ in sent_among_good_ones(1000, clients):
            assert post(server, INFER, JSON, body) == "HTTP/1.1 403 Forbidden"
        assert server.is_ready() and not server.restarts()
    assert not clients.failures


def test_a_huge_shape_costs_what_a_start_takes(is_clean, repository, tiny, wait_until):
    body = json.dumps(HUGE).encode()
    with TritonServer(repository) as server, Clients(server, tiny) as clients:
        for burst in range(BURSTS):
            began = time.monotonic()
            for _ in range(BURST):
                assert post(server, INFER, JSON, body) == ""
            wait_until(lambda n=burst + 1: server.log().count("Triton responds again") == n)
            back = time.monotonic()
            good = clients.good
            wait_until(lambda n=good: clients.good > n + 2 * CLIENTS)
            # Neither before nor after: within the start, and the last request under way with it.
            assert all(began <= failure <= back + 1 for failure in clients.take_failures())
            time.sleep(max(0, began + SECONDS_BETWEEN - time.monotonic()))
        assert server.is_ready() and len(server.restarts()) == BURSTS
    assert not clients.failures
