"""A connection to Triton over HTTP that moves an array without copying it on the way.

It speaks KServe's protocol, version 2, with Triton's extension for binary tensors:
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

import json
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from urllib.parse import quote, urlsplit

import httptools
import numpy as np
from tritonclient.utils import InferenceServerException, np_to_triton_dtype, triton_to_np_dtype

#: An answer is read in pieces of so many bytes, until its headers are there.
PIECE_BYTES = 1 << 16
CUT_SHORT = "the connection was closed before the answer was whole"


class HttpClient:
    """One connection to Triton, for one thread, made with the first request.

    tritonclient's own client for HTTP can do much more, and copies a picture three times before it
    is sent. This one sends it from where it lies, and the answer stays where it came to. Answers
    are taken apart by httptools, in C: after a pause of 0.1 s, as long as a graph runs, Python's
    http.client took half a millisecond longer.

    Args:
        url: host and port, perhaps with a path before Triton's own: ``127.0.0.1:8000``.
        timeout: seconds that connecting, and each piece of an answer, may take.

    Raises:
        ValueError: this is not an address.
    """

    def __init__(self, url: str, timeout: float = 60.0):
        address = urlsplit(f"//{url}")
        if "://" in url or not address.hostname:
            raise ValueError(url)
        address.hostname.encode("idna")  # a UnicodeError is a ValueError
        self._address, self._timeout = (address.hostname, address.port or 80), timeout
        self._host, self._path = address.netloc.rpartition("@")[2], address.path.rstrip("/")
        self._socket: socket.socket | None = None

    def infer(
        self, model: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]
    ) -> list[np.ndarray]:
        """Send one request for some of a model's outputs; return them.

        Args:
            model: its name in the repository; Triton takes the version that its policy says.
            inputs: arrays of numbers or booleans, by the names in config.pbtxt.
            outputs: names, too.

        Raises:
            InferenceServerException: Triton refused the request, with its status and message.
            OSError: there was no answer, or not a whole one, or not one of Triton's.
        """
        arrays = {name: np.asarray(array, order="C") for name, array in inputs.items()}
        head = json.dumps({
            "inputs": [
                {
                    "name": name, "shape": array.shape, "datatype": np_to_triton_dtype(array.dtype),
                    "parameters": {"binary_data_size": array.nbytes},
                }
                for name, array in arrays.items()
            ],
            "outputs": [{"name": name, "parameters": {"binary_data": True}} for name in outputs],
        }).encode()  # fmt: skip
        body = [head, *(array.reshape(-1).view(np.uint8).data for array in arrays.values())]
        answer = self.ask("POST", f"/v2/models/{quote(model, safe='')}/infer", body, len(head))
        try:
            arrays = _read(answer.content, int(answer.headers["inference-header-content-length"]))
            return [arrays[name] for name in outputs]
        except (KeyError, TypeError, ValueError):
            raise ConnectionError("the answer is not in Triton's protocol") from None

    def is_model_ready(self, model: str) -> bool:
        """Ask whether a model can be used now.

        Raises:
            OSError: there was no answer.
        """
        try:
            self.ask("GET", f"/v2/models/{quote(model, safe='')}/ready")
        except InferenceServerException:
            return False
        return True

    def ask(
        self, method: str, path: str, body: Sequence[bytes | memoryview] = (), head_bytes: int = 0
    ) -> "Answer":
        """Send any request of Triton's protocol; return the answer.

        Args:
            method: "GET" or "POST".
            path: from ``/v2`` on.
            body: its pieces, sent one after the other.
            head_bytes: how many of them are JSON, where binary tensors follow; 0 where all are.

        Raises:
            InferenceServerException: Triton refused the request, with its status and message.
            OSError: there was no answer, or not a whole one.
        """
        lines = [f"{method} {self._path}{path} HTTP/1.1", f"Host: {self._host}"]
        lines += [f"Content-Length: {sum(map(len, body))}"] if method == "POST" else []
        lines += [f"Inference-Header-Content-Length: {head_bytes}"] if head_bytes else []
        try:
            if self._socket is None:
                self._socket = socket.create_connection(self._address, self._timeout)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for piece in ("\r\n".join([*lines, "", ""]).encode(), *body):
                self._socket.sendall(piece)
            answer = Answer(self._socket)
        except BaseException:  # also Ctrl-C: what is still to come belongs to this request
            self.close()
            raise
        if not answer.keeps_connection:
            self.close()
        if answer.status != 200:
            raise InferenceServerException(_complaint(answer.content), str(answer.status))
        return answer

    def close(self) -> None:
        """Close the connection; the next request makes another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __enter__(self) -> "HttpClient":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class Answer:
    """An answer, read from a connection.

    Attributes:
        status: of HTTP.
        headers: by their names in lower case.
        content: uint8 array; what follows the headers.
        keeps_connection: whether the server takes another request.

    Raises:
        OSError: it does not come, or not to its end, or is not HTTP.
    """

    def __init__(self, connection: socket.socket):
        self.headers: dict[str, str] = {}
        self._pieces: list[bytes] = []
        self._has_headers = self._is_whole = False
        self._connection, self._parser = connection, httptools.HttpResponseParser(self)
        try:
            self._read()
        finally:  # the parser knows this object, too: as a pair they would wait for gc
            del self._connection, self._parser

    def _read(self) -> None:
        while not self._has_headers and self._feed():
            pass
        if not self._has_headers:
            raise ConnectionError(CUT_SHORT)
        if "content-length" in self.headers:
            self._read_rest(int(self.headers["content-length"]))
        else:
            self._read_to_end()

    def _feed(self) -> bool:
        """Give the parser what comes next; return whether anything came."""
        piece = self._connection.recv(PIECE_BYTES)
        try:
            self._parser.feed_data(piece)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            raise ConnectionError("the answer is not HTTP") from None
        return bool(piece)

    def _read_rest(self, length: int) -> None:
        """Read what has not come with the headers to where it will stay."""
        try:
            self.content = np.empty(length, np.uint8)
        except (MemoryError, ValueError):
            raise ConnectionError(f"there is no memory for an answer of {length} bytes") from None
        begin = b"".join(self._pieces)
        self.content[: len(begin)] = np.frombuffer(begin, np.uint8)
        rest = self.content.data[len(begin) :]
        while rest:
            received = self._connection.recv_into(rest)
            if not received:
                raise ConnectionError(CUT_SHORT)
            rest = rest[received:]

    def _read_to_end(self) -> None:
        """Read pieces with their lengths, or where nothing tells any, until the server hangs up."""
        while not self._is_whole and self._feed():
            pass
        if not self._is_whole and "transfer-encoding" in self.headers:
            raise ConnectionError(CUT_SHORT)
        self.content = np.frombuffer(b"".join(self._pieces), np.uint8)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header from the parser."""
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Take note that all headers have come, and of what only the parser knows by now."""
        self._has_headers = True
        self.status = self._parser.get_status_code()
        self.keeps_connection = self._parser.should_keep_alive()

    def on_body(self, piece: bytes) -> None:
        """Take some of the content from the parser."""
        self._pieces.append(piece)

    def on_message_complete(self) -> None:
        """Take note that all has come."""
        self._is_whole = True


def _read(content: np.ndarray, length: int) -> dict[str, np.ndarray]:
    """Return the outputs of an answer: a head of some length in JSON, then all the numbers."""
    arrays, begin = {}, length
    for output in json.loads(content[:length].tobytes())["outputs"]:
        size = output["parameters"]["binary_data_size"]
        dtype = np.dtype(triton_to_np_dtype(output["datatype"]))
        array = (
            np.frombuffer(content, dtype, size // dtype.itemsize, begin)
            if size
            else np.empty(0, dtype)
        )
        arrays[output["name"]] = array.reshape(output["shape"])
        begin += size
    return arrays


def _complaint(content: np.ndarray) -> str:
    """Return what Triton, or somebody in its place, says in an answer that is an error."""
    text = content.tobytes()
    with suppress(ValueError, TypeError, KeyError):
        return json.loads(text)["error"]
    return text.decode(errors="replace").strip() or "no reason was given"
