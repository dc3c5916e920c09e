"""The client, as far as it goes without a server."""

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from geventhttpclient.response import HTTPSocketResponse
from tritonclient.http import _client

from serving_kit.client import infer
from serving_kit.errors import ClientError


def test_ctrl_c_while_the_client_is_made_is_only_that(monkeypatch):
    said = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(_client, "URL", interrupt)
    with pytest.raises(KeyboardInterrupt):
        infer(np.zeros((1, 3, 256, 256), np.float32))
    assert said == []


def test_nobody_answers():
    with pytest.raises(ClientError, match=r"does not answer at 127\.0\.0\.1:9 .*is it started"):
        infer(np.zeros((1, 3, 256, 256), np.float32), url="127.0.0.1:9")


FAULTS = """
import resource, sys
import numpy as np
from serving_kit.client import keep_freed_memory

def faults_of_a_request():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensor = np.ones((3, 1024, 1024), np.float32).tobytes()
    body = bytearray(b"".join([b"header", tensor]))
    body[6:]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1] == "keep":
    keep_freed_memory()
faults_of_a_request()
print(sum(faults_of_a_request() for _ in range(10)) / 10)
"""


def test_freed_memory_is_kept_for_the_next_request():
    def faults(choice: str) -> float:
        done = subprocess.run(
            [sys.executable, "-c", FAULTS, choice],
            stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        return float(done.stdout)

    assert faults("leave") > 1000  # else there is nothing to cure, and the function can go
    assert faults("keep") < 10


def test_an_answer_is_read_in_large_pieces(monkeypatch):
    """Of a server that sends what Triton sends for one picture; see the pieces that come."""
    tensor = np.arange(3 * 256 * 256, dtype=np.float32).reshape(1, 3, 256, 256)
    header = json.dumps({
        "outputs": [{
            "name": "OUTPUT_0", "datatype": "FP32", "shape": list(tensor.shape),
            "parameters": {"binary_data_size": tensor.nbytes},
        }]
    }).encode()  # fmt: skip

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Inference-Header-Content-Length", str(len(header)))
            self.send_header("Content-Length", str(len(header) + tensor.nbytes))
            self.end_headers()
            self.wfile.write(header + tensor.tobytes())

        def log_message(self, *_):
            pass

    pieces = []
    feed = HTTPSocketResponse.feed
    monkeypatch.setattr(
        HTTPSocketResponse, "feed", lambda self, data: pieces.append(len(data)) or feed(self, data)
    )
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        answer = infer(tensor, url=f"127.0.0.1:{server.server_port}")
        thread.join()
    assert np.array_equal(answer, tensor)
    # How much has come by then is the kernel's business; with 4 kB it was 192 pieces at least.
    assert max(pieces) > 4096
