"""A real Triton with a model that takes its time, to try a learner's queue policy on."""

import contextlib
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tritonclient.http as httpclient
from tritonclient.utils import InferenceServerException

from serving_kit.client import infer
from serving_kit.errors import ClientError
from serving_kit.exercises._answers import NotYet, first_line
from serving_kit.language import _
from serving_kit.repository.config import CONFIG
from serving_kit.server import TritonServer, causes_in

SLOW = "slow"
#: What it takes for a request.
SECONDS = 0.2
#: What the learner's lines are added to.
WITHOUT_POLICY = """
backend: "python"
max_batch_size: 1
input [ { name: "INPUT_0" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [ { name: "OUTPUT_0" data_type: TYPE_FP32 dims: [ 1 ] } ]
instance_group [ { kind: KIND_CPU } ]
"""
CODE = f"""
import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        time.sleep({SECONDS})
        array = pb_utils.get_input_tensor_by_name(request, "INPUT_0").as_numpy()
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT_0", array)])
"""


@contextlib.contextmanager
def empty_server() -> Iterator[TritonServer]:
    """Start a real Triton that loads models when told to."""
    with (
        tempfile.TemporaryDirectory() as repository,
        TritonServer(repository, mode="local", model_control=True) as server,
    ):
        yield server


def load(server: TritonServer, policy: str) -> None:
    """Load the slow model with these lines of config.pbtxt.

    Raises:
        NotYet: Triton refuses them.
    """
    version = server.model_repository / SLOW / "1"
    version.mkdir(parents=True, exist_ok=True)
    (version / "model.py").write_text(CODE)
    (version.parent / CONFIG).write_text(WITHOUT_POLICY + policy)
    with contextlib.closing(httpclient.InferenceServerClient(server.url)) as client:
        old = len(server.log())
        try:
            client.load_model(SLOW)
        except InferenceServerException as error:
            cause = next(iter(causes_in(server.log()[old:])), first_line(error))
            raise NotYet(_("Triton cannot load this: {cause}").format(cause=cause)) from None


def ask_at_once(url: str, requests: int) -> list[str]:
    """Send requests at the same time; return "answered" or the error for each."""

    def ask(_number: int) -> str:
        try:
            infer(np.ones((1, 1), np.float32), model=SLOW, url=url)
        except ClientError as error:
            return str(error.__cause__)
        return "answered"

    with ThreadPoolExecutor(requests) as pool:
        return list(pool.map(ask, range(requests)))
