"""Lesson 06, start Triton: waiting until it is ready, and reading its statistics."""

import contextlib
import socket
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import tritonclient.http as httpclient
from tritonclient.utils import InferenceServerException

from serving_kit.exercises._answers import NotYet, call, describe, one_number
from serving_kit.exercises._in_time import SECONDS, call_in_time
from serving_kit.server import TritonServer
from serving_kit.server.ports import HOST

#: How long the learner's function is told to wait for what never comes.
SHORT = 1
#: And how long it may take to notice that, on a busy machine.
NOTICE_SECONDS = 10


def exercise_1(wait_until_ready: Callable) -> str:
    """Check a function that waits for a server: for one that is away, comes, or is not ready."""
    with _held_port() as port, tempfile.TemporaryDirectory() as repository:
        url = f"{HOST}:{port}"
        if _wait(wait_until_ready, url, SHORT):
            raise NotYet("it says True where nobody listens.")
        # A real Triton, but an empty one: it starts in a moment.
        server = TritonServer(repository, mode="local", http_port=port, model_control=True)
        with ThreadPoolExecutor(1) as pool:
            starting = pool.submit(server.start)
            try:
                _check_waiting(wait_until_ready, url, starting, server)
            finally:
                starting.result()
                server.stop()
    return "It waits for a server that comes, and does not wait for ever."


@contextlib.contextmanager
def _held_port() -> Iterator[int]:
    """Give a port on which nobody listens, and which nobody else is given meanwhile.

    A socket that is bound and does not listen refuses connections; Triton, which sets
    SO_REUSEADDR too, can still listen there.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((HOST, 0))
        yield held.getsockname()[1]


def _check_waiting(
    wait_until_ready: Callable, url: str, starting: Future, server: TritonServer
) -> None:
    """Have a learner's function wait for a server that starts, and for one that is not ready."""
    ready = _wait(wait_until_ready, url, SECONDS)
    starting.result()
    if not ready:
        raise NotYet(
            "the server became ready while your function waited, but it says False; "
            "does it ask again after the first failure?"
        )
    _make_unready(server)
    if _wait(wait_until_ready, url, SHORT):
        raise NotYet(
            "it says True of a server that lives, but answers 400 at /v2/health/ready; "
            "look at the status, not only for an answer."
        )


def _wait(wait_until_ready: Callable, url: str, seconds: float) -> bool:
    limit = NOTICE_SECONDS if seconds == SHORT else 2 * SECONDS
    try:
        found = call_in_time(wait_until_ready, url, seconds, seconds=limit)
    except NotYet as hint:
        if "still at work" in str(hint):
            raise NotYet(f"{hint} It was given {seconds}.") from None
        raise
    if not isinstance(found, bool | np.bool_):
        raise NotYet(f"your function returned {describe(found)}; let it return True or False.")
    return bool(found)


def _make_unready(server: TritonServer) -> None:
    """Have a server load a model that cannot be loaded."""
    model = server.model_repository / "broken"
    model.mkdir()
    (model / "config.pbtxt").write_text('backend: "oneflow"\n')
    client = httpclient.InferenceServerClient(server.url)
    with contextlib.closing(client), contextlib.suppress(InferenceServerException):
        client.load_model(model.name)


def exercise_2(mean_milliseconds: Callable) -> str:
    """Check a function that takes a mean time from what Triton counted before and after."""
    # As in lesson 06: totals since the server started, in nanoseconds.
    before, after = statistics(3, 9_000_000_000), statistics(5, 9_300_000_000)
    found = one_number(call(mean_milliseconds, before, after))
    hints = {
        1860.0: "that is the mean since the server started; what happened in between?",
        300.0: "that is the time of all requests in between; how many were they?",
        150_000_000.0: "that is nanoseconds; a millisecond has a million of them.",
        0.15: "that is seconds.",
        120.0: "that is compute_infer, the model's part alone; success has the whole request.",
    }
    if not np.isclose(found, 150.0):
        hint = next((hints[h] for h in hints if np.isclose(found, h)), "expected 150.")
        raise NotYet(f"you found {found:g} for two requests that took 300 ms together: {hint}")
    if not np.isclose(call(mean_milliseconds, after, after), 0.0):
        raise NotYet("right, but without a request in between, let it return 0.")
    return "Counters that only grow: subtract, then divide. Prometheus does the same."


def statistics(requests: int, nanoseconds: int) -> dict:
    """Return statistics of a model, in the form that ``get_inference_statistics`` gives."""
    parts = {"success": 1.0, "queue": 0.1, "compute_input": 0.05, "compute_infer": 0.8}
    counted = {
        name: {"count": requests, "ns": int(nanoseconds * share)} for name, share in parts.items()
    }
    counted["fail"] = {"count": 1, "ns": 7_000_000}
    return {
        "model_stats": [
            {
                "name": "fast_neural_style",
                "version": "1",
                "inference_count": requests,
                "execution_count": requests,
                "inference_stats": counted,
            }
        ]
    }
