"""Clients that never pause and never try again, for tests in which servers end meanwhile."""

import http.client
import json
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager

import numpy as np
import tritonclient.grpc as grpcclient

from serving_kit.server.ports import HOST
from serving_kit.server.supervisor import request

#: So many requests are sent at least.
LEAST = 1_000
SECONDS = 100
TOKEN = "not-a-secret-of-anybody"
INPUTS = {
    "tiny": np.float32([1, 2]),
    "fast_neural_style": np.random.default_rng(0).uniform(0, 255, (1, 3, 256, 256)).astype("f4"),
}


class Client(threading.Thread):
    """Sends one request after the other until told to end; counts, and keeps what failed."""

    def __init__(self, connect, model, port):
        super().__init__(daemon=True)
        self._connect, self._model, self._port = connect, model, port
        self.is_to_end = threading.Event()
        self.good, self.failed, self.slowest = 0, [], 0.0

    def run(self):
        while not self.is_to_end.is_set():
            try:
                with self._connect(self._model, self._port) as ask:
                    while not self.is_to_end.is_set():
                        began = time.monotonic()
                        ask()
                        self.good += 1
                        self.slowest = max(self.slowest, time.monotonic() - began)
            except Exception as error:
                self.failed.append(f"{self._connect.__name__} {self._model}: {error}")

    @property
    def count(self):
        return self.good + len(self.failed)


@contextmanager
def over_http(model, port):
    """Give a function that sends a request over a connection that is kept."""
    x = INPUTS[model]
    tensor = {"name": "INPUT_0", "shape": x.shape, "datatype": "FP32"}
    tensor["parameters"] = {"binary_data_size": x.nbytes}
    wanted = {"name": "OUTPUT_0", "parameters": {"binary_data": True}}
    head = json.dumps({"inputs": [tensor], "outputs": [wanted]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}

    def ask():
        connection.request("POST", f"/v2/models/{model}/infer", head + x.tobytes(), headers)
        response = connection.getresponse()
        body = response.read()
        assert response.status == 200, f"{response.status} {body[:200]}"
        head_bytes = int(response.headers["Inference-Header-Content-Length"])
        check(model, np.frombuffer(body[head_bytes:], np.float32))

    with closing(http.client.HTTPConnection(HOST, port, timeout=SECONDS)) as connection:
        yield ask


@contextmanager
def over_grpc(model, port):
    """Give a function that sends a request over a channel without retries of its own."""
    arguments = [("grpc.enable_retries", 0)]
    tensor = grpcclient.InferInput("INPUT_0", INPUTS[model].shape, "FP32")
    tensor.set_data_from_numpy(INPUTS[model])

    def ask():
        result = client.infer(model, [tensor], client_timeout=SECONDS)
        check(model, result.as_numpy("OUTPUT_0"))

    url = f"{HOST}:{port + 1}"
    with closing(grpcclient.InferenceServerClient(url, channel_args=arguments)) as client:
        yield ask


def check(model, output):
    assert output.size == INPUTS[model].size
    assert model != "tiny" or (output == INPUTS[model]).all()


@contextmanager
def nobody_notices(what, port):
    """Four clients meanwhile: prints how many requests they sent, none of which may have failed."""
    clients = [Client(way, model, port) for model in INPUTS for way in (over_http, over_grpc)]
    for client in clients:
        client.start()
    try:
        wait(lambda: all(client.count for client in clients))
        yield
        wait(lambda: sum(client.count for client in clients) >= LEAST)
    finally:
        for client in clients:
            client.is_to_end.set()
        for client in clients:
            client.join(SECONDS)
    failed = [each for client in clients for each in client.failed]
    slowest = max(client.slowest for client in clients)
    count = sum(client.count for client in clients)
    print(f"{what}: {len(failed)} of {count} requests failed, the slowest took {slowest:.1f} s")
    assert not failed, failed[:10]


def wait(condition, seconds=SECONDS):
    """Wait for what comes a moment later; what never comes fails the test."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)


def write_gateway_with_token(file):
    """Write what ``python -m serving_kit gateway --token`` prints, readable for the gateway."""
    token = file.with_name("token")
    token.write_text(TOKEN)
    command = [sys.executable, "-m", "serving_kit", "gateway", "--token", token]
    file.write_bytes(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    for path in (file, *file.parents[:3]):
        path.chmod(path.stat().st_mode | 0o555)


def asks_for_the_token(port):
    """Tell whether a gateway responds to those alone that have it."""
    try:
        without, _ = request(HOST, port, "/v2")
        with_it, _ = request(HOST, port, "/v2", headers={"Authorization": f"Bearer {TOKEN}"})
    except OSError:
        return False
    return (without, with_it) == (401, 200)
