"""What the backend costs: isolation, batching, instances, loading and memory.

``make bench`` runs it. Everything is measured in one run, side by side and interleaved, as
medians; what counts are the ratios. Absolute figures belong to the machine that is named.
"""

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import tritonclient.http as httpclient

from serving_kit.graph_folder import read_graph_folder
from serving_kit.models import repository_for
from serving_kit.server import TritonServer

ROUNDS = 15
SIZE = 256


def main() -> None:
    """Measure and print Markdown tables."""
    describe_machine()
    repository = repository_for()
    with tempfile.TemporaryDirectory() as folder:
        identity = Path(folder) / "identity" / "1" / "model"
        export("identity", identity)
        isolation(identity)
        serving(repository, identity, Path(folder))
        batching(repository, Path(folder))
        instances(repository, Path(folder))
        loading(repository / "fast_neural_style" / "1" / "model", identity)


def describe_machine() -> None:
    """Print what the figures belong to."""
    cpu = next(
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    )
    print(f"Machine: {cpu}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}, "
          f"{psutil.virtual_memory().total / 2**30:.0f} GiB\n")  # fmt: skip


def export(name: str, path: Path) -> None:
    """Save a graph that does next to nothing to a 1x3x256x256 image, in a process of its own."""
    code = (
        "import sys, os, oneflow as flow\n"
        "class G(flow.nn.Graph):\n"
        "    def build(self, x): return x + 1.0\n"
        f"g = G(); g(flow.zeros(1, 3, {SIZE}, {SIZE}))\n"
        "flow.save(g, sys.argv[1]); os._exit(0)"
    )
    path.parent.mkdir(parents=True)
    subprocess.run([sys.executable, "-c", code, path], check=True, stderr=subprocess.DEVNULL)


