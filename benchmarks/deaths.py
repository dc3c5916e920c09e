"""What the death of a stub costs the clients of its model."""

import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from report import Section, Table
from served import processes, style_graph, write_model
from serving_kit.client.images import load_image
from serving_kit.client.inference import infer
from serving_kit.errors import ClientError, ServerError
from serving_kit.models import SIZE
from serving_kit.paths import CAT
from serving_kit.server import TritonServer, supervisor

CLIENTS = 8
#: What is measured before the death, and after the model was loaded again.
BEFORE_SECONDS, AFTER_SECONDS = 3, 12
LOAD_SECONDS = 120
ROUNDS = 3
MODEL = "painter"

TEXT = f"""\
{CLIENTS} clients send requests of 1x3x{SIZE}x{SIZE} one after the other, and one stub of the model
is killed. The supervisor has Triton load the model again, beside the old one. The requests that
fail are those that the dead stub had, or took meanwhile; the times are from the death on."""


@dataclass(frozen=True)
class Request:
    """One request of a client: when it began and ended, and whether it failed."""

    began: float
    ended: float
    failed: bool


def measure(rounds: int) -> Section:
    """Kill stubs of a model with one and with two instances, over HTTP and gRPC."""
    header = ["instances, protocol", "requests", "failed", "last failure after, s",
              "loaded again after, s", "longest time without a good response, s"]  # fmt: skip
    cases = [(count, protocol) for count in (1, 2) for protocol in ("http", "grpc")]
    rows = [row(*case) for _ in range(rounds) for case in cases]
    return Section("The death of a stub", TEXT, [Table(header, rows)])


def row(instances: int, protocol: str) -> list[object]:
    """Return a row of the table, of one death."""
    image, _, _ = load_image(CAT, SIZE, SIZE)
    config = f"max_batch_size: 1\ninstance_group [ {{ count: {instances}, kind: KIND_CPU }} ]"
    with tempfile.TemporaryDirectory() as name:
        write_model(Path(name), MODEL, style_graph(), config)
        with TritonServer(name, mode="local") as server:
            death, loaded, requests = kill_under_load(server, image, protocol)
    after = sorted((r for r in requests if r.ended > death), key=lambda r: r.ended)
    failures = [r.ended - death for r in after if r.failed]
    good = [death, *(r.ended for r in after if not r.failed)]
    return [
        f"{instances}, {protocol}",
        len(after),
        len(failures),
        max(failures, default=0.0),
        loaded - death,
        float(np.diff(good).max()),
    ]


def kill_under_load(
    server: TritonServer, image: np.ndarray, protocol: str
) -> tuple[float, float, list[Request]]:
    """Return when a stub was killed, when its model was loaded again, and what clients saw."""
    url = server.url if protocol == "http" else server.grpc_url
    requests, is_over = [], threading.Event()

    def work() -> None:
        while not is_over.is_set():
            began, failed = time.monotonic(), False
            try:
                infer(image, model=MODEL, url=url, protocol=protocol)
            except ClientError:
                failed = True
            requests.append(Request(began, time.monotonic(), failed))

    clients = [threading.Thread(target=work) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        time.sleep(BEFORE_SECONDS)
        death = time.monotonic()
        processes(server)[supervisor.STUB].kill()
        loaded = wait_until_loaded_again(server)
        time.sleep(AFTER_SECONDS)
    finally:
        is_over.set()
        for client in clients:
            client.join()
    return death, loaded, requests


def wait_until_loaded_again(server: TritonServer) -> float:
    """Return when the supervisor says that the model is loaded again."""
    deadline = time.monotonic() + LOAD_SECONDS
    while f"{MODEL} is loaded again" not in server.log():
        if time.monotonic() > deadline:
            raise ServerError(f"{MODEL} was not loaded again within {LOAD_SECONDS} s")
        time.sleep(0.05)
    return time.monotonic()
