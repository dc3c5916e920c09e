"""Ask a running Triton to stylize a picture: what the command line, the demo and the tests use."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tritonclient.http as httpclient
from tritonclient.utils import InferenceServerException

from serving_kit.errors import ClientError
from serving_kit.images import read_image, recover_image, to_model, write_image
from serving_kit.models import ONE_STYLE as MODEL
from serving_kit.models import SIZE

DEFAULT_URL = "127.0.0.1:8000"


class _Client(httpclient.InferenceServerClient):
    """A client that Ctrl-C may interrupt while it is made.

    tritonclient's ``__del__`` asks for ``_closed``, which ``__init__`` sets last, and would print
    a traceback.
    """

    _closed = True


@dataclass(frozen=True)
class Stylized:
    """What ``stylize`` did: both pictures (uint8 BGR), what the model took and gave, and time."""

    before: np.ndarray
    after: np.ndarray
    model_input: np.ndarray
    model_output: np.ndarray
    milliseconds: float


def stylize(
    content_path: str | Path, output_path: str | Path, *, url: str = DEFAULT_URL
) -> Stylized:
    """Stylize a picture file through Triton, over HTTP.

    Args:
        content_path: any picture that OpenCV reads.
        output_path: where the result goes, as large as the picture; its ending says the format.
        url: host and port of Triton's HTTP service.

    Raises:
        ImageError: the picture cannot be read, or the result not written.
        ClientError: the server refused the request or did not answer.
    """
    before = read_image(content_path)
    model_input = to_model(before, SIZE, SIZE)
    began = time.perf_counter()
    model_output = infer(model_input, url=url)
    milliseconds = (time.perf_counter() - began) * 1000
    after = recover_image(model_output, *before.shape[:2])
    write_image(output_path, after)
    return Stylized(before, after, model_input, model_output, milliseconds)


def infer(*inputs: np.ndarray, model: str = MODEL, url: str = DEFAULT_URL) -> np.ndarray:
    """Send a request to a served model and return its answer.

    Args:
        inputs: float32, INPUT_0, INPUT_1 and so on. For fast_neural_style the image,
            (1, 3, H, W), RGB, 0 to 255; for multi_style n images, (n, 3, H, W), and as many rows
            of ``styles.style_weights``, (n, 26).
        model: the model's name in the repository.
        url: host and port of Triton's HTTP service.

    Returns:
        OUTPUT_0; of these models float32 (n, 3, H, W), RGB, 0 to 255.

    Raises:
        ClientError: the server refused the request or did not answer.
    """
    tensors = []
    for i, array in enumerate(inputs):
        tensors.append(httpclient.InferInput(f"INPUT_{i}", array.shape, "FP32"))
        tensors[-1].set_data_from_numpy(array, binary_data=True)
    wanted = httpclient.InferRequestedOutput("OUTPUT_0", binary_data=True)
    # One client belongs to one thread; making one costs less than a millisecond.
    client = _Client(url=url)
    try:
        return client.infer(model, inputs=tensors, outputs=[wanted]).as_numpy("OUTPUT_0")
    except InferenceServerException as error:
        raise ClientError(f"Triton at {url} refused the request: {error.message()}") from error
    except OSError as error:
        raise ClientError(
            f"Triton does not answer at {url} ({error}); is it started, and ready?"
        ) from error
    finally:
        client.close()
