"""Every notebook is saved as it was run, in order, with outputs that nbval can compare."""

import json
import re
from pathlib import Path

import nbformat
import pytest

from serving_kit.paths import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MAX_LINES = 25


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.name)
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


def test_there_are_notebooks():
    assert NOTEBOOKS


def test_names_are_a_number_and_words(path):
    assert re.fullmatch(r"\d\d_[a-z]+(_[a-z]+)*\.ipynb", path.name)


def test_it_is_valid_and_its_metadata_is_normalized(notebook):
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.metadata.language_info == {"name": "python", "version": "3.10"}
    assert all(not cell.metadata for cell in notebook.cells)


def test_cells_were_run_in_order(notebook):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))


def test_most_cells_print_something_that_is_compared(notebook):
    compared = [
        cell
        for cell in code_cells(notebook)
        if any(output.output_type in ("stream", "error") for output in cell.outputs)
    ]
    assert len(compared) >= 0.8 * len(code_cells(notebook))


def test_cells_are_short(notebook):
    assert max(len(cell.source.splitlines()) for cell in code_cells(notebook)) <= MAX_LINES


def test_it_begins_with_one_title(notebook):
    headings = [
        line
        for cell in notebook.cells
        if cell.cell_type == "markdown"
        for line in cell.source.splitlines()
        if line.startswith("#")
    ]
    assert headings[0].startswith("# ")
    assert [line for line in headings if line.startswith("# ")] == headings[:1]


def test_links_into_the_repository_lead_somewhere(path, notebook):
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    for link in re.findall(r"\]\(([^)]+)\)", text):
        if not link.startswith("https://"):
            assert (path.parent / link.partition("#")[0]).exists(), link


def test_nothing_of_the_machine_that_ran_it_is_in_the_outputs(notebook):
    outputs = json.dumps([cell.outputs for cell in code_cells(notebook)])
    for private in (str(ROOT), str(Path.home()), "/tmp/", "site-packages"):
        assert private not in outputs
