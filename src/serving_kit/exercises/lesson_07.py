"""Lesson 07, send requests: inputs for any model, many requests at once, retries in time."""

import contextlib
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tritonclient.http as httpclient
from tritonclient.utils import np_to_triton_dtype

from serving_kit.exercises import _retries
from serving_kit.exercises._answers import NotYet, call, describe
from serving_kit.exercises._in_time import call_in_time
from serving_kit.exercises._quiz import mark_quiz
from serving_kit.language import _
from serving_kit.server import TritonServer

HINTS = {
    1: (
        _("An InferInput needs the name of its data type. Which arrays have the type FP32?"),
        _(
            "tritonclient.utils.np_to_triton_dtype turns a NumPy dtype into Triton's name for it. "
            "And which method puts the numbers into an InferInput?"
        ),
        _(
            "InferInput(name, array.shape, np_to_triton_dtype(array.dtype)), then "
            "set_data_from_numpy(array), for each array."
        ),
    ),
    2: (
        _(
            "In section 5 a request was sent while something else was done. That something can be "
            "the next request."
        ),
        _(
            "Either send all with async_infer and fetch the results afterwards, or use a thread "
            "for each picture, as in section 6, with a client of its own."
        ),
        _(
            "InferenceServerClient(url, concurrency=len(pictures)); one list of async_infer(...), "
            "then [request.get_result().as_numpy(...) for request in that list]."
        ),
    ),
    3: (
        _(
            "Start from retry in section 11. What stands there for the number of attempts is now a "
            "question to the clock."
        ),
        _(
            "Note clock() at the start. After an error, choose the pause first; if clock() + pause "
            "is later than the start + seconds, raise the error."
        ),
        _(
            "pause = random.uniform(0, min(2.0, 0.1 * 2**attempt)); then `if not "
            "may_succeed(error) or clock() + pause > began + seconds: raise`, and only then "
            "sleep(pause)."
        ),
    ),
}
QUIZ_KEY = "bdacbdac"
QUIZ_WHY = (
    _("the first number of a request's shape is the batch; dims leave it out (lesson 05)."),
    _("Triton can read another file on other machines (lesson 05, a machine without a GPU)."),
    _("all health addresses say 200 while the stub is dead (lesson 06)."),
    _("most of the time is not spent in the model, but before it (lesson 06, statistics)."),
    _("a 404 is about the name at this moment (lesson 07, section 10)."),
    _("an HTTP client belongs to one thread (lesson 07, section 6)."),
    _("what content type does curl declare with -d? (lesson 07, section 8)"),
    _("what keeps the clients from coming back all at the same moment? (lesson 07, section 11)"),
)
MODEL = "fast_neural_style"
#: Seconds. Triton counts a batch a moment after it has responded; when the machine is busy, it is
#: a long one.
COUNTED_WITHIN = 5
#: Takes the place of the real one, which would need seconds to load: it turns light into dark.
#: Requests wait half a second for others; how many came together is in Triton's statistics.
CONFIG = """
backend: "python"
max_batch_size: 4
input [ { name: "INPUT_0" data_type: TYPE_FP32 dims: [ 3, -1, -1 ] } ]
output [ { name: "OUTPUT_0" data_type: TYPE_FP32 dims: [ 3, -1, -1 ] } ]
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
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT_0", dark)])
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


def exercise_1(make_inputs: Callable) -> str:
    """Check a function that makes inputs of arrays of several types."""
    rows = np.arange(6).reshape(2, 3)
    arrays = {
        "INPUT_0": rows.astype(np.float32),
        "INPUT_1": rows.astype(np.int64),
        "MASK": rows > 2,
    }
    found = call(make_inputs, dict(arrays))
    if not isinstance(found, list | tuple):
        raise NotYet(
            _("your function returned {what}; let it return a list.").format(what=describe(found))
        )
    for tensor in found:
        if not isinstance(tensor, httpclient.InferInput):
            raise NotYet(
                _("the list has {what} in it; let each entry be an InferInput.").format(
                    what=describe(tensor)
                )
            )
    by_name = {tensor.name(): tensor for tensor in found}
    if sorted(by_name) != sorted(arrays) or len(found) != len(arrays):
        names = ", ".join(tensor.name() for tensor in found) or _("none")
        raise NotYet(
            _("its inputs are {names}; expected {expected}, each once.").format(
                names=names, expected=", ".join(arrays)
            )
        )
    for name, array in arrays.items():
        _check_input(by_name[name], name, array)
    return _("The same few lines send pictures, tokens and masks.")


def _check_input(tensor: httpclient.InferInput, name: str, array: np.ndarray) -> None:
    kind = np_to_triton_dtype(array.dtype)
    if tensor.datatype() != kind:
        raise NotYet(
            _("{name} is sent as {datatype}, but the array is {dtype}.").format(
                name=name, datatype=tensor.datatype(), dtype=array.dtype
            )
        )
    if list(tensor.shape()) != list(array.shape):
        raise NotYet(
            _("{name} has the shape {found}; the array has {expected}.").format(
                name=name, found=tensor.shape(), expected=list(array.shape)
            )
        )
    # tritonclient has no public way to look at the numbers: bytes, or a list for JSON.
    content, listed = tensor._get_binary_data(), tensor._get_tensor().get("data")
    if content is None and listed is None:
        raise NotYet(
            _("{name} has a name, a type and a shape, but no numbers in it yet.").format(name=name)
        )
    if content is None:
        content = np.array(listed, array.dtype).tobytes()
    if content != array.tobytes():
        raise NotYet(_("{name} holds other numbers than the array.").format(name=name))


def exercise_2(paint_all: Callable) -> str:
    """Check a function that sends pictures at the same time, by what Triton counted."""
    pictures = [np.full((1, 3, 256, 256), level, np.float32) for level in (10, 20, 30, 40)]
    with quick_server() as server:
        before = _batches(server.url)
        _check_answers(call_in_time(paint_all, server.url, pictures), pictures)
        together = _most_together(server.url, before, len(pictures))
    if together < 2:
        raise NotYet(
            _(
                "every painting is right, but Triton never had two requests at once: each was sent "
                "only after the response to the one before it."
            )
        )
    return _("Triton had {together} of your requests at once, and took them together.").format(
        together=together
    )


def _check_answers(found: object, pictures: list[np.ndarray]) -> None:
    """Raise unless each picture has its own painting, in the pictures' order."""
    if not isinstance(found, list | tuple) or len(found) != len(pictures):
        what = (
            _("{paintings} paintings").format(paintings=len(found))
            if isinstance(found, list | tuple)
            else describe(found)
        )
        raise NotYet(
            _("it returned {what}; let it return a list with a painting for each picture.").format(
                what=what
            )
        )
    levels = []
    for answer in found:
        if not isinstance(answer, np.ndarray):
            raise NotYet(
                _("a painting is {what}; let each be a NumPy array.").format(what=describe(answer))
            )
        levels.append(float(255 - answer.mean()))
    expected = [float(picture[0, 0, 0, 0]) for picture in pictures]
    if levels != expected:
        same = sorted(levels) == expected
        raise NotYet(
            _("all paintings came, but not in the order of the pictures.")
            if same
            else _(
                "some paintings are not those of their pictures; has every request its own data?"
            )
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


def exercise_3(retry_within: Callable) -> str:
    """Check a function that retries with pauses within a time limit, on a clock of our own."""
    _retries.check(retry_within)
    return _("It gives the server time to come back, and its user an error in time.")


def exercise_quiz(letters: str) -> str:
    """Mark the quiz about lessons 05 to 07."""
    return mark_quiz(letters, key=QUIZ_KEY, why=QUIZ_WHY)
