"""Lesson 07, send requests: reading a binary answer by hand, and many requests at once."""

import contextlib
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
import tritonclient.http as httpclient

from serving_kit.exercises._answers import NotYet, call, describe
from serving_kit.exercises._in_time import call_in_time
from serving_kit.server import TritonServer

MODEL = "fast_neural_style"
#: Seconds. Triton counts a batch a moment after it has answered; when the machine is busy, it is
#: a long one.
COUNTED_WITHIN = 5
#: Takes the place of the real one, which would need seconds to load: it turns light into dark.
#: Requests wait half a second for others; how many came together is in Triton's statistics.
CONFIG = """
backend: "python"
max_batch_size: 4
input [ { name: "INPUT_0" data_type: TYPE_FP32 dims: [ 3, -1, -1 ] } ]
output [
  { name: "OUTPUT_0" data_type: TYPE_FP32 dims: [ 3, -1, -1 ] },
  { name: "OUTPUT_1" data_type: TYPE_FP32 dims: [ 3 ] }
]
dynamic_batching { preferred_batch_size: [ 4 ] max_queue_delay_microseconds: 500000 }
instance_group [ { kind: KIND_CPU } ]
"""
CODE = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        dark = 255 - pb_utils.get_input_tensor_by_name(request, "INPUT_0").as_numpy()
        outputs = {"OUTPUT_0": dark, "OUTPUT_1": dark.mean(axis=(2, 3))}
        return pb_utils.InferenceResponse([pb_utils.Tensor(*item) for item in outputs.items()])
"""


@contextlib.contextmanager
def quick_server() -> Iterator[TritonServer]:
    """Start a real Triton whose fast_neural_style is a few lines of Python."""
    with tempfile.TemporaryDirectory() as repository:
        version = Path(repository, MODEL, "1")
        version.mkdir(parents=True)
        (version.parent / "config.pbtxt").write_text(CONFIG)
        (version / "model.py").write_text(CODE)
        with TritonServer(repository, mode="local") as server:
            yield server


def exercise_1(read_output: Callable) -> str:
    """Check a function that reads one output from a binary answer, on an answer of Triton."""
    call(read_output, *_made_up_answer())  # its errors are told before a server starts
    picture = np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2)
    expected = {"OUTPUT_0": 255 - picture, "OUTPUT_1": 255 - picture.mean(axis=(2, 3))}
    with quick_server() as server:
        headers, body = _ask(server.url, picture)
    for name, array in expected.items():
        found = call(read_output, headers, body, name)
        if not isinstance(found, np.ndarray):
            raise NotYet(f"your function returned {describe(found)}; let it return a NumPy array.")
        other = expected["OUTPUT_1" if name == "OUTPUT_0" else "OUTPUT_0"]
        if found.size == other.size and np.array_equal(found.ravel(), other.ravel()):
            raise NotYet(f"asked for {name}, it gave the other output; skip what lies before it.")
        if found.dtype != np.float32:
            raise NotYet(f"{name} came out as {found.dtype}; FP32 is NumPy's float32.")
        if found.size == sum(a.size for a in expected.values()):
            raise NotYet(f"asked for {name}, it gave both outputs; where does each one end?")
        if found.size == array.size and found.shape != array.shape:
            raise NotYet(f"{name} has the shape {found.shape}; the header says {array.shape}.")
        if not np.array_equal(found, array):
            raise NotYet(f"{name} came out as other numbers than Triton sent; where do they begin?")
    return "No client library needed: a header in JSON, then the numbers as they are."


def _made_up_answer() -> tuple[dict, bytes, str]:
    """Return headers and body of an answer with one output, and its name."""
    output = {
        "name": "OUTPUT_0",
        "datatype": "FP32",
        "shape": [2],
        "parameters": {"binary_data_size": 8},
    }
    header = json.dumps({"model_name": MODEL, "outputs": [output]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(header))}
    return headers, header + np.ones(2, np.float32).tobytes(), "OUTPUT_0"


def _ask(url: str, picture: np.ndarray) -> tuple[dict, bytes]:
    """Ask for all outputs in binary; return the headers and the body of the answer."""
    tensor = httpclient.InferInput("INPUT_0", picture.shape, "FP32")
    tensor.set_data_from_numpy(picture)
    body, length = httpclient.InferenceServerClient.generate_request_body([tensor])
    request = Request(
        f"http://{url}/v2/models/{MODEL}/infer",
        body,
        {
            "Inference-Header-Content-Length": str(length),
            "Content-Type": "application/octet-stream",
        },
    )
    with urlopen(request) as answer:
        return dict(answer.headers), answer.read()


def exercise_2(paint_all: Callable) -> str:
    """Check a function that sends pictures at the same time, by what Triton counted."""
    pictures = [np.full((1, 3, 256, 256), level, np.float32) for level in (10, 20, 30, 40)]
    with quick_server() as server:
        before = _batches(server.url)
        _check_answers(call_in_time(paint_all, server.url, pictures), pictures)
        together = _most_together(server.url, before, len(pictures))
    if together < 2:
        raise NotYet(
            "every answer is right, but Triton never had two requests at once: each was sent "
            "only when the one before it was answered."
        )
    return f"Triton had {together} of your requests at once, and took them together."


def _check_answers(found: object, pictures: list[np.ndarray]) -> None:
    """Raise unless each picture has its own answer, in the pictures' order."""
    if not isinstance(found, list | tuple) or len(found) != len(pictures):
        what = f"{len(found)} answers" if isinstance(found, list | tuple) else describe(found)
        raise NotYet(f"it returned {what}; let it return a list with an answer for each picture.")
    levels = []
    for answer in found:
        if not isinstance(answer, np.ndarray):
            raise NotYet(f"an answer is {describe(answer)}; let each be a NumPy array.")
        levels.append(float(255 - answer.mean()))
    expected = [float(picture[0, 0, 0, 0]) for picture in pictures]
    if levels != expected:
        same = sorted(levels) == expected
        raise NotYet(
            "all answers came, but not in the order of the pictures."
            if same
            else "some answers are not those of their pictures; does every request have its own?"
        )


def _batches(url: str) -> Counter:
    """Return how many batches of each size Triton has made since it started."""
    with contextlib.closing(httpclient.InferenceServerClient(url)) as client:
        (statistics,) = client.get_inference_statistics(MODEL)["model_stats"]
    made = {b["batch_size"]: b["compute_infer"]["count"] for b in statistics["batch_stats"]}
    return Counter(made)


def _most_together(url: str, before: Counter, rows: int) -> int:
    """Return the largest batch made since ``before``, once Triton has counted so many rows."""
    deadline = time.monotonic() + COUNTED_WITHIN
    while True:
        made = _batches(url) - before
        if sum(size * count for size, count in made.items()) >= rows:
            return max(made)
        if time.monotonic() > deadline:
            return max(made, default=0)
        time.sleep(0.02)
