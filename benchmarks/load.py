"""Many clients at once: instances and dynamic batching, judged by Triton's own perf_analyzer."""

import tempfile
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from report import Ratio, Section, Table
from served import style_graph, write_model
from serving_kit.client.images import load_image
from serving_kit.client.perf_analyzer import Load, analyze
from serving_kit.errors import ClientError
from serving_kit.models import SIZE
from serving_kit.paths import CAT
from serving_kit.server.triton import TritonServer

CONCURRENCIES = (1, 2, 4, 8, 16)

PLAIN = "max_batch_size: 1"
BATCHES = "max_batch_size: 4\ndynamic_batching { }"
MODELS = {
    f"{'batches' if batches else 'plain'}_{count}": (
        f"{count} instance{'s' if count > 1 else ''}{', dynamic batching' if batches else ''}",
        f"{BATCHES if batches else PLAIN}\ninstance_group [ {{ count: {count}, kind: KIND_CPU }} ]",
    )
    for count in (1, 2)
    for batches in (False, True)
}

TEXT = f"""\
Requests of 1x3x{SIZE}x{SIZE} over gRPC by perf_analyzer, Triton's own load generator: three
windows per row, with the models taking turns. Dynamic batching joins up to four requests; on a CPU
the backend runs the rows of a batch one by one."""


def measure(concurrencies: tuple[int, ...]) -> Section:
    """Put load on the models."""
    graph = style_graph()
    picture = load_image(CAT, SIZE, SIZE)[0][0]
    points: dict[tuple[str, int], Load | str] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for model, (_, config) in MODELS.items():
            write_model(folder / "models", model, graph, config)
        with TritonServer(folder / "models", mode="local") as server:
            for concurrency in concurrencies:
                for model in MODELS:
                    points[model, concurrency] = try_load(server, model, concurrency, picture)
    return _section(points, concurrencies)


def try_load(server: TritonServer, model: str, concurrency: int, picture: np.ndarray) -> Load | str:
    """Return what perf_analyzer sees; or why it sees nothing."""
    try:
        (load,) = analyze(
            model,
            picture,
            server.grpc_url,
            *("--concurrency-range", str(concurrency), "--measurement-mode", "count_windows"),
            *("--measurement-request-count", str(6 + 2 * concurrency)),
        )
    except ClientError as error:
        return str(error)
    return load


def _section(points: dict, concurrencies: tuple[int, ...]) -> Section:
    rows = []
    for (model, concurrency), point in sorted(
        points.items(), key=lambda pair: (list(MODELS).index(pair[0][0]), pair[0][1])
    ):
        cells = [f"not measured: {point}", "", ""]
        if isinstance(point, Load):
            cells = [point.rate, point.p50, point.p95]
        rows.append([MODELS[model][0], concurrency, *cells])
    one, two = (_best(points, f"plain_{count}") for count in (1, 2))
    return Section(
        "Many requests at once",
        TEXT,
        [Table(["model", "requests at once", "images a second", "p50, ms", "p95, ms"], rows)],
        [
            Ratio(
                "two instances / one, best throughput of each", one and two and two / one,
                "1.5 at least",
            )
        ],
        "load",
        lambda figure: _draw(figure, points, concurrencies),
    )  # fmt: skip


def _best(points: dict, wanted: str) -> float | None:
    rates = [
        p.rate for (model, _), p in points.items() if model == wanted and not isinstance(p, str)
    ]
    return max(rates, default=None)


def _draw(figure: Figure, points: dict, concurrencies: tuple[int, ...]) -> None:
    rates, latencies = figure.subplots(1, 2)
    for i, (model, (label, _)) in enumerate(MODELS.items()):
        found = [(n, points[model, n]) for n in concurrencies]
        found = [(n, point) for n, point in found if isinstance(point, Load)]
        style = {"marker": "o", "color": f"C{i // 2}", "linestyle": "-" if i % 2 == 0 else "--"}
        numbers = [n for n, _ in found]
        rates.plot(numbers, [point.rate for _, point in found], label=label, **style)
        latencies.plot(numbers, [point.p95 for _, point in found], label=label, **style)
    for axes, title in ((rates, "images a second"), (latencies, "p95, milliseconds")):
        axes.set_xscale("log", base=2)
        axes.set_xticks(concurrencies, list(map(str, concurrencies)))
        axes.set_ylim(bottom=0)
        axes.set_xlabel("requests at once")
        axes.set_title(title)
    rates.legend(fontsize=8)
