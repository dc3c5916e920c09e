"""How fast is the style network: three layouts, three ways to run each, against other libraries."""

import contextlib
import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from contestants import LAYOUTS, WAYS
from oneflow_backend.openblas import VARIABLE
from oneflow_backend.worker_process import environment as worker_environment
from report import SPREAD, Ratio, Section, Table, quotient, spread
from serving_kit.client.images import load_image
from serving_kit.models import SIZE
from serving_kit.paths import CAT, WEIGHTS
from serving_kit.stylenet.styles import DEFAULT_STYLE, style_index
from turns import Contestant, ContestantError, Summary, take_turns, together

HERE = Path(__file__).parent
ROUNDS = 8
#: Those that are not slow are compared more often, among themselves: so often they are started
#: anew, because a process is some percent faster or slower than its twin for as long as it lives.
SITTINGS, QUICK_ROUNDS = 8, 12
SLOW = ("textbook", "4-D norm")
REFERENCE = "ONNX Runtime"
ONE_THREAD = f"{REFERENCE}, one thread"
FAST, TEXTBOOK = "OneFlow, fast, saved graph", "OneFlow, textbook, saved graph"
OWN_KERNELS = "OpenBLAS's own kernels"

TEXT = f"""\
The style network at 1x3x{SIZE}x{SIZE}, float32, from array to array, each in a process of its own,
with the same weights. *Textbook* has `nn.InstanceNorm2d`, like the network of the original OneFlow
guide; *4-D norm* is `network.py`; *fast* is `cpu_network.py`. OneFlow's processes have the
environment that the backend gives its workers ({{environment}}); the rows
*{OWN_KERNELS}* do not set the kernels.
A *saved graph* runs as the backend runs it, on a CPU operator by operator. The last column is the
largest difference from the result of {REFERENCE}, on the scale 0 to 255. The faster candidates were
compared with each other in more rounds, and restarted for each of {{sittings}} sittings."""


def measure(rounds: int, sittings: int, quick_rounds: int, pytorch: bool) -> Section:
    """Compare all of them, then those that are not slow in so many sittings of so many rounds."""
    image, _, _ = load_image(CAT, SIZE, SIZE)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        files = _Files(Path(folder), image)
        commands = dict(_commands(files))
        python = stack.enter_context(_python_with_torch(pytorch))
        if python:
            commands["PyTorch"] = [
                python, HERE / "pytorch_contestant.py", WEIGHTS, str(style_index(DEFAULT_STYLE)),
                files.image, files.answer("PyTorch"),
            ]  # fmt: skip
        ours = worker_environment()
        environments = {name: ours if "OneFlow" in name else {} for name in commands}
        if VARIABLE in ours:
            for name in (FAST, TEXTBOOK):
                own = f"{name}, {OWN_KERNELS}"
                commands[own] = [*commands[name][:-1], files.answer(own)]
                environments[own] = {k: v for k, v in ours.items() if k != VARIABLE}

        def sit(names: Iterable[str], rounds: int) -> dict[str, Summary | str]:
            with contextlib.ExitStack() as stack:
                contestants = {
                    name: stack.enter_context(
                        contextlib.closing(Contestant(commands[name], environments[name]))
                    )
                    for name in names
                }
                return take_turns({name: one.turn for name, one in contestants.items()}, rounds)

        seen = sit(commands, rounds)
        quick = [name for name in commands if not any(slow in name for slow in SLOW)]
        closer = together([sit(quick, quick_rounds) for _ in range(sittings)])
        differences = {name: files.difference(name) for name in seen}
    seen.setdefault("PyTorch", "there is no PyTorch here; with --pytorch one is installed for it")
    return _section(seen, closer, differences, sittings)


class _Files:
    """The image that all get, and the answer that each gives."""

    def __init__(self, folder: Path, image: np.ndarray):
        self.folder, self.image = folder, folder / "image.npy"
        np.save(self.image, image)

    def answer(self, name: str) -> Path:
        return self.folder / f"{name}.npy"

    def difference(self, name: str) -> float | None:
        files = (self.answer(name), self.answer(REFERENCE))
        if not all(file.exists() for file in files):
            return None
        answer, reference = map(np.load, files)
        return float(np.abs(answer - reference).max())


def _commands(files: _Files) -> Iterator[tuple[str, list]]:
    """Yield the name and the command of each contestant of this environment."""
    program = [sys.executable, HERE / "contestants.py"]
    for name, threads in ((REFERENCE, "0"), (ONE_THREAD, "1")):
        yield name, [*program, "ONNX Runtime", threads, files.image, files.answer(name)]
    for layout in LAYOUTS:
        for way in WAYS:
            name = f"OneFlow, {layout}, {way}"
            yield name, [*program, layout, way, files.image, files.answer(name)]


@contextlib.contextmanager
def _python_with_torch(install: bool) -> Iterator[str | Path | None]:
    """Give a Python that has PyTorch: this one, or one that is made for the while; else None.

    Raises:
        ContestantError: uv could not install it, and has said why.
    """
    if importlib.util.find_spec("torch"):
        yield sys.executable
    elif not install:
        yield None
    else:
        with tempfile.TemporaryDirectory() as folder:
            python = Path(folder) / "bin" / "python"
            uv = [sys.executable, "-m", "uv", "--quiet"]
            add = ["pip", "install", "--no-cache", "--python", python, "torch", "numpy"]
            try:
                subprocess.run([*uv, "venv", "--python", sys.executable, folder], check=True)
                subprocess.run([*uv, *add], check=True)
            except subprocess.CalledProcessError:
                raise ContestantError(
                    "uv could not install PyTorch, for the reason above; leave it out (--pytorch)"
                ) from None
            yield python


def _section(
    seen: dict[str, Summary | str],
    closer: dict[str, Summary | str],
    differences: dict[str, float | None],
    sittings: int,
) -> Section:
    """Report on all, as they were seen together, or closer."""
    ours = [f"`{name}={value}`" for name, value in worker_environment().items()]
    rows = []
    for name in seen:
        together = closer if name in closer else seen
        to_reference = quotient(together[name], together[REFERENCE])
        rows.append([name, *spread(together[name]), to_reference, differences.get(name)])
    return Section(
        "The style network in one process",
        TEXT.format(environment=" ".join(ours), sittings=sittings),
        [Table(["", *SPREAD, f"times {REFERENCE}", "difference"], rows)],
        [
            Ratio.of(
                f"fast saved graph / {REFERENCE}", closer[FAST], closer[REFERENCE], "3.0 at most"
            ),
            Ratio.of(
                f"fast saved graph / {ONE_THREAD} each", closer[FAST], closer[ONE_THREAD], "none"
            ),
            Ratio.of(
                "textbook saved graph / fast saved graph", seen[TEXTBOOK], seen[FAST],
                "12 at least",
            ),
        ],
        "network",
        lambda figure: _draw(figure, seen | closer),
    )  # fmt: skip


def _draw(figure: Figure, seen: dict[str, Summary | str]) -> None:
    found = {name: s for name, s in reversed(seen.items()) if isinstance(s, Summary)}
    axes = figure.subplots()
    medians = [s.median for s in found.values()]
    whiskers = [
        [s.median - s.lower for s in found.values()],
        [s.upper - s.median for s in found.values()],
    ]
    bars = axes.barh(list(found), medians, xerr=whiskers, color="#4878a8", capsize=2)
    axes.bar_label(bars, [f" {median:,.0f}" for median in medians], padding=2)
    axes.set_xscale("log")
    axes.set_xlim(right=max(medians) * 3)
    axes.set_xlabel("milliseconds, median and quartiles (logarithmic)")
