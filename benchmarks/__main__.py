"""Measure the kit, print Markdown tables, and save them with plots.

``make bench`` runs all questions and writes docs/benchmarks/; ``python benchmarks QUESTION ...``
runs some. Figures are compared side by side, in turns; absolute ones belong to the machine that
stands above them.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import backend
import deaths
import gateway
import load
import network
import sizes
import starting
import ways
from report import Section, describe_machine, ratio_table, write_page
from serving_kit.errors import ServingKitError
from serving_kit.paths import BUILD, ROOT
from turns import ContestantError


def main() -> int:
    """Run what the command line asks for; return 1 if a question could not be answered."""
    options = _options()
    machine = describe_machine()
    print(f"{machine.markdown()}\n", flush=True)
    questions = _questions(options.quick, options.pytorch)
    sections, failed = [], 0
    for name in options.questions or questions:
        try:
            section = questions[name]()
        except (ServingKitError, ContestantError) as error:
            section = Section(name, f"Not measured: {error}")
            failed = 1
        print(f"{section.markdown()}\n", flush=True)
        sections.append(section)
    print(f"## In short\n\n{ratio_table(sections).markdown()}")
    write_page(options.output, _command(options), machine, sections)
    return failed


def _questions(quick: bool, pytorch: bool) -> dict[str, Callable[[], Section]]:
    """Return what can be asked, in the order of the page; quick: one round of each."""

    def rounds(full: int) -> int:
        return 1 if quick else full

    return {
        "network": lambda: network.measure(
            rounds(network.ROUNDS), rounds(network.SITTINGS), rounds(network.QUICK_ROUNDS), pytorch
        ),
        "ways": lambda: ways.measure(rounds(ways.SITTINGS), rounds(ways.ROUNDS)),
        "gateway": lambda: gateway.measure(rounds(gateway.ROUNDS)),
        "load": lambda: load.measure((1,) if quick else load.CONCURRENCIES),
        "sizes": lambda: sizes.measure(rounds(sizes.ROUNDS), sizes.SIZES[: 1 if quick else None]),
        "starting": lambda: starting.measure(rounds(starting.ROUNDS)),
        "backend": lambda: backend.measure(
            rounds(backend.ROUNDS), [[]] if quick else [[], [2], [2, 4]]
        ),
        "deaths": lambda: deaths.measure(rounds(deaths.ROUNDS)),
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument(
        "questions", nargs="*", metavar="QUESTION",
        help=f"one of {', '.join(_questions(False, False))}; all by default",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="one round of each, to try them")
    parser.add_argument(
        "--pytorch", action="store_true",
        help="install PyTorch for the while, some GB, where this environment has none; with "
        "UV_TORCH_BACKEND=cpu its smaller wheel",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER",
        help="default: docs/benchmarks if all is measured, else build/benchmarks",
    )  # fmt: skip
    options = parser.parse_args()
    if unknown := set(options.questions) - set(_questions(False, False)):
        parser.error(f"there is no question {unknown.pop()!r}; see --help")
    if options.output is None:
        is_all = not options.quick and not options.questions
        options.output = ROOT / "docs" / "benchmarks" if is_all else BUILD / "benchmarks"
    return options


def _command(options: argparse.Namespace) -> str:
    """Return the command that a reader types to get the same page."""
    if options.questions:
        return f"python benchmarks {' '.join(options.questions)}"
    words = ["QUICK=1"] * options.quick + ["PYTORCH=1"] * options.pytorch
    return " ".join(["make bench", *words])


if __name__ == "__main__":
    sys.exit(main())
