"""Lesson 08, batch and scale: the average batch from the metrics, and a queue that refuses."""

import contextlib
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tritonclient.http as httpclient
from tritonclient.grpc.model_config_pb2 import ModelQueuePolicy
from tritonclient.utils import InferenceServerException

from serving_kit.client import infer
from serving_kit.errors import ClientError, ConfigError
from serving_kit.exercises._answers import NotYet, call, first_line, one_number
from serving_kit.repository.config import CONFIG
from serving_kit.repository.config_text import parse_config
from serving_kit.server import TritonServer, causes_in

SLOW = "slow"
#: What the learner's lines are added to.
WITHOUT_POLICY = """
backend: "python"
max_batch_size: 1
input [ { name: "INPUT_0" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [ { name: "OUTPUT_0" data_type: TYPE_FP32 dims: [ 1 ] } ]
instance_group [ { kind: KIND_CPU } ]
"""
CODE = """
import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        time.sleep(0.2)
        array = pb_utils.get_input_tensor_by_name(request, "INPUT_0").as_numpy()
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT_0", array)])
"""
AT_ONCE = 8
SECONDS = 0.2
MAY_WAIT = 100
MICROSECONDS = 500_000


def exercise_1(average_batch: Callable) -> str:
    """Check a function that takes the average batch of a model from two texts of /metrics."""
    # The painter comes first, and its last version has run nothing yet.
    before = metrics(painter=[(40, 10)], finder=[(100, 100), (0, 0)])
    after = metrics(painter=[(70, 20)], finder=[(260, 110), (80, 20)])
    found = one_number(call(average_batch, before, after, "finder"))
    hints = {
        3.0: "that is the painter's, which comes first in the text.",
        3.5: "that is the painter's since the server started.",
        340 / 130: "that is the average since the server started; what happened in between?",
        16.0: "that is version 1 alone; version 2 ran 80 rows in 20 runs.",
        4.0: "that is version 2 alone; version 1 ran 160 rows in 10 runs.",
        10.0: "that is the average of two averages; but one version ran more often than the other.",
        0.125: "that is runs through rows.",
        240.0: "that is the number of rows; in how many runs?",
    }
    if not np.isclose(found, 8.0):
        hint = next((hints[h] for h in hints if np.isclose(found, h)), "expected 8.")
        raise NotYet(f"you found {found:g} for 240 rows in 30 runs: {hint}")
    if not np.isclose(one_number(call(average_batch, after, after, "finder")), 0.0):
        raise NotYet("right, but without a run in between, let it return 0.")
    return "Rows through runs: whether Triton makes batches, at a glance."


def metrics(**models: list[tuple[int, int]]) -> str:
    """Return a text of /metrics: for each model, rows and runs of version 1, 2 and so on."""
    lines = []
    for i, (name, what) in enumerate(
        (("nv_inference_count", "inferences performed"), ("nv_inference_exec_count", "executions"))
    ):
        lines += [f"# HELP {name} Number of {what}", f"# TYPE {name} counter"]
        for model, versions in models.items():
            for version, counts in enumerate(versions, start=1):
                lines.append(f'{name}{{model="{model}",version="{version}"}} {counts[i]}')
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def empty_server() -> Iterator[TritonServer]:
    """Start a real Triton that loads models when told to."""
    with (
        tempfile.TemporaryDirectory() as repository,
        TritonServer(repository, mode="local", model_control=True) as server,
    ):
        yield server


def exercise_2(policy: str) -> str:
    """Check lines of config.pbtxt that have Triton refuse what is too much."""
    try:
        config = parse_config(policy, CONFIG)
    except ConfigError as error:
        line = f" in line {error.line}" if error.line else ""
        raise NotYet(f"Triton could not read this{line}: {error.sentence}.") from None
    if config.dynamic_batching.HasField("default_queue_policy"):
        _check_limits(config.dynamic_batching.default_queue_policy)
    with empty_server() as server:
        load(server, policy)
        said = Counter(_ask_at_once(server.url))
    _check_flood(said)
    return f"{said['answered']} of {AT_ONCE} were answered, {AT_ONCE - said['answered']} were told."


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
            (cause, *_) = [*causes_in(server.log()[old:]), first_line(error)]
            raise NotYet(f"Triton cannot load this: {cause}") from None


def _ask_at_once(url: str) -> list[str]:
    """Send all requests at the same time; return what was said to each."""

    def ask(_) -> str:
        try:
            infer(np.ones((1, 1), np.float32), model=SLOW, url=url)
        except ClientError as error:
            return str(error.__cause__)
        return "answered"

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(ask, range(AT_ONCE)))


def _check_limits(limits: ModelQueuePolicy) -> None:
    """Look whether both limits are there, and as asked for."""
    found = limits.default_timeout_microseconds
    if not found:
        raise NotYet("nobody is refused who has waited for half a second; what limits the time?")
    if found != MICROSECONDS:
        raise NotYet(f"the limit of time is {found / 1e6:g} s, expected {MICROSECONDS / 1e6:g}.")
    if limits.timeout_action != ModelQueuePolicy.REJECT:
        raise NotYet("with DELAY, who has waited too long waits on, behind all others.")
    found = limits.max_queue_size
    if found != MAY_WAIT:
        raise NotYet(
            f"the time is right; {found or 'as many as like'} may wait, expected {MAY_WAIT}."
        )


def _check_flood(said: Counter) -> None:
    """Find out whether some were answered, and the others refused."""
    strange = [words for words in said if words != "answered" and "[503]" not in words]
    if strange:
        raise NotYet(f"Triton loads it, but answers: {strange[0]}")
    if said["answered"] == AT_ONCE:
        raise NotYet(
            f"all {AT_ONCE} requests were answered, the last after {AT_ONCE * SECONDS:g} s; nobody "
            "was refused."
        )
