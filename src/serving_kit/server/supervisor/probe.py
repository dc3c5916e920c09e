"""Tell whether every model of the Triton in this container responds to requests.

None of Triton's health addresses does: they go on saying 200 when the process died in which the
python backend runs a model. So each model is sent a request of zeros. Two kinds of models are
spared it, because a probe must not take a server out of service for being busy: one that has just
responded to a client, and one whose requests wait while others succeed.
"""

import contextlib
import json
import math
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .api import Api
from .web import request

#: A model that responded within this time is not sent anything.
RECENT_SECONDS = 5
#: How long a model may take over the zeros. Kubernetes' timeout has to be longer than these two.
RUN_SECONDS = 5
SECONDS = 2
#: Of Triton's response to a request for a model whose process died, with the status 500.
DEAD = b"is not healthy"


def run_probe() -> str:
    """Return in one sentence why this container should get no requests; empty if it should."""
    command = command_of_triton()
    if command is None:
        return "tritonserver is not running"
    try:
        return why_not_ready(Api(command))
    except (OSError, ValueError) as error:
        return f"Triton does not respond ({error})"


def command_of_triton() -> list[str] | None:
    """Return the command line of the tritonserver that runs here; None without one."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = [word.decode(errors="replace") for word in file.read_bytes().split(b"\0")]
            if Path(words[0]).name == "tritonserver":
                return words[:-1]
    return None


def why_not_ready(api: Api) -> str:
    """Return in one sentence which models do not respond, and why; empty if all do.

    Raises:
        OSError: Triton does not respond.
        ValueError: its response is none of Triton's.
    """
    # A state is missing where the model was never to be loaded.
    models = [each for each in _get(api, "/v2/repository/index", "{}") if "state" in each]
    if not models:
        return "no model is loaded"
    ready = [model for model in models if model["state"] == "READY"]
    # A model that Triton loads again beside the old one stays ready, and so does one of which only
    # an old version was unloaded.
    missing = {model["name"]: model for model in models}
    for model in ready:
        missing.pop(model["name"], None)
    reasons = [f"{name} is not loaded: {_reason(model)}" for name, model in missing.items()]
    with ThreadPoolExecutor(len(models)) as pool:
        dead = list(pool.map(lambda model: _is_dead(api, _path(model)), ready))
    reasons += [
        f"the process that serves {model['name']} died"
        for model, is_dead in zip(ready, dead, strict=True)
        if is_dead
    ]
    return "; ".join(reasons)


def _reason(model: dict) -> str:
    return model.get("reason", model["state"].lower()).partition("\n")[0]


def _path(model: dict) -> str:
    return f"/v2/models/{model['name']}/versions/{model['version']}"


def _is_dead(api: Api, path: str) -> bool:
    last, successes, failures = _statistics(api, path)
    config = _get(api, f"{path}/config")
    # An ensemble has no process, and its steps are models themselves.
    if time.time() - last < RECENT_SECONDS or "ensemble_scheduling" in config:
        return False
    body, headers = zeros(config)
    try:
        status, text = request(
            api.address, api.port, f"{path}/infer", body, headers, seconds=RUN_SECONDS
        )
    except TimeoutError:
        # Triton takes a second over each request for a dead process, and others wait meanwhile.
        _, successes_then, failures_then = _statistics(api, path)
        return failures_then > failures and successes_then == successes
    # Any other failure is the model's own, by which it shows that it lives.
    return status == 500 and DEAD in text


def _statistics(api: Api, path: str) -> tuple[float, int, int]:
    """Return when a model last responded, in seconds; and how many requests succeeded and failed.

    A response that a model itself makes an error counts as a success here.
    """
    (found,) = _get(api, f"{path}/stats")["model_stats"]
    counts = found["inference_stats"]
    return found["last_inference"] / 1000, counts["success"]["count"], counts["fail"]["count"]


def zeros(config: dict) -> tuple[bytes, dict[str, str]]:
    """Return the smallest request that a model's configuration allows, in binary, and its headers.

    A dimension of any size is 1, and so is the batch. Text is empty.
    """
    inputs, sizes = [], []
    for tensor in config["input"]:
        if tensor.get("optional"):
            continue
        shape = [max(1, int(size)) for size in tensor["dims"]]
        shape = [1, *shape] if config["max_batch_size"] else shape
        kind, item = _kind(tensor["data_type"])
        sizes.append(item * math.prod(shape))
        parameters = {"binary_data_size": sizes[-1]}
        inputs.append(
            {"name": tensor["name"], "shape": shape, "datatype": kind, "parameters": parameters}
        )
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    headers = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(head)),
    }
    return head + bytes(sum(sizes)), headers


def _kind(data_type: str) -> tuple[str, int]:
    """Return the name of a type in requests, and the bytes of an element: of text, its length."""
    name = data_type.removeprefix("TYPE_")
    if name == "STRING":
        return "BYTES", 4
    bits = re.search(r"\d+", name)
    return name, int(bits[0]) // 8 if bits else 1


def _get(api: Api, path: str, body: str | None = None):
    status, text = request(api.address, api.port, path, body, dict(_headers(api)), SECONDS)
    if status != 200:
        raise OSError(f"{status} from {path}: {text.decode(errors='replace')}")
    return json.loads(text)


def _headers(api: Api) -> Sequence[Sequence[str]]:
    """Return what opens model control, which is closed to others than the supervisor."""
    return [api.control["header"]] if api.control else []
