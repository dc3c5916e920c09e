"""A learner runs cells again: each twice in a row, and the middle section once more.

What cells print is not compared here, only that none fails: strict nbval compares a first run.
"""

import contextlib
import itertools
import re

import psutil
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from notebook_parts import NOTEBOOKS, read

from serving_kit.server import running_servers

CELL_SECONDS = 300
#: A cell in which the lesson puts away what the cells before it made.
CLEAN_UP = "## Clean up"


def parts(notebook):
    """Return the numbers of the code cells: before the middle section, of it, behind it."""
    numbers = [n for n, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    headings = [
        n
        for n, cell in enumerate(notebook.cells)
        if cell.cell_type == "markdown" and re.search(r"^## \w", cell.source, re.M)
    ]
    end = next(n for n, cell in enumerate(notebook.cells) if CLEAN_UP in cell.source)
    begin, after = min(itertools.pairwise(headings), key=lambda pair: abs(pair[0] - end / 2))
    return (
        [n for n in numbers if n < begin],
        [n for n in numbers if begin < n < after],
        [n for n in numbers if n > after],
    )


def servers():
    """Return how many Tritons this process, and so the kernel, has started and not stopped."""
    return [
        process.pid
        for process in psutil.Process().children(recursive=True)
        if process.name() == "tritonserver"
    ]


@pytest.fixture(autouse=True)
def no_server_is_left():
    """Stop what a lesson that failed has left running for others."""
    yield
    for server in running_servers():
        server.stop()


@pytest.mark.long
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_each_cell_runs_twice_and_the_middle_section_again(path):
    notebook = read(path)
    before, middle, behind = parts(notebook)
    client = NotebookClient(
        notebook, timeout=CELL_SECONDS, resources={"metadata": {"path": str(path.parent)}}
    )

    def run(numbers, times):
        for number in numbers:
            cell = notebook.cells[number]
            for time in range(times):
                with expected_failure(cell, number, time):
                    client.execute_cell(cell, number)

    with client.setup_kernel():
        run(before + middle, times=2)
        there = len(servers())
        run(middle, times=1)
        assert len(servers()) == there, "a second server runs"
        run(behind, times=2)
        assert servers() == []


@contextlib.contextmanager
def expected_failure(cell, number, time):
    """Let a cell fail that is to fail, and name one that is not."""
    try:
        yield
    except CellExecutionError as error:
        if "raises-exception" not in cell.metadata.get("tags", ()):
            which = "the first" if time == 0 else "another"
            pytest.fail(f"cell {number} fails at {which} time: {error.ename}: {error.evalue}")
