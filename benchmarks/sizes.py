"""How time and memory grow with the picture.

``sizes.py SIZE VERSION`` exports the layout for CPUs at one size, as a version folder.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from contestants import load_fast
from report import Ratio, Section, Table
from served import peak, processes, write_model
from serving_kit.client.images import load_image
from serving_kit.paths import CAT
from serving_kit.server.supervisor import STUB
from serving_kit.server.triton import TritonServer
from turns import ContestantError, Summary, take_turns, turn_of
from ways import MODEL, by_tritonclient

SIZES = (256, 512, 1024)
ROUNDS = 6

TEXT = """\
The fast layout, one instance, one request at a time over HTTP; each size has a server of its own.
Peak memory is VmHWM of each process after these requests; the sum counts shared memory more than
once."""


def main() -> None:
    """Export one size."""
    from serving_kit.export.version import export_version

    size, version = int(sys.argv[1]), Path(sys.argv[2])
    example = np.random.default_rng(0).uniform(0, 255, (1, 3, size, size)).astype(np.float32)
    export_version(load_fast(example.shape), [example], version)


def measure(rounds: int, sizes: tuple[int, ...]) -> Section:
    """Compare the sizes."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        servers, turns = {}, {}
        for size in sizes:
            models = Path(folder) / str(size)
            write_model(models, MODEL, export(size, Path(folder)), "max_batch_size: 1")
            servers[size] = stack.enter_context(TritonServer(models, mode="local"))
            image, _, _ = load_image(CAT, size, size)
            request = stack.enter_context(by_tritonclient(servers[size].url, {"INPUT_0": image}))
            turns[size] = lambda request=request: turn_of(request)
        seen = take_turns(turns, rounds)
        peaks = {size: _peaks(server) for size, server in servers.items()}
    return _section(seen, peaks)


def export(size: int, folder: Path) -> Path:
    """Export one size in a process of its own; return the saved graph.

    Raises:
        ContestantError: the export failed.
    """
    version = folder / f"version_{size}"
    done = subprocess.run(
        [sys.executable, __file__, str(size), version],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        words = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ContestantError(f"the fast layout cannot be exported at {size}: {words[-1]}")
    return version / "model"


def _peaks(server: TritonServer) -> dict[str, float]:
    found = processes(server)
    return {kind: peak(found[kind]) for kind in ("tritonserver", STUB, "worker")}


def _section(seen: dict[int, Summary], peaks: dict[int, dict[str, float]]) -> Section:
    per_pixel = {size: summary.median * 1e6 / size**2 for size, summary in seen.items()}
    smallest, largest = min(seen), max(seen)
    times = {
        size: summary.over(seen[smallest]) * (smallest / size) ** 2
        for size, summary in seen.items()
    }
    rows = [
        [
            f"{size} x {size}", summary.median, per_pixel[size],
            times[size], *peaks[size].values(),
            sum(peaks[size].values()),
        ]
        for size, summary in seen.items()
    ]  # fmt: skip
    header = [
        "pixels", "median, ms", "ns a pixel", f"times {smallest}'s",
        "tritonserver, MB", "stub, MB", "worker, MB", "sum, MB",
    ]  # fmt: skip
    ratio = None if largest == smallest else times[largest]
    return Section(
        "Larger pictures",
        TEXT,
        [Table(header, rows)],
        [Ratio("time per pixel, 1024 / 256", ratio, "1.3 at most")],
        "sizes",
        lambda figure: _draw(figure, per_pixel, peaks),
    )


def _draw(figure: Figure, per_pixel: dict, peaks: dict) -> None:
    names = [f"{size} x {size}" for size in per_pixel]
    time, memory = figure.subplots(1, 2)
    bars = time.bar(names, list(per_pixel.values()), color="#4878a8")
    time.bar_label(bars, fmt="%.0f")
    time.margins(y=0.1)
    time.set_title("nanoseconds a pixel")
    bottom = np.zeros(len(names))
    for kind, color in zip(("worker", STUB, "tritonserver"), ("#4878a8", "#e0a050", "#808080"),
                           strict=True):  # fmt: skip
        values = np.array([peak[kind] for peak in peaks.values()])
        label = "stub" if kind == STUB else kind
        memory.bar(names, values, bottom=bottom, label=label, color=color)
        bottom += values
    memory.set_title("peak memory, MB")
    memory.legend(fontsize=8)


if __name__ == "__main__":
    main()
    # Not sys.exit: OneFlow may hang when it is taken down.
    os._exit(0)
