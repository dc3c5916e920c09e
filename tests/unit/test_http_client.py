"""The kit's client for HTTP, with a server in place of Triton that shows what it was sent."""

import gc
import json
import socket
import threading
import weakref
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from serving_kit.http_client import HttpClient


class Stranger(HTTPServer):
    """Answers every request with what it was told to, and keeps the requests."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.content, self.head_size = 200, b"", None
        self.seen = []
        self.url = f"127.0.0.1:{self.server_port}"

    def will_answer(self, **outputs):
        """Answer with these arrays, written as Triton writes them."""
        kinds = {np.dtype(bool): "BOOL", np.dtype(np.uint8): "UINT8", np.dtype(np.float32): "FP32"}
        head = json.dumps({
            "outputs": [
                {
                    "name": name, "datatype": kinds[array.dtype], "shape": array.shape,
                    "parameters": {"binary_data_size": array.nbytes},
                }
                for name, array in outputs.items()
            ]
        }).encode()  # fmt: skip
        self.content = head + b"".join(array.tobytes() for array in outputs.values())
        self.head_size = len(head)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append((self.path, self.headers, body))
        self.send_response(self.server.status)
        if self.server.head_size is not None:
            self.send_header("Inference-Header-Content-Length", str(self.server.head_size))
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content)

    do_GET = do_POST

    def log_message(self, *_):
        pass


@pytest.fixture
def stranger():
    with Stranger() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def client(stranger):
    with HttpClient(stranger.url) as client:
        yield client


NUMBERS = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_what_is_sent(stranger, client):
    stranger.will_answer(OUT=NUMBERS)
    sent = {
        "NUMBERS": NUMBERS.T,  # columns first in memory: to be sent row by row all the same
        "MASK": np.array([True, False]),
        "NOTHING": np.empty((0, 4), np.uint8),
        "SCALAR": np.array(7, np.int64),
    }
    client.infer("painter", sent, ["OUT"])
    ((path, headers, body),) = stranger.seen
    assert path == "/v2/models/painter/infer"
    size = int(headers["Inference-Header-Content-Length"])
    head = json.loads(body[:size])
    assert head["outputs"] == [{"name": "OUT", "parameters": {"binary_data": True}}]
    assert [(i["name"], i["datatype"], i["shape"]) for i in head["inputs"]] == [
        ("NUMBERS", "FP32", [3, 2]), ("MASK", "BOOL", [2]), ("NOTHING", "UINT8", [0, 4]),
        ("SCALAR", "INT64", []),
    ]  # fmt: skip
    assert [i["parameters"]["binary_data_size"] for i in head["inputs"]] == [24, 2, 0, 8]
    assert body[size:] == b"".join(array.tobytes() for array in sent.values())


def test_answers_come_as_asked_and_are_not_copied(stranger, client):
    first, second = NUMBERS, np.array([[True], [False]])
    stranger.will_answer(FIRST=first, NONE=np.empty((2, 0), np.uint8), SECOND=second)
    answers = client.infer("painter", {}, ["SECOND", "NONE", "FIRST"])
    for answer, expected in zip(answers, (second, np.empty((2, 0)), first), strict=True):
        assert np.array_equal(answer, expected) and answer.shape == expected.shape
    assert not answers[0].flags.owndata and not answers[2].flags.owndata


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"error":"unexpected shape"}', "unexpected shape"),
        (b"<h1>Bad Gateway</h1>\n", "<h1>Bad Gateway</h1>"),
        (b'["not", "an object"]', '["not", "an object"]'),
        (b"\xff", "\N{REPLACEMENT CHARACTER}"),
        (b"", "no reason was given"),
    ],
)
def test_a_refusal_says_why_and_the_connection_goes_on(stranger, client, content, message):
    stranger.status, stranger.content = 400, content
    with pytest.raises(InferenceServerException) as caught:
        client.infer("painter", {"INPUT_0": NUMBERS}, ["OUTPUT_0"])
    assert (caught.value.status(), caught.value.message()) == ("400", message)
    assert not client.is_model_ready("painter")
    stranger.status = 200
    assert client.is_model_ready("painter")
    assert stranger.seen[-1][0] == "/v2/models/painter/ready"


@pytest.mark.parametrize(
    ("head_size", "content"),
    [
        (None, b"<h1>It works!</h1>"),
        (None, b'{"outputs": []}'),
        (9, b"no JSON.."),
        (15, b'{"outputs": []}'),
        (2, b"[]"),
    ],
)
def test_an_answer_that_is_not_tritons_is_told(stranger, client, head_size, content):
    stranger.head_size, stranger.content = head_size, content
    with pytest.raises(ConnectionError, match=r"^the answer is not in Triton's protocol$"):
        client.infer("painter", {"INPUT_0": NUMBERS}, ["OUTPUT_0"])


def test_an_answer_that_is_cut_short_is_told(stranger, client):
    stranger.will_answer(OUTPUT_0=NUMBERS)
    stranger.content = stranger.content[:-4]
    with pytest.raises(ConnectionError, match=r"^the answer is not in Triton's protocol$"):
        client.infer("painter", {"INPUT_0": NUMBERS}, ["OUTPUT_0"])


@pytest.fixture
def says():
    """Give a way to start a server that says these bytes to the first who asks, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threads = []

        def answer(words: bytes):
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(words)

        def start(words: bytes) -> HttpClient:
            threads.append(threading.Thread(target=answer, args=[words]))
            threads[-1].start()
            return HttpClient(f"127.0.0.1:{server.getsockname()[1]}")

        yield start
        for thread in threads:
            thread.join()


