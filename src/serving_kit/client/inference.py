"""Send requests to a running Triton: what the command line, the demo and the tests use."""

import contextlib
import importlib
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

import numpy as np
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from serving_kit.client.images import read_image, recover_image, to_model, write_image
from serving_kit.errors import ClientError, NoAnswerError
from serving_kit.stylenet.styles import ALL_STYLES, SIZE, style_weights
from serving_kit.stylenet.styles import ONE_STYLE as MODEL

#: Triton's own ports on this machine, by protocol.
DEFAULT_URLS = {"http": "127.0.0.1:8000", "grpc": "127.0.0.1:8001"}
DEFAULT_URL = DEFAULT_URLS["http"]
#: How long a response may take: a first request after a start, on a slow machine, in a queue.
ANSWER_SECONDS = 60
#: What tritonclient says when nobody listens, nobody responds in time, or the connection is lost;
#: and nothing (None) when it cannot read what came.
NO_ANSWER = (
    None, "StatusCode.UNAVAILABLE", "StatusCode.DEADLINE_EXCEEDED", "StatusCode.CANCELLED",
)  # fmt: skip


@dataclass(frozen=True)
class Stylized:
    """What ``stylize`` did: both pictures (uint8 BGR), model input and output, and the time."""

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
        content_path: a JPEG, PNG or WebP.
        output_path: where the result goes, as large as the picture; its extension sets the format.
        style: of multi_style, a style or shares of several, as ``styles.style_weights`` takes
            them; when left out, fast_neural_style paints in the one that it was exported with.
        url: host and port of that service of Triton.
        protocol: "http" or "grpc".

    Raises:
        ImageError: the picture cannot be read, or the result not written.
        StyleError: there is no such style.
        ClientError: the server refused the request, or (NoAnswerError) did not respond.
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


def infer(
    *inputs: np.ndarray, model: str = MODEL, url: str = DEFAULT_URL, protocol: str = "http"
) -> np.ndarray:
    """Send a request to a served model and return its first output.

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
        ClientError: the server refused the request, or (NoAnswerError) did not respond.
    """
    _check(url, protocol)
    # Not at the top: gevent, or gRPC, comes with it and takes 0.2 s.
    triton = importlib.import_module(f"tritonclient.{protocol}")
    tensors = [_tensor(triton, f"INPUT_{i}", array) for i, array in enumerate(inputs)]
    wanted = [triton.InferRequestedOutput("OUTPUT_0")]
    # Over HTTP the client has been told its limits, over gRPC each call is.
    limits = {"client_timeout": ANSWER_SECONDS} if protocol == "grpc" else {}
    with _client(triton, url) as client:
        try:
            output = client.infer(model, tensors, outputs=wanted, **limits).as_numpy("OUTPUT_0")
            if output is None:
                raise LookupError("OUTPUT_0")
            return output
        except InferenceServerException as error:
            if error.status() in NO_ANSWER:
                raise _no_answer(url, error.message()) from error
            if not _is_ready(client, model, limits):
                raise NoAnswerError(
                    f"Triton at {url} does not serve {model} at the moment ({error}); "
                    "is it running with this model, and ready?"
                ) from error
            raise ClientError(f"Triton at {url} refused the request: {error.message()}") from error
        except OSError as error:
            raise _no_answer(url, error) from error
        except Exception as error:
            # tritonclient reads whatever a program on that port sent, or half a response, and
            # raises what comes of it: HTTPParseError, ValueError, KeyError, TypeError, ...
            reason = f"the response was incomplete or not from Triton: {error!r}"
            raise _no_answer(url, reason) from error


def _check(url: str, protocol: str) -> None:
    if protocol not in DEFAULT_URLS:
        raise ClientError(f"there is no protocol {protocol!r}; use http or grpc")
    try:
        address = urlsplit(f"//{url}")
        _ = address.port  # read only now: not a number, or above 65535, is a ValueError
        (address.hostname or "").encode("idna")  # a UnicodeError is a ValueError
    except ValueError:
        address = None
    if not address or not address.hostname or "://" in url:
        raise ClientError(f"{url!r} is not host:port; write it like {DEFAULT_URL}")


def _tensor(triton: ModuleType, name: str, array: np.ndarray):
    kind = np_to_triton_dtype(array.dtype)
    return triton.InferInput(name, array.shape, kind).set_data_from_numpy(array)


@contextlib.contextmanager
def _client(triton: ModuleType, url: str) -> Iterator:
    """Give tritonclient's client of a protocol, for one request: it belongs to one thread."""
    if triton.__name__ == "tritonclient.grpc":
        with triton.InferenceServerClient(url) as client:
            yield client
        return
    with (
        _own_hub(),
        triton.InferenceServerClient(
            url, connection_timeout=ANSWER_SECONDS, network_timeout=ANSWER_SECONDS
        ) as client,
    ):
        yield client


@contextlib.contextmanager
def _own_hub() -> Iterator[None]:
    """Leave nothing of gevent, through which tritonclient speaks HTTP, in a thread that had none.

    Each thread gets a hub: an event loop with two open files, and a thread that looks up names.
    All of that outlives the thread, unless the hub is destroyed.
    """
    from gevent import get_hub
    from gevent._hub_local import get_hub_if_exists  # gevent has no public name for it

    is_kept = threading.current_thread() is threading.main_thread() or get_hub_if_exists()
    try:
        yield
    finally:
        if not is_kept:
            get_hub().destroy(destroy_loop=True)


def _is_ready(client, model: str, limits: Mapping[str, float]) -> bool:
    try:
        return client.is_model_ready(model, **limits)
    except Exception:  # whatever came instead of a response, as above
        return False


def _no_answer(url: str, reason: object) -> NoAnswerError:
    return NoAnswerError(f"Triton does not respond at {url} ({reason}); is it running and ready?")
