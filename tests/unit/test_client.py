"""``infer``, with a stub in place of Triton: what is sent, and one sentence for all that fails."""

import contextlib
import json
import re
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import psutil
import pytest
import tritonclient.http as httpclient

from serving_kit.client import inference
from serving_kit.client.inference import infer
from serving_kit.errors import ClientError, NoAnswerError

PICTURE = np.zeros((1, 3, 4, 4), np.float32)
NUMBERS = np.arange(6, dtype=np.float32).reshape(2, 3)
SECONDS = 30


def body_of(array, name="OUTPUT_0"):
    """Return the body of a response as Triton writes it, and how much of it is JSON."""
    head = json.dumps({
        "outputs": [
            {
                "name": name, "datatype": "FP32", "shape": array.shape,
                "parameters": {"binary_data_size": array.nbytes},
            }
        ]
    }).encode()  # fmt: skip
    return head + array.tobytes(), len(head)


class Stub(ThreadingHTTPServer):
    """A Triton that is always ready, gives every request the same response, and keeps requests."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.ready_status, self.seen = 200, 200, []
        self.content, self.head_size = body_of(NUMBERS)
        self.url = f"127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append((self.path, self.headers, body))
        self.send_response(self.server.status)
        self.send_header("Inference-Header-Content-Length", str(self.server.head_size))
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content)

    def do_GET(self):
        self.send_response(self.server.ready_status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def stub():
    with Stub() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def says():
    """Give a way to start a server that says these bytes to each client, and hangs up."""
    with contextlib.ExitStack() as stack:

        def start(words: bytes) -> str:
            server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            thread = threading.Thread(target=serve, args=[server, words])
            thread.start()
            stack.callback(thread.join)
            # It wakes up accept, which closing the socket does not.
            stack.callback(server.shutdown, socket.SHUT_RDWR)
            return f"127.0.0.1:{server.getsockname()[1]}"

        def serve(server: socket.socket, words: bytes):
            with contextlib.suppress(OSError):  # the server is shut down
                while True:
                    connection, _ = server.accept()
                    with connection, contextlib.suppress(ConnectionError):
                        connection.recv(65536)
                        connection.sendall(words)

        yield start


@pytest.fixture
def nobody():
    """An address where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def one_sentence(url, reason=".+"):
    return rf"^Triton does not respond at {re.escape(url)} \({reason}\); is it running and ready\?$"


# --- What is sent, and what comes back --------------------------------------------------------


def test_what_is_sent(stub):
    columns_first = NUMBERS.T  # in memory; to be sent row by row all the same
    infer(columns_first, np.array([True, False]), model="a painter?", url=stub.url)
    ((path, headers, body),) = stub.seen
    assert path == "/v2/models/a%20painter%3F/infer"
    size = int(headers["Inference-Header-Content-Length"])
    head = json.loads(body[:size])
    assert head["outputs"] == [{"name": "OUTPUT_0", "parameters": {"binary_data": True}}]
    assert [(i["name"], i["datatype"], i["shape"]) for i in head["inputs"]] == [
        ("INPUT_0", "FP32", [3, 2]), ("INPUT_1", "BOOL", [2]),
    ]  # fmt: skip
    assert body[size:] == columns_first.tobytes() + b"\1\0"


def test_what_comes_back(stub):
    output = infer(PICTURE, url=stub.url)
    assert (output.dtype, output.shape) == (np.float32, (2, 3))
    assert np.array_equal(output, NUMBERS)


def test_a_path_before_tritons_own(stub):
    infer(PICTURE, model="painter", url=f"{stub.url}/behind/a/proxy/")
    assert stub.seen[0][0] == "/behind/a/proxy/v2/models/painter/infer"


# --- What fails -------------------------------------------------------------------------------


def test_a_refusal_says_why(stub):
    stub.status, stub.content = 400, b'{"error":"unexpected shape"}'
    sentence = f"^Triton at {stub.url} refused the request: unexpected shape$"
    with pytest.raises(ClientError, match=sentence) as caught:
        infer(PICTURE, url=stub.url)
    assert not isinstance(caught.value, NoAnswerError)


