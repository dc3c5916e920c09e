"""Several Tritons behind Envoy: no request is lost when one ends, and none ends a Triton."""

import gzip
import http.client
import json
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
import yaml
from tritonclient.utils import InferenceServerException

from serving_kit import cli
from serving_kit.server import ReplicatedServer
from serving_kit.server.gateway import CONFIGURATION, _envoy, _manager

CLIENTS, REQUESTS = 4, 1000
SECONDS = 60
MB = 1_000_000
INFER = "/v2/models/tiny/infer"
LENGTH = "Inference-Header-Content-Length"
JSON, FORM = "application/json", "application/x-www-form-urlencoded"
HUGE = {"name": "INPUT_0", "shape": [8589934592], "datatype": "FP32"}
HUGE_DATA = json.dumps({"inputs": [HUGE | {"data": [1]}]}).encode()


def tensor_of(api, array):
    tensor = api.InferInput("INPUT_0", array.shape, "FP32")
    return tensor.set_data_from_numpy(array)


class Clients:
    """Four clients, two over HTTP and two over gRPC, that never pause and send nothing again.

    Args:
        server: the gateway.
        model: its name.
        tensor: what is sent.
        expected: the right response.
    """

    def __init__(self, server, model, tensor, expected):
        self._server, self._model, self._tensor, self._expected = server, model, tensor, expected
        self._over, self._lock = threading.Event(), threading.Lock()
        self.good, self.failures = 0, []

    def __enter__(self):
        self._pool = ThreadPoolExecutor(CLIENTS)
        self._futures = [self._pool.submit(self._send_all, n) for n in range(CLIENTS)]
        return self

    def __exit__(self, *exception):
        self._over.set()
        self._pool.shutdown()
        for future in self._futures:
            future.result()

    def _send_all(self, number):
        api, url = (
            (httpclient, self._server.url) if number % 2 else (grpcclient, self._server.grpc_url)
        )
        with api.InferenceServerClient(url) as client:
            while not self._over.is_set():
                try:
                    response = client.infer(self._model, [tensor_of(api, self._tensor)])
                    found, failure = response.as_numpy("OUTPUT_0"), None
                except (InferenceServerException, OSError) as error:
                    found, failure = None, f"{api.__name__}: {error!r}"
                if not failure:
                    assert np.allclose(found, self._expected, atol=1e-4)
                with self._lock:
                    self.good += not failure
                    self.failures += [failure] if failure else []

    def wait_for(self, count, wait_until):
        """Wait for so many further good responses."""
        wanted = self.good + count
        wait_until(lambda: self.good + len(self.failures) >= wanted)


@pytest.fixture(scope="module")
def gateway(shared_tiny_repository):
    """Two servers behind a gateway, for tests that leave them as they are in the end."""
    with ReplicatedServer(shared_tiny_repository) as server:
        yield server


def hunt(what, clients, wait_until, action):
    """Do something, while clients send 1,000 requests or more; none may fail."""
    with clients:
        clients.wait_for(100, wait_until)
        action()
        clients.wait_for(100, wait_until)
        wait_until(lambda: clients.good + len(clients.failures) >= REQUESTS)
    failed = len(clients.failures)
    print(f"{what}: {failed} of {clients.good + failed} requests failed")
    assert not failed, clients.failures[:5]


def send(server, body=b"", path=INFER, method="POST", headers=(), port=0):
    """Send a request; return the status, and what the response says."""
    connection = http.client.HTTPConnection("127.0.0.1", server.ports[port], timeout=SECONDS)
    connection.putrequest(method, path)
    names = [name for name, _ in headers]
    if "Transfer-Encoding" not in names:
        connection.putheader("Content-Length", str(len(body)))
    for name, value in headers:
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(body)
    response = connection.getresponse()
    text = response.read()
    connection.close()
    if response.status == 200:
        return 200, text
    return response.status, json.loads(text)["error"]


def refusals():
    """Return requests that end a Triton or are closed, each with what the gateway says of it."""
    paths = "the gateway forwards only inference, health, metadata, configuration and statistics"
    nested = b'{"inputs":' + b"[" * 37_500 + b"]" * 37_500 + b"}"
    raw, beside = (LENGTH, "0"), (LENGTH, str(len(HUGE_DATA)))
    escaped = HUGE_DATA.replace(b"data", rb"d\u0061ta")
    cases = {
        "huge shape": (HUGE_DATA, {}, 400, "JSON is closed here"),
        "huge shape in a binary request": (HUGE_DATA, [beside], 400, 'tensors as JSON ("data")'),
        "the same, escaped": (escaped, [(LENGTH, len(escaped))], 400, 'tensors as JSON ("data")'),
        "huge shape, two lengths": (HUGE_DATA, [raw, beside], 400, "is given twice"),
        "two lengths, huge shape": (HUGE_DATA, [beside, raw], 400, "is given twice"),
        "deep": (nested, [(LENGTH, len(nested))], 400, "is larger than 32768 bytes"),
        "deep JSON": (nested, [("Content-Type", JSON)], 400, "JSON is closed here"),
        "too long a length": (b"{}", [(LENGTH, "99")], 400, "is larger than the body"),
        "one that wraps": (HUGE_DATA, [(LENGTH, str(1 << 32))], 400, "is larger than the body"),
        "a form": (b"a" * int(4.2 * MB), [("Content-Type", FORM)], 415, "form data is not"),
        "gzip": (gzip.compress(bytes(MB)), [("Content-Encoding", "gzip"), raw], 415, "compressed"),
        "too large": (bytes((64 << 20) + 1), [raw], 413, "larger than the 64 MiB"),
    }
    for length in ("00", "+0", "-1", "0x10", "1e2", "0,0", ""):
        cases[f"length {length}"] = (HUGE_DATA, [(LENGTH, length)], 400, "is not a plain number")
    found = [(INFER, *case) for case in cases.values()]
    for path in (
        "/v2/repository/index", "/v2/repository/models/tiny/unload", "/v2/logging",
        "/v2/systemsharedmemory/status", "/v2/cudasharedmemory/status", "/v2/trace/setting",
        "/v2/models/tiny/generate", "/v2//repository/index", "/v2/models/../repository/index",
        "/v2/models/x%2f..%2f..%2frepository/index", "/v2/%72epository/index",
    ):  # fmt: skip
        found.append((path, b"[" * 110_000, [], 403, paths))
    return found


