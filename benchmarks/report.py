"""What the benchmarks say: sections of Markdown tables, ratios, and a page with plots."""

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import matplotlib
import psutil
from matplotlib.figure import Figure

from turns import Summary

PAGE = """\
# Benchmarks

Printed by `{command}`, which rewrites this page. The candidates took turns, so that other
work on the machine affected all of them alike. Ratios mean more than milliseconds, which hold for
this machine only. A ratio of times is the median of the ratios of all rounds, which a busy minute
hardly changes. Its 90 % confidence interval assumes that the rounds are independent.

"""

#: What of a CPU's vector instructions matters to the libraries measured here.
VECTORS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")


@dataclass(frozen=True)
class Table:
    """A Markdown table; floats are rounded to three figures."""

    header: list[str]
    rows: list[list[object]]

    def markdown(self) -> str:
        """Return the text."""
        align = ["---", *["--:"] * (len(self.header) - 1)]
        lines = [self.header, align, *[[_text(cell) for cell in row] for row in self.rows]]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@dataclass(frozen=True)
class Ratio:
    """One figure that stands for a whole table, and what the kit wants it to be."""

    what: str
    #: None: it could not be measured.
    value: float | None
    aim: str
    #: How sure it is: see ``Summary.interval_over``.
    interval: tuple[float, float] | None = None

    @staticmethod
    def of(what: str, a: Summary | str, b: Summary | str, aim: str) -> "Ratio":
        """Return how many times as long as b a took."""
        value = quotient(a, b)
        return Ratio(what, value, aim, None if value is None else a.interval_over(b))


@dataclass
class Section:
    """The answer to one question."""

    title: str
    #: What was measured, and how.
    text: str
    tables: list[Table] = field(default_factory=list)
    ratios: list[Ratio] = field(default_factory=list)
    #: Draws the plot, called ``name``.svg on the page.
    name: str = ""
    draw: Callable[[Figure], None] | None = None

    def markdown(self) -> str:
        """Return the text, without the plot."""
        return "\n\n".join(
            [f"## {self.title}", self.text, *[table.markdown() for table in self.tables]]
        )


def ratio_table(sections: list[Section]) -> Table:
    """Return the ratios of all sections in one table."""
    ratios = [ratio for section in sections for ratio in section.ratios]
    return Table(
        ["ratio", "measured", "90 % interval", "aim"],
        [
            [
                r.what,
                "not measured" if r.value is None else r.value,
                r.interval and " to ".join(map(_text, r.interval)),
                r.aim,
            ]
            for r in ratios
        ],
    )


def write_page(folder: Path, command: str, machine: Table, sections: list[Section]) -> None:
    """Write README.md and its plots."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [PAGE.format(command=command) + machine.markdown()]
    parts.append("## In short\n\n" + ratio_table(sections).markdown())
    for section in sections:
        parts.append(section.markdown())
        if section.draw:
            _plot(section.draw, folder / f"{section.name}.svg")
            parts.append(f"![{section.title}]({section.name}.svg)")
    (folder / "README.md").write_text("\n\n".join(parts) + "\n")


def _plot(draw: Callable[[Figure], None], path: Path) -> None:
    # The same figures give the same file: no date, no random names.
    settings = {"svg.fonttype": "none", "svg.hashsalt": "serving kit", "font.size": 10}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(8, 4), layout="constrained")
        draw(figure)
        figure.savefig(path, metadata={"Date": None})


def describe_machine() -> Table:
    """Return what the figures belong to."""
    cpu = cpu_info()
    vectors = [name for name in VECTORS if name in cpu["flags"].split()]
    packages = ("oneflow", "onnxruntime", "numpy", "tritonclient", "nvidia-pytriton")
    loads = " ".join(f"{load:.1f}" for load in os.getloadavg())
    rows = [
        ["CPU", f"{cpu['model name']}, family {cpu['cpu family']} model {cpu['model']}, "
                f"{cpu['cpu MHz']} MHz; {', '.join(vectors)}"],
        ["cores", f"{len(os.sched_getaffinity(0))}"
                  f"{', of a virtual machine' if 'hypervisor' in cpu['flags'] else ''}"],
        ["memory", f"{psutil.virtual_memory().total / 2**30:.0f} GiB"],
        ["kernel", f"{platform.system()} {platform.release()}, {' '.join(platform.libc_ver())}"],
        ["versions", ", ".join([f"Python {platform.python_version()}",
                                *[f"{name} {version(name)}" for name in packages]])],
        ["load at the start (1, 5, 15 minutes)", loads],
    ]  # fmt: skip
    return Table(["machine", ""], rows)


def cpu_info() -> dict[str, str]:
    """Return what the kernel says of the first core."""
    first = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def spread(summary: Summary | str) -> list[object]:
    """Return the cells median, quartiles, least, runs; or why there is nothing to say."""
    if isinstance(summary, str):
        return [f"not measured: {summary}", "", "", ""]
    quartiles = f"{_text(summary.lower)} to {_text(summary.upper)}"
    return [summary.median, quartiles, summary.least, summary.runs]


SPREAD = ["median, ms", "quartiles", "least", "runs"]


def quotient(a: Summary | str, b: Summary | str) -> float | None:
    """Return how many times as long as b a took; None where one is missing."""
    return None if isinstance(a, str) or isinstance(b, str) else a.over(b)


def _text(cell: object) -> str:
    if cell is None:
        return ""
    if not isinstance(cell, float):
        return str(cell).replace("|", "\\|")
    return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:#.3g}"
