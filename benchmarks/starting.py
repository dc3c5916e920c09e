"""How long the first response takes, and how much memory a server uses."""

import contextlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure
from tritonclient.http import InferenceServerClient

from report import Ratio, Section, Table
from served import MB, peak, processes, style_graph, write_model
from serving_kit.client.images import load_image
from serving_kit.models import SIZE
from serving_kit.paths import CAT
from serving_kit.server.supervisor import STUB
from serving_kit.server.triton import TritonServer
from turns import Summary
from ways import MODEL, by_tritonclient

ROUNDS = 5
LOAD_SECONDS = 300
READY, LOADING, FIRST, NEXT = (
    "server: start() to ready, with the model",
    "model: load it into a running server",
    "the first request after ready",
    "the second request",
)
PROCESSES = {
    "supervisor": "the kit's supervisor",
    "tritonserver": "tritonserver",
    STUB: "stub (model.py)",
    "worker": "worker (OneFlow)",
}

TEXT = f"""\
`fast_neural_style` alone in a repository, {SIZE} x {SIZE}, one instance; every start is a new
server. Memory after three requests: resident now, and at the peak (VmHWM). The sums count
shared memory more than once."""


def measure(rounds: int) -> Section:
    """Start servers, load the model, and look at the last one's processes."""
    image, _, _ = load_image(CAT, SIZE, SIZE)
    milliseconds: dict[str, list[float]] = {name: [] for name in (READY, LOADING, FIRST, NEXT)}
    memory = {}
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder) / "models"
        write_model(models, MODEL, style_graph(), "max_batch_size: 1")
        for _ in range(rounds):
            with (
                TritonServer(models, mode="local", model_control=True) as server,
                contextlib.ExitStack() as stack,
            ):
                milliseconds[READY].append(server.ready_after * 1000)
                request = stack.enter_context(by_tritonclient(server.url, {"INPUT_0": image}))
                milliseconds[FIRST].append(_time(request))
                milliseconds[NEXT].append(_time(request))
                request()
                memory = {
                    kind: (process.memory_info().rss / MB, peak(process))
                    for kind, process in processes(server).items()
                }
                milliseconds[LOADING].append(_time_load(server))
    return _section({name: Summary.of([ms]) for name, ms in milliseconds.items()}, memory)


def _time(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1000


def _time_load(server: TritonServer) -> float:
    """Return how long the model takes to load once it was unloaded, ms."""
    with InferenceServerClient(server.url, network_timeout=LOAD_SECONDS) as client:
        client.unload_model(MODEL)
        while client.is_model_ready(MODEL):
            time.sleep(0.05)
        return _time(lambda: client.load_model(MODEL))


def _section(seen: dict[str, Summary], memory: dict[str, tuple[float, float]]) -> Section:
    times = [[name, s.median, s.least, s.p95, s.runs] for name, s in seen.items()]
    rows = [[label, *memory[kind]] for kind, label in PROCESSES.items()]
    rows.append(["sum", *(sum(column) for column in zip(*memory.values(), strict=True))])
    served = sum(memory[kind][1] for kind in PROCESSES if kind != "supervisor")
    return Section(
        "Start and memory",
        TEXT,
        [
            Table(["", "median, ms", "least", "p95", "times"], times),
            Table(["process", "resident, MB", "peak, MB"], rows),
        ],
        [
            Ratio(
                "peak memory of tritonserver, stub and worker, GB", served / 1000, "1.2 at most"
            )
        ],
        "starting",
        lambda figure: _draw(figure, seen, memory),
    )  # fmt: skip


def _draw(figure: Figure, seen: dict[str, Summary], memory: dict[str, tuple[float, float]]) -> None:
    times, peaks = figure.subplots(2, 1)
    labels = list(seen)[::-1]
    bars = times.barh(labels, [seen[name].median / 1000 for name in labels], color="#4878a8")
    times.bar_label(bars, fmt=" %.2f")
    times.margins(x=0.1)
    times.set_xlabel("seconds, median")
    labels = list(PROCESSES)[::-1]
    bars = peaks.barh([PROCESSES[kind] for kind in labels], [memory[kind][1] for kind in labels])
    peaks.bar_label(bars, fmt=" %.0f")
    peaks.margins(x=0.1)
    peaks.set_xlabel("peak memory, MB")