PAIR = np.float32([1, 2])


def test_what_ends_a_triton_is_refused_in_one_sentence_and_costs_no_request(gateway, wait_until):
    def refuse():
        for path, body, headers, status, sentence in refusals():
            found = send(gateway, body, path, headers=headers)
            assert found[0] == status and sentence in found[1], (path, headers, found)

    clients = Clients(gateway, "tiny", PAIR, PAIR)
    hunt("requests that end a Triton", clients, wait_until, refuse)
    assert not gateway.restarts()


def test_a_body_in_very_many_chunks_reaches_triton_as_one(gateway):
    chunks = [("Transfer-Encoding", "chunked"), (LENGTH, "0")]
    body = b"1\r\nX\r\n" * 530_000 + b"0\r\n\r\n"
    status, sentence = send(gateway, body, headers=chunks)
    assert status == 400 and "input byte size mismatch" in sentence
    assert not gateway.restarts()


def test_grpc_passes_on_what_clients_need(gateway):
    with grpcclient.InferenceServerClient(gateway.grpc_url) as client:
        assert client.is_server_ready() and client.is_model_ready("tiny")
        assert client.get_inference_statistics("tiny").model_stats

        def refused(function, *arguments, **named):
            with pytest.raises(InferenceServerException) as caught:
                function(*arguments, **named)
            return caught.value.status()

        tensor = tensor_of(grpcclient, PAIR)
        gzipped = refused(client.infer, "tiny", [tensor], compression_algorithm="gzip")
        assert gzipped == "StatusCode.UNIMPLEMENTED"
        for closed in (
            client.get_model_repository_index, client.get_system_shared_memory_status,
            client.get_log_settings, client.get_trace_settings,
        ):  # fmt: skip
            assert refused(closed) == "StatusCode.PERMISSION_DENIED"
        huge = tensor_of(grpcclient, PAIR)
        huge.set_shape(HUGE["shape"])
        assert refused(client.infer, "tiny", [huge]) == "StatusCode.INVALID_ARGUMENT"
        large = tensor_of(grpcclient, np.zeros((17 << 20), np.float32))
        assert refused(client.infer, "tiny", [large]) == "StatusCode.RESOURCE_EXHAUSTED"


def test_metrics_tell_no_more_than_metrics(gateway):
    status, metrics = send(gateway, path="/metrics", method="GET", port=2)
    assert status == 200 and b"envoy_cluster_membership_healthy" in metrics
    for path in ("/config_dump", "/quitquitquit", "/stats", "/clusters", "/"):
        connection = http.client.HTTPConnection("127.0.0.1", gateway.ports[2], timeout=SECONDS)
        connection.request("POST", path)
        assert connection.getresponse().status == 404
        connection.close()


def kill(processes_named, server, name):
    for process in processes_named(server.run_dir, name):
        process.kill()


def kill_a_triton(server, processes_named, wait_until):
    """Kill the Triton of a server behind a gateway, and wait until it was started again."""
    before = len(server.restarts())
    kill(processes_named, server, "tritonserver")
    wait_until(lambda: len(server.restarts()) > before and server.is_ready())


def test_a_killed_triton_costs_no_request(gateway, processes_named, wait_until):
    def end():
        kill_a_triton(gateway.servers[0], processes_named, wait_until)

    clients = Clients(gateway, "tiny", PAIR, PAIR)
    hunt("one of two servers killed", clients, wait_until, end)
    assert len(gateway.restarts()) == 1 and gateway.is_ready()


def test_a_killed_envoy_is_started_again(gateway, processes_named, wait_until):
    kill(processes_named, gateway, "envoy")
    wait_until(lambda: "Envoy was ended by signal 9" in "".join(gateway.restarts()))
    wait_until(gateway.is_ready)
    with httpclient.InferenceServerClient(gateway.url) as client:
        found = client.infer("tiny", [tensor_of(httpclient, PAIR)]).as_numpy("OUTPUT_0")
    assert np.array_equal(found, PAIR)


def test_the_printed_configuration_has_what_was_asked_for(capsys, tmp_path):
    token, users, written = (tmp_path / name for name in ("token", "users", "envoy.yaml"))
    token.write_text("0123456789abcdef\n")
    users.write_text("ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n")
    for words, secret in (["--token", token], "abcdef"), (["--basic-auth", users], "ann:"):
        assert cli.main(["gateway", "--json", *map(str, words)]) == 0
        written.write_text(capsys.readouterr().out)
        config = yaml.safe_load(written.read_text())
        validate(written)
        for listener in config["static_resources"]["listeners"][:2]:
            assert secret in str(_manager(listener)["http_filters"][0])


def validate(file):
    command = [_envoy(), "--mode", "validate", "--disable-hot-restart", "-c", file]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    # Of a field that goes away, or of a part that is not meant for the open network yet.
    assert "[warning]" not in done.stderr


def test_the_committed_configuration_is_valid():
    validate(CONFIGURATION)