CUT_SHORT = "the connection was closed before the answer was whole"
READY = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("words", "content"),
    [
        (READY + b"Content-Length: 3\r\n\r\nyes", b"yes"),
        (READY + b"content-length:0\r\n\r\n", b""),
        (READY + b"Transfer-Encoding: chunked\r\n\r\n2\r\nye\r\n1\r\ns\r\n0\r\n\r\n", b"yes"),
        (READY + b"\r\nyes", b"yes"),
        (b"HTTP/1.0 200 OK\r\n\r\n", b""),
        (READY + b"Content-Length: 1000000\r\n\r\n" + b"7" * 1_000_000, b"7" * 1_000_000),
    ],
)
def test_answers_that_are_written_otherwise(says, words, content):
    with says(words) as client:
        assert client.ask("GET", "/v2").content.tobytes() == content


def test_an_answers_memory_is_free_as_soon_as_nobody_wants_it(stranger, client):
    stranger.will_answer(OUTPUT_0=NUMBERS)
    gc.disable()
    try:
        answer = client.ask("POST", "/v2/models/painter/infer")
        content = weakref.ref(answer.content)
        del answer
        assert content() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (b"", CUT_SHORT),
        (READY + b"Content-Le", CUT_SHORT),
        (READY + b"Content-Length: 3\r\n\r\nye", CUT_SHORT),
        (READY + b"Transfer-Encoding: chunked\r\n\r\n2\r\nye", CUT_SHORT),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "the answer is not HTTP"),
        (READY + b"Content-Length: three\r\n\r\n", "the answer is not HTTP"),
        (
            READY + b"Content-Length: 1000000000000000000\r\n\r\n",
            "there is no memory for an answer of 1000000000000000000 bytes",
        ),
        (
            READY + b"Content-Length: 10000000000000000000\r\n\r\n",
            "there is no memory for an answer of 10000000000000000000 bytes",
        ),
        (
            b"HTTP/1.1 101 Other\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n",
            "the answer is not HTTP",
        ),
    ],
)  # fmt: skip
def test_what_is_no_whole_answer(says, words, message):
    with says(words) as client, pytest.raises(ConnectionError, match=f"^{message}$"):
        client.ask("GET", "/v2")


def test_a_connection_is_kept_and_made_anew_where_it_must_be(stranger, client):
    connections = []
    verify = stranger.verify_request
    stranger.verify_request = lambda *args: connections.append(args) or verify(*args)
    assert client.is_model_ready("painter") and client.is_model_ready("painter")
    assert len(connections) == 1
    client.close()
    assert client.is_model_ready("painter")
    assert len(connections) == 2


def test_after_an_answer_that_did_not_come_the_next_is_the_next_ones(says, stranger):
    with says(READY + b"Content-Length: 9\r\n\r\nhalf") as client:
        with pytest.raises(ConnectionError):
            client.ask("GET", "/v2")
        client._address = ("127.0.0.1", stranger.server_port)
        assert client.is_model_ready("painter")


def test_a_models_name_may_be_anything(stranger, client):
    client.is_model_ready("a b/c?d\r\n")
    assert stranger.seen[0][0] == "/v2/models/a%20b%2Fc%3Fd%0D%0A/ready"


def test_a_path_before_tritons_own(stranger):
    with HttpClient(f"{stranger.url}/behind/a/proxy/") as client:
        assert client.is_model_ready("painter")
    assert stranger.seen[0][0] == "/behind/a/proxy/v2/models/painter/ready"


def test_who_never_answers_is_not_waited_for():
    silent = HTTPServer(("127.0.0.1", 0), Handler)  # it listens, and takes nothing
    client = HttpClient(f"127.0.0.1:{silent.server_port}", timeout=0.1)
    with silent, client, pytest.raises(TimeoutError):
        client.infer("painter", {"INPUT_0": NUMBERS}, ["OUTPUT_0"])


@pytest.mark.parametrize(
    "url", ["", ":8000", "http://127.0.0.1:8000", "host:port", "host:99999", f"{'a' * 64}:80"]
)
def test_what_is_no_address(url):
    with pytest.raises(ValueError):
        HttpClient(url)
