"""A new version comes, goes back, and a broken one is refused, while clients never stop asking."""

import contextlib
import re
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from tritonclient.utils import InferenceServerException

SECONDS = 120
#: Between an answer and the next request: what is loaded needs the processor, too.
PAUSE = 0.01


#: What version 2 multiplies with, in place of ``Tiny.W``.
OTHER = np.float32([4, 1, -0.5])


@pytest.fixture(scope="module")
def other_version(tmp_path_factory, tiny, save_graph):
    version = tmp_path_factory.mktemp("other") / "2"
    save_graph(tiny.module(OTHER), [tiny.EXAMPLE], version)
    return version


@pytest.fixture
def model(empty_model, tiny_version, other_version):
    """A model with versions 1 and 2, and a third whose last weights were not copied."""
    for number, source in (("1", tiny_version), ("2", other_version), ("3", other_version)):
        shutil.copytree(source, empty_model.folder / number)
    weights = max((empty_model.folder / "3").rglob("out"), key=lambda file: file.stat().st_size)
    with weights.open("r+b") as file:
        file.truncate(weights.stat().st_size // 2)
    return empty_model


def configure(model, policy, retries):
    model.write_config(
        f'backend: "oneflow"\nmax_batch_size: 1\nversion_policy {{ {policy} }}\n'
        f'parameters {{ key: "max_retries" value: {{ string_value: "{retries}" }} }}\n'
    )


def load(model, policy, retries=1):
    """Order it over gRPC: an order over HTTP keeps HTTP clients waiting until it is done."""
    configure(model, policy, retries)
    with contextlib.closing(grpcclient.InferenceServerClient(model.server.grpc_url)) as client:
        client.load_model(model.name, client_timeout=SECONDS)


class Clients:
    """Clients that go on asking, and compare each answer with its version's own.

    Args:
        model: the model that they ask.
        numbers: what they send.
        own: the answer of each version.
        wanted: for each client, what it speaks and the version that it names; ``""`` for any.
    """

    def __init__(self, model, numbers, own, wanted):
        self.failures = []
        self._answered = [[] for _ in wanted]
        self._model, self._numbers, self._own = model, numbers, own
        self._end = threading.Event()
        self._pool = ThreadPoolExecutor(len(wanted))
        self._clients = [self._pool.submit(self._ask, *w, i) for i, w in enumerate(wanted)]

    def _ask(self, speaks, version, i):
        server = self._model.server
        url = server.url if speaks is httpclient else server.grpc_url
        tensor = speaks.InferInput("INPUT_0", self._numbers.shape, "FP32")
        tensor.set_data_from_numpy(self._numbers)
        with contextlib.closing(speaks.InferenceServerClient(url)) as client:
            while not self._end.is_set():
                try:
                    result = client.infer(self._model.name, [tensor], model_version=version)
                except Exception as error:  # of gevent, grpc or tritonclient: each is a failure
                    self.failures.append(f"client {i}: {error}")
                    self._end.wait(0.1)
                    continue
                response = result.get_response()
                by = response["model_version"] if speaks is httpclient else response.model_version
                if not np.allclose(result.as_numpy("OUTPUT_0"), self._own[by], atol=1e-5):
                    self.failures.append(f"client {i}: not the answer of version {by}")
                self._answered[i].append(by)
                self._end.wait(PAUSE)

    def next_answers(self):
        """Wait for two more answers to each client; return who gave the second, client by client.

        The first may be to a request that was sent before.
        """
        seen = [len(answered) for answered in self._answered]
        deadline = time.monotonic() + SECONDS
        while any(len(a) < n + 2 for a, n in zip(self._answered, seen, strict=True)):
            assert not self.failures
            assert time.monotonic() < deadline, "a client gets no answers"
            time.sleep(0.01)
        return [answered[n + 1] for answered, n in zip(self._answered, seen, strict=True)]

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._end.set()
        self._pool.shutdown()
        for client in self._clients:
            client.result()


def status(model, version):
    path = f"/v2/models/{model.name}/versions/{version}/ready"
    try:
        with urlopen(f"http://{model.server.url}{path}") as answer:
            return answer.status
    except HTTPError as error:
        return error.code


@pytest.mark.long
def test_no_request_fails_while_versions_come_and_go(model, tiny, wait_until):
    numbers = tiny.EXAMPLE
    own = {"1": tiny.expected(numbers), "2": tiny.expected(numbers, OTHER)}
    assert not np.allclose(own["1"], own["2"], atol=0.01)
    load(model, "specific { versions: [ 1 ] }")
    wanted = [(httpclient, ""), (grpcclient, ""), (httpclient, "1"), (grpcclient, "1")]
    with Clients(model, numbers, own, wanted) as clients:
        assert clients.next_answers() == ["1", "1", "1", "1"]
        assert (status(model, 1), status(model, 2)) == (200, 400)
        for retries in range(1, 12, 2):
            come_and_go(model, clients, retries, wait_until)
        check_metrics(model)
    assert clients.failures == []
    model.unload()
    wait_until(lambda: not model.workers())
    # The alert ModelGone of deploy/monitoring/ looks for a series that is not there any more.
    wait_until(lambda: f'nv_inference_count{{model="{model.name}"' not in metrics(model))


def metrics(model):
    with urlopen(model.server.metrics_url) as answer:
        return answer.read().decode()


def come_and_go(model, clients, retries, wait_until):
    """Version 2 comes, both are loaded anew, version 3 is refused, and version 2 goes."""
    load(model, "specific { versions: [ 1, 2 ] }", retries=retries)
    assert clients.next_answers() == ["2", "2", "1", "1"]
    assert (status(model, 1), status(model, 2)) == (200, 200)

    # A field changed: both are loaded anew, and the old ones serve until the new ones can.
    load(model, "specific { versions: [ 1, 2 ] }", retries=retries + 1)
    assert clients.next_answers() == ["2", "2", "1", "1"]
    wait_until(lambda: len(model.workers()) == 2)

    with pytest.raises(InferenceServerException, match="version 3 is at UNAVAILABLE") as error:
        load(model, "all { }", retries=retries + 1)
    assert re.search(r"/3/model/\S+/out has \d+ bytes, but float32 .* copy", str(error.value))
    assert clients.next_answers() == ["2", "2", "1", "1"]
    assert [status(model, version) for version in (1, 2, 3)] == [200, 200, 400]

    load(model, "specific { versions: [ 1 ] }", retries=retries + 1)
    assert clients.next_answers() == ["1", "1", "1", "1"]
    wait_until(lambda: len(model.workers()) == 1)


def check_metrics(model):
    """Read Triton's metrics as lesson 10 does, and see that no request has failed."""
    text = metrics(model)
    assert f'nv_inference_count{{model="{model.name}"' in text
    for name, at_least in (
        ("nv_inference_request_failure", 4),
        ("oneflow_worker_restarts_total", 1),
    ):
        values = re.findall(rf'^{name}{{model="{model.name}",.*version="\d+"}} (\S+)$', text, re.M)
        assert len(values) >= at_least
        assert not any(map(float, values))
