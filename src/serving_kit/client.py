"""Ask a running Triton to stylize a picture: what the command line, the demo and the tests use."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tritonclient.http as httpclient
from tritonclient.utils import InferenceServerException

from serving_kit.errors import ClientError
from serving_kit.images import read_image, recover_image, to_model, write_image
from serving_kit.models import SIZE

MODEL = "fast_neural_style"
DEFAULT_URL = "127.0.0.1:8000"


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


def infer(image: np.ndarray, *, model: str = MODEL, url: str = DEFAULT_URL) -> np.ndarray:
    """Send one image to a served model and return its answer.

    Args:
        image: float32 (1, 3, H, W), RGB, 0 to 255.
        model: the model's name in the repository.
        url: host and port of Triton's HTTP service.

    Returns:
        float32 (1, 3, H, W), RGB, 0 to 255.

    Raises:
        ClientError: the server refused the request or did not answer.
    """
    request = httpclient.InferInput("INPUT_0", image.shape, "FP32")
    request.set_data_from_numpy(image, binary_data=True)
    wanted = httpclient.InferRequestedOutput("OUTPUT_0", binary_data=True)
    # One client belongs to one thread; making one costs less than a millisecond.
    client = httpclient.InferenceServerClient(url=url)
    try:
        return client.infer(model, inputs=[request], outputs=[wanted]).as_numpy("OUTPUT_0")
    except InferenceServerException as error:
        raise ClientError(f"Triton at {url} refused the request: {error.message()}") from error
    except OSError as error:
        raise ClientError(
            f"Triton does not answer at {url} ({error}); is it started, and ready?"
        ) from error
    finally:
        client.close()