def interleaved(actions: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Return each action's median in ms; the actions take turns, so that drift meets all."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for action in actions.values():
        action()
    for _ in range(rounds):
        for name, action in actions.items():
            began = time.perf_counter()
            action()
            times[name].append((time.perf_counter() - began) * 1000)
    return {name: statistics.median(values) for name, values in times.items()}


def table(title: str, header: list[str], rows: list[list[object]]) -> None:
    """Print a Markdown table."""
    print(f"### {title}\n\n| {' | '.join(header)} |\n|{'---|' * len(header)}")
    for row in rows:
        print(f"| {' | '.join(f'{x:.2f}' if isinstance(x, float) else str(x) for x in row)} |")
    print(flush=True)


def isolated(path: Path, rows: int | None = None, sizes: list[int] | None = None):
    """Return a graph in a worker process, as the backend has it."""
    from isolation import IsolatedGraph

    return IsolatedGraph(
        read_graph_folder(path), "cpu", rows=rows, batch_sizes=sizes, run_seconds=60, retries=3,
        log=print,
    )  # fmt: skip


def isolation(path: Path) -> None:
    """What the way into the worker and back adds to a run of a 3x256x256 float32 graph."""
    image = np.zeros((1, 3, SIZE, SIZE), np.float32)
    graph = isolated(path)

    def way() -> None:
        np.copyto(graph.tensors.inputs[0], image)
        graph.run()
        graph.tensors.outputs[0].copy()

    inside = worker_time(path)
    medians = interleaved({"isolated": way}, 300)
    graph.close()
    added = medians["isolated"] - inside
    table(
        "Isolation: x + 1 on 1x3x256x256 float32, ms",
        ["in one process", "in a worker", "added"],
        [[inside, medians["isolated"], added]],
    )


def worker_time(path: Path) -> float:
    """Return the median ms of the same graph called in one process, on one core like a worker's."""
    code = (
        "import os, sys, time, statistics, numpy as np\n"
        "from serving_kit.saved_graph import SavedGraph\n"
        "from worker import _stay_on\n"
        "graph = SavedGraph(sys.argv[1]); x = np.zeros((1, 3, 256, 256), np.float32)\n"
        "_stay_on({min(os.sched_getaffinity(0))})\n"
        "times = []\n"
        "for _ in range(300):\n"
        "    began = time.perf_counter(); graph(x); times.append(time.perf_counter() - began)\n"
        "print(statistics.median(times) * 1000, flush=True); os._exit(0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], check=True, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return float(done.stdout)


def write_model(folder: Path, name: str, source: Path, config: str) -> None:
    """Add a model to a repository: a link to a saved graph, and its configuration."""
    (folder / name / "1").mkdir(parents=True)
    (folder / name / "1" / "model").symlink_to(source)
    (folder / name / "config.pbtxt").write_text(f'backend: "oneflow"\n{config}')


def requester(server: TritonServer, model: str, rows: int = 1) -> Callable[[], object]:
    """Return a function that sends one request of random rows and waits for the answer."""
    client = httpclient.InferenceServerClient(server.url)
    image = np.random.default_rng(0).uniform(0, 255, (rows, 3, SIZE, SIZE)).astype(np.float32)
    tensor = httpclient.InferInput("INPUT_0", image.shape, "FP32")
    tensor.set_data_from_numpy(image)
    return lambda: client.infer(model, [tensor])


def serving(repository: Path, identity: Path, folder: Path) -> None:
    """What Triton, HTTP and the backend add together."""
    models = folder / "serving"
    write_model(models, "identity", identity, "max_batch_size: 1")
    style = repository / "fast_neural_style" / "1" / "model"
    write_model(models, "style", style, "max_batch_size: 1")
    with TritonServer(models) as server:
        print(f"From start() to ready, two models: {server.ready_after:.1f} s\n")
        graph = isolated(style, 1)
        medians = interleaved(
            {
                "x + 1 over HTTP": requester(server, "identity"),
                "StyleNet over HTTP": requester(server, "style"),
                "StyleNet in a worker, no server": lambda: graph.run(1),
            }
        )
        graph.close()
    table("Requests of 1x3x256x256 float32", ["what", "ms"], [list(row) for row in medians.items()])


def batching(repository: Path, folder: Path) -> None:
    """Four rows with a plan of their own against four rows one by one."""
    style = repository / "fast_neural_style" / "1" / "model"
    together, one_by_one = isolated(style, 4, [4]), isolated(style, 4, [])
    medians = interleaved({"4": lambda: together.run(4), "1": lambda: one_by_one.run(4)}, 5)
    together.close()
    one_by_one.close()
    table(
        "StyleNet, 4 rows, ms",
        ["row by row", "as a batch", "batch / rows"],
        [[medians["1"], medians["4"], medians["4"] / medians["1"]]],
    )


def instances(repository: Path, folder: Path) -> None:
    """Throughput of one instance against two, with four clients."""
    style = repository / "fast_neural_style" / "1" / "model"
    models = folder / "instances"
    for count in (1, 2):
        write_model(
            models, f"style{count}", style,
            f"max_batch_size: 1\ninstance_group [ {{ count: {count}, kind: KIND_CPU }} ]",
        )  # fmt: skip
    rates: dict[int, list[float]] = {1: [], 2: []}
    with TritonServer(models) as server:
        for _ in range(4):
            for count, rate in rates.items():
                rate.append(throughput(server, f"style{count}"))
    one, two = (statistics.median(rate) for rate in rates.values())
    table(
        "StyleNet, 4 clients, images a second",
        ["one instance", "two instances", "ratio"],
        [[one, two, two / one]],
    )


def throughput(server: TritonServer, model: str, clients: int = 4, each: int = 4) -> float:
    """Return requests a second of several clients at once."""

    def ask() -> None:
        send = requester(server, model)
        for _ in range(each):
            send()

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return clients * each / (time.perf_counter() - began)


def loading(style: Path, identity: Path) -> None:
    """Seconds and memory of a worker, by the plans that it has."""
    rows = []
    for name, path in (("x + 1", identity), ("StyleNet", style)):
        for sizes in ([], [2], [2, 4]):
            began = time.perf_counter()
            graph = isolated(path, 4, sizes)
            seconds = time.perf_counter() - began
            process = psutil.Process(graph._started.process.pid)
            plans = ", ".join(map(str, [1, *sizes]))
            rows.append([name, plans, seconds, f"{process.memory_info().rss / 2**20:.0f}"])
            graph.close()
    table(
        "Loading (with the proof of batches) and memory",
        ["graph", "plans", "s", "RSS, MB"],
        rows,
    )


if __name__ == "__main__":
    main()