@pytest.mark.parametrize(
    "content", [b'{"error":"no"}', b"<h1>Bad Gateway</h1>", b"[]", b"\xff", b""]
)
def test_a_model_that_is_not_served_at_the_moment(stub, content):
    stub.status, stub.ready_status, stub.content = 502, 400, content
    sentence = rf"^Triton at {stub.url} does not serve painter at the moment \(\[502\] .+\); is it"
    with pytest.raises(NoAnswerError, match=sentence):
        infer(PICTURE, model="painter", url=stub.url)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_nobody_answers(nobody, protocol):
    with pytest.raises(NoAnswerError, match=one_sentence(nobody, ".*Connection refused")):
        infer(PICTURE, url=nobody, protocol=protocol)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_server_that_never_answers_is_not_waited_for(monkeypatch, protocol):
    monkeypatch.setattr(inference, "ANSWER_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it listens, and takes nothing
        url = f"127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(NoAnswerError, match=one_sentence(url, "timed out|Deadline Exceeded")):
            infer(PICTURE, url=url, protocol=protocol)
    assert time.monotonic() - began < SECONDS


OK = b"HTTP/1.1 200 OK\r\n"
WHOLE, HEAD_SIZE = body_of(NUMBERS)
OTHER, OTHER_HEAD_SIZE = body_of(NUMBERS, "OUTPUT_1")


def response(content, head_size, length=None):
    length = len(content) if length is None else length
    sizes = f"Inference-Header-Content-Length: {head_size}\r\nContent-Length: {length}\r\n\r\n"
    return OK + sizes.encode() + content


NO_RESPONSE = {
    "nothing": b"",
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x46",
    "an upgrade": b"HTTP/1.1 101 Other\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n",
    "half of the headers": OK + b"Content-Le",
    "a length that is no number": OK + b"Content-Length: three\r\n\r\n",
    "half of a web page": OK + b"Content-Length: 18\r\n\r\n<h1>It ",
    "half of some chunks": OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}",
    "less than it says": response(WHOLE, HEAD_SIZE, len(WHOLE) + 4),
    "far less than it says": response(WHOLE, HEAD_SIZE, 10**18),
    "more than memory can hold": response(WHOLE, HEAD_SIZE, 10**19),
    "a tensor that is cut short": response(WHOLE[:-4], HEAD_SIZE),
    "an empty page": OK + b"\r\n",
    "a web page": OK + b"Content-Length: 18\r\n\r\n<h1>It works!</h1>",
    "no text": OK + b"Content-Length: 1\r\n\r\n\xff",
    "JSON that is no response": response(b"[]", 2),
    "a head that is no JSON": response(b"no JSON..", 9),
    "a head of no length": response(WHOLE, "x"),
    "a head longer than all": response(WHOLE, 10**6),
    "no outputs": response(b'{"outputs": []}', 15),
    "another output": response(OTHER, OTHER_HEAD_SIZE),
}


@pytest.mark.parametrize("name", NO_RESPONSE)
def test_what_is_no_whole_response_of_triton(says, name):
    url = says(NO_RESPONSE[name])
    with pytest.raises(NoAnswerError, match=one_sentence(url)):
        infer(PICTURE, url=url)


def test_the_stub_itself_gives_whole_responses(says):
    assert np.array_equal(infer(PICTURE, url=says(response(WHOLE, HEAD_SIZE))), NUMBERS)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize(
    "url",
    ["", ":8000", "http://127.0.0.1:8000", "host:port", "host:99999", "[::1", f"{'a' * 64}:80"],
)
def test_what_is_no_address(url, protocol):
    with pytest.raises(ClientError, match=rf"^'{re.escape(url)}' is not host:port; write it like"):
        infer(PICTURE, url=url, protocol=protocol)


def test_what_is_no_protocol():
    with pytest.raises(ClientError, match=r"^there is no protocol 'ftp'; use http or grpc$"):
        infer(PICTURE, protocol="ftp")


# --- What it costs ----------------------------------------------------------------------------


def in_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_threads_that_ended_have_left_nothing_open(stub, says):
    """gevent would leave two files and a thread of each thread in which tritonclient spoke HTTP."""
    broken = says(NO_RESPONSE["less than it says"])

    def requests():
        infer(PICTURE, url=stub.url.replace("127.0.0.1", "localhost"))
        with pytest.raises(NoAnswerError):
            infer(PICTURE, url=broken)

    def held():
        return process.num_fds(), process.num_threads()

    process = psutil.Process()
    in_thread(requests)  # what is made once for a process
    before, deadline = held(), time.monotonic() + SECONDS
    for _ in range(5):
        in_thread(requests)
    while any(map(int.__gt__, held(), before)):  # the stub's side takes a moment longer
        assert time.monotonic() < deadline, (before, held())
        time.sleep(0.05)


def test_a_client_of_the_same_threads_goes_on(stub):
    seen = []

    def work():
        with httpclient.InferenceServerClient(stub.url) as client:
            seen.append(client.is_model_ready("painter"))
            infer(PICTURE, url=stub.url)
            seen.append(client.is_model_ready("painter"))

    in_thread(work)
    assert seen == [True, True]


def test_what_is_not_needed_is_not_imported():
    code = "import serving_kit.client, sys; print({'gevent', 'grpc'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
