"""What the backend's own parts cost: isolation, batches, plans."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from oneflow_backend.graph_folder import read_graph_folder
from oneflow_backend.isolation import IsolatedGraph
from oneflow_backend.worker_process import environment as worker_environment
from report import Section, Table
from served import MB, style_graph
from serving_kit.models import SIZE
from turns import take_turns, turn_of

ROUNDS = 5
ISOLATION_RUNS = 300

TEXT = f"""\
Without Triton. *x + 1* is a graph that does almost nothing to a 1x3x{SIZE}x{SIZE} image, so its
time is that of the way there and back. The backend prepares a plan for each number of rows;
loading includes the verification that a batch gives each row's own result."""


def measure(rounds: int, batch_sizes: list[list[int]]) -> Section:
    """Measure all three."""
    style = style_graph()
    with tempfile.TemporaryDirectory() as folder:
        identity = Path(folder) / "identity" / "1" / "model"
        export_identity(identity)
        tables = [
            isolation(identity),
            batching(style, rounds),
            loading({"x + 1": identity, "StyleNet": style}, batch_sizes),
        ]
    return Section("The backend's parts", TEXT, tables)


def export_identity(path: Path) -> None:
    """Save x + 1 as a graph, in a process of its own."""
    code = (
        "import sys, os, oneflow as flow\n"
        "class G(flow.nn.Graph):\n"
        "    def build(self, x): return x + 1.0\n"
        f"g = G(); g(flow.zeros(1, 3, {SIZE}, {SIZE}))\n"
        "flow.save(g, sys.argv[1]); os._exit(0)"
    )
    path.parent.mkdir(parents=True)
    subprocess.run([sys.executable, "-c", code, path], check=True, stderr=subprocess.DEVNULL)


def isolated(path: Path, rows: int | None = None, sizes: list[int] | None = None) -> IsolatedGraph:
    """Return a graph in a worker process, as the backend has it."""
    return IsolatedGraph(
        read_graph_folder(path), "cpu", rows=rows, batch_sizes=sizes, run_seconds=60, retries=3,
        log=print,
    )  # fmt: skip


def isolation(path: Path) -> Table:
    """What the way into the worker and back adds to a run."""
    image = np.zeros((1, 3, SIZE, SIZE), np.float32)
    graph = isolated(path)
    milliseconds = []
    for _ in range(ISOLATION_RUNS):
        began = time.perf_counter()
        np.copyto(graph.tensors.inputs[0], image)
        graph.run()
        graph.tensors.outputs[0].copy()
        milliseconds.append((time.perf_counter() - began) * 1000)
    graph.close()
    inside, outside = time_in_one_process(path), statistics.median(milliseconds)
    return Table(
        ["isolation: x + 1, median ms", "in one process", "in a worker", "added"],
        [["", inside, outside, outside - inside]],
    )


def time_in_one_process(path: Path) -> float:
    """Return the median ms of the same graph called in one process, bound as a worker binds it."""
    code = (
        "import os, sys, time, statistics, numpy as np\n"
        "from oneflow_backend.saved_graph import SavedGraph\n"
        "graph = SavedGraph(sys.argv[1])\n"
        f"image, x, y = np.zeros((3, 1, 3, {SIZE}, {SIZE}), np.float32)\n"
        "run, times = graph.bind([x], [y]), []\n"
        f"for _ in range({ISOLATION_RUNS}):\n"
        "    began = time.perf_counter()\n"
        "    np.copyto(x, image); run(); y.copy()\n"
        "    times.append(time.perf_counter() - began)\n"
        "print(statistics.median(times) * 1000, flush=True); os._exit(0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], check=True, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, env={**os.environ, **worker_environment()},
    )  # fmt: skip
    return float(done.stdout)


def batching(style: Path, rounds: int) -> Table:
    """Four rows with a plan of their own against four rows one by one."""
    together, one_by_one = isolated(style, 4, [4]), isolated(style, 4, [])
    seen = take_turns(
        {
            "rows": lambda: turn_of(lambda: one_by_one.run(4)),
            "batch": lambda: turn_of(lambda: together.run(4)),
        },
        rounds,
    )
    together.close()
    one_by_one.close()
    rows, batch = seen["rows"], seen["batch"]
    return Table(
        ["four rows of StyleNet, median ms", "row by row", "as a batch", "batch / rows"],
        [["", rows.median, batch.median, batch.over(rows)]],
    )


def loading(graphs: dict[str, Path], batch_sizes: list[list[int]]) -> Table:
    """Seconds and memory of a worker, by the plans that it has."""
    rows = []
    for name, path in graphs.items():
        for sizes in batch_sizes:
            began = time.perf_counter()
            graph = isolated(path, 4, sizes)
            seconds = time.perf_counter() - began
            process = psutil.Process(graph.worker_pid)
            plans = ", ".join(map(str, [1, *sizes]))
            rows.append([name, plans, seconds, process.memory_info().rss / MB])
            graph.close()
    return Table(["graph", "plans for rows", "loading, s", "worker, resident, MB"], rows)
