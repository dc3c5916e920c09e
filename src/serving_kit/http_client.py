"""A connection to Triton over HTTP that moves an array without copying it on the way.

It speaks KServe's protocol, version 2, with Triton's extension for binary tensors:
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

import http.client
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from urllib.parse import urlsplit

import numpy as np
from tritonclient.utils import InferenceServerException, np_to_triton_dtype, triton_to_np_dtype


class HttpClient:
    """One connection to Triton, for one thread, made with the first request.

    tritonclient's own client for HTTP can do much more, and copies a picture three times before it
    is sent. This one sends it from where it lies, and the answer stays where it came to.

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
        self._path = address.path.rstrip("/")
        self._connection = http.client.HTTPConnection(address.hostname, address.port, timeout)

    def infer(
        self, model: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]
    ) -> list[np.ndarray]:
        """Send one request for some of a model's outputs; return them, read-only.

        Args:
            model: its name in the repository; Triton takes the version that its policy says.
            inputs: arrays of numbers or booleans, by the names in config.pbtxt.
            outputs: names, too.

        Raises:
            InferenceServerException: Triton refused the request, with its status and message.
            OSError, http.client.HTTPException: there was no answer, or not a whole one.
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
        headers = {
            "Inference-Header-Content-Length": str(len(head)),
            "Content-Length": str(sum(map(len, body))),
        }
        answer, content = self._ask("POST", f"/v2/models/{model}/infer", body, headers)
        if answer.status != 200:
            raise InferenceServerException(_complaint(content), str(answer.status))
        try:
            arrays = _read(content, int(answer.headers["Inference-Header-Content-Length"]))
            return [arrays[name] for name in outputs]
        except (KeyError, TypeError, ValueError):
            raise http.client.HTTPException("the answer is not in Triton's protocol") from None

    def is_model_ready(self, model: str) -> bool:
        """Ask whether a model can be used now.

        Raises:
            OSError, http.client.HTTPException: there was no answer.
        """
        answer, _ = self._ask("GET", f"/v2/models/{model}/ready")
        return answer.status == 200

    def _ask(self, method: str, path: str, body=None, headers=None) -> tuple:
        self._connection.request(method, self._path + path, body, headers or {})
        answer = self._connection.getresponse()
        return answer, answer.read()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def __enter__(self) -> "HttpClient":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _read(content: bytes, length: int) -> dict[str, np.ndarray]:
    """Return the outputs of an answer: a head of some length in JSON, then all the numbers."""
    arrays, begin = {}, length
    for output in json.loads(content[:length])["outputs"]:
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


def _complaint(content: bytes) -> str:
    """Return what Triton, or somebody in its place, says in an answer that is an error."""
    with suppress(ValueError, TypeError, KeyError):
        return json.loads(content)["error"]
    return content.decode(errors="replace").strip() or "no reason was given"
