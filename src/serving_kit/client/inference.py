"""Ask a running Triton to stylize a picture: what the command line, the demo and the tests use."""

import functools
import importlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from serving_kit.client.images import read_image, recover_image, to_model, write_image
from serving_kit.errors import ClientError, NoAnswerError
from serving_kit.http_client import HttpClient
from serving_kit.stylenet.styles import ALL_STYLES, SIZE, style_weights
from serving_kit.stylenet.styles import ONE_STYLE as MODEL

#: Triton's own ports on this machine, by protocol.
DEFAULT_URLS = {"http": "127.0.0.1:8000", "grpc": "127.0.0.1:8001"}
DEFAULT_URL = DEFAULT_URLS["http"]
#: How long an answer may take: a first request after a start, on a slow machine, in a queue.
ANSWER_SECONDS = 60
#: What gRPC says when nobody listens, nobody answers in time, or the connection is lost.
NO_ANSWER = ("StatusCode.UNAVAILABLE", "StatusCode.DEADLINE_EXCEEDED", "StatusCode.CANCELLED")
#: A little less than the largest block that glibc can be taught to keep, of 32 MiB.
KEPT_BYTES = 32_000_000


@dataclass(frozen=True)
class Stylized:
    """What ``stylize`` did: both pictures (uint8 BGR), what the model took and gave, and time."""

    before: np.ndarray
    after: np.ndarray
    model_input: np.ndarray
    model_output: np.ndarray
    milliseconds: float


def stylize(
    content_path: str | Path,
    output_path: str | Path,
    style: str | int | Mapping[str | int, float] | None = None,
    *,
    url: str = DEFAULT_URL,
    protocol: str = "http",
) -> Stylized:
    """Stylize a picture file through Triton.

    Args:
        content_path: any picture that OpenCV reads.
        output_path: where the result goes, as large as the picture; its ending says the format.
        style: of multi_style, a style or shares of several, as ``styles.style_weights`` takes
            them; when left out, fast_neural_style paints in the one that it was exported with.
        url: host and port of that service of Triton.
        protocol: "http" or "grpc".

    Raises:
        ImageError: the picture cannot be read, or the result not written.
        StyleError: there is no such style.
        ClientError: the server refused the request, or (NoAnswerError) did not answer.
    """
    weights = () if style is None else (style_weights(style),)
    before = read_image(content_path)
    model_input = to_model(before, SIZE, SIZE)
    began = time.perf_counter()
    model_output = infer(
        model_input, *weights, model=ALL_STYLES if weights else MODEL, url=url, protocol=protocol
    )
    milliseconds = (time.perf_counter() - began) * 1000
    after = recover_image(model_output, *before.shape[:2])
    write_image(output_path, after)
    return Stylized(before, after, model_input, model_output, milliseconds)


@functools.cache  # once for a process
def keep_freed_memory() -> None:
    """Let glibc keep the memory of one request for the next, from now on.

    By itself it gives large blocks back to the kernel when they are freed, and gets them again page
    by page: with tritonclient over HTTP up to 700 page faults for a picture of 256 x 256, more than
    a millisecond, and thousands for a larger one. What it keeps it learns from what is freed
    (``M_MMAP_THRESHOLD`` in mallopt(3)); so one large block, never touched, is made and freed here.
    """
    np.empty(KEPT_BYTES, np.uint8)


def infer(
    *inputs: np.ndarray, model: str = MODEL, url: str = DEFAULT_URL, protocol: str = "http"
) -> np.ndarray:
    """Send a request to a served model and return its answer.

    Args:
        inputs: float32, INPUT_0, INPUT_1 and so on. For fast_neural_style the image,
            (1, 3, H, W), RGB, 0 to 255; for multi_style n images, (n, 3, H, W), and as many rows
            of ``styles.style_weights``, (n, 26).
        model: the model's name in the repository.
        url: host and port of that service of Triton.
        protocol: "http" or "grpc".

    Returns:
        OUTPUT_0; of these models float32 (n, 3, H, W), RGB, 0 to 255.

    Raises:
        ClientError: the server refused the request, or (NoAnswerError) did not answer.
    """
    keep_freed_memory()
    named = {f"INPUT_{i}": array for i, array in enumerate(inputs)}
    # One client belongs to one thread; making one costs less than a millisecond.
    client = _connect(url, protocol)
    try:
        (answer,) = client.infer(model, named, ["OUTPUT_0"])
        return answer
    except InferenceServerException as error:
        if error.status() in NO_ANSWER:
            raise _no_answer(url, error.message()) from error
        if not _is_ready(client, model):
            raise NoAnswerError(
                f"Triton at {url} does not serve {model} at the moment ({error.message()}); "
                "is it started with this model, and ready?"
            ) from error
        raise ClientError(f"Triton at {url} refused the request: {error.message()}") from error
    except OSError as error:
        raise _no_answer(url, error) from error
    finally:
        client.close()


def _connect(url: str, protocol: str) -> "HttpClient | _GrpcClient":
    try:
        return _GrpcClient(url) if protocol == "grpc" else HttpClient(url, ANSWER_SECONDS)
    except ValueError:
        raise ClientError(f"{url!r} is not host:port; write it like {DEFAULT_URL}") from None


class _GrpcClient:
    """tritonclient's client for gRPC, asked as ``HttpClient`` is."""

    def __init__(self, url: str):
        # It takes a second to import; who does not speak gRPC shall not wait.
        self._grpc = importlib.import_module("tritonclient.grpc")
        self._client = self._grpc.InferenceServerClient(url)
        self.is_model_ready, self.close = self._client.is_model_ready, self._client.close

    def infer(
        self, model: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]
    ) -> list[np.ndarray]:
        tensors = []
        for name, array in inputs.items():
            kind = np_to_triton_dtype(array.dtype)
            tensors.append(self._grpc.InferInput(name, array.shape, kind))
            tensors[-1].set_data_from_numpy(array)
        wanted = [self._grpc.InferRequestedOutput(name) for name in outputs]
        answer = self._client.infer(model, tensors, outputs=wanted, client_timeout=ANSWER_SECONDS)
        return [answer.as_numpy(name) for name in outputs]


def _is_ready(client, model: str) -> bool:
    try:
        return client.is_model_ready(model)
    except (InferenceServerException, OSError):
        return False


def _no_answer(url: str, reason: object) -> NoAnswerError:
    return NoAnswerError(f"Triton does not answer at {url} ({reason}); is it started, and ready?")
