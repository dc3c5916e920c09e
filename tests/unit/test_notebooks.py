"""Every notebook is saved as it was run, in order, with outputs that nbval can compare.

The lessons, which are all notebooks but the quickstart, also share one skeleton.
"""

import importlib.util
import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import nbval.kernel
import pytest
from notebook_parts import (
    CHECK,
    LESSONS,
    NOTEBOOKS,
    code_cells,
    exercise_cells,
    folded,
    prose,
    read,
    section,
)

from serving_kit.paths import ROOT

MAX_LINES = 25
MAX_BYTES_OF_ALL = 8_000_000
CLOSING = ["Check yourself", "Exercises", "Solutions", "Clean up", "Where to go next"]


def headings(notebook):
    text = re.sub(r"^```.*?^```", "", prose(notebook), flags=re.M | re.S)
    return [line for line in text.splitlines() if line.startswith("#")]


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.name)
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return read(path)


@pytest.fixture(params=LESSONS, ids=lambda path: path.name)
def lesson_path(request):
    return request.param


@pytest.fixture
def lesson(lesson_path):
    return read(lesson_path)


@pytest.fixture
def lesson_number(lesson_path):
    return lesson_path.name[:2]


def test_each_number_is_given_once_and_the_quickstart_comes_first():
    numbers = [int(path.name[:2]) for path in NOTEBOOKS]
    assert len(set(numbers)) == len(numbers) > 1
    assert numbers[0] == 0


def test_names_are_a_number_and_words(path):
    assert re.fullmatch(r"\d\d_[a-z]+(_[a-z]+)*\.ipynb", path.name)


def test_they_are_small():
    assert sum(path.stat().st_size for path in NOTEBOOKS) < MAX_BYTES_OF_ALL


def test_it_is_valid_and_its_metadata_is_normalized(notebook):
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.metadata.language_info == {"name": "python", "version": "3.10"}
    assert all(not cell.metadata for cell in notebook.cells)
    assert [cell.id for cell in notebook.cells] == [
        f"cell-{number:02d}" for number in range(len(notebook.cells))
    ]


def test_cells_were_run_in_order(notebook):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))


def test_most_cells_print_something_that_is_compared(notebook):
    compared = [
        cell
        for cell in code_cells(notebook)
        if "NBVAL_IGNORE_OUTPUT" not in cell.source
        and any(output.output_type in ("stream", "error") for output in cell.outputs)
    ]
    assert len(compared) >= 0.8 * len(code_cells(notebook))


def test_ignored_outputs_are_few_and_say_why(notebook):
    ignored = [cell for cell in code_cells(notebook) if "# NBVAL_" in cell.source]
    assert len(ignored) <= 2
    for cell in ignored:
        marker, reason = cell.source.splitlines()[:2]
        assert marker in ("# NBVAL_IGNORE_OUTPUT", "# NBVAL_RAISES_EXCEPTION")
        assert re.match(r"# \w.*\.$", reason)


def test_streams_are_in_one_piece(notebook):
    """As tools/record_notebooks.py leaves them: no state of a progress bar but its last."""
    for cell in code_cells(notebook):
        streams = [output for output in cell.outputs if output.output_type == "stream"]
        assert not any(re.search(r"\r(?!\n)", output.text) for output in streams)
        names = [output.get("name") for output in cell.outputs]
        assert not any(one and one == other for one, other in itertools.pairwise(names))


def test_cells_are_short(notebook):
    assert max(len(cell.source.splitlines()) for cell in code_cells(notebook)) <= MAX_LINES


def test_it_begins_with_one_title_that_says_what_you_do(notebook):
    assert headings(notebook)[0].startswith("# ")
    assert [line for line in headings(notebook) if line.startswith("# ")] == headings(notebook)[:1]
    opening = notebook.cells[0].source
    for promise in ("do", "learn", "need"):
        assert f"**What you'll {promise}**: " in opening


def test_sections_are_numbered_and_nothing_else_is_between_them(notebook):
    numbered = [line for line in headings(notebook) if re.match(r"## \d", line)]
    assert [int(re.match(r"## (\d+)\. \w", line)[1]) for line in numbered] == list(
        range(1, len(numbered) + 1)
    )
    assert headings(notebook)[1 : len(numbered) + 1] == numbered


def test_prose_stands_before_code(notebook):
    """At most two code cells follow each other without a word between them."""
    kinds = " ".join(cell.cell_type for cell in notebook.cells)
    assert kinds.startswith("markdown")
    assert "code code code" not in kinds


def test_links_into_the_repository_lead_somewhere(path, notebook):
    markdown, html_links = r"\]\(([^)]+)\)", r'href="([^"]+)"'
    for link in re.findall(markdown, prose(notebook)) + re.findall(html_links, prose(notebook)):
        if not link.startswith("https://"):
            assert (path.parent / link.partition("#")[0]).exists(), link


def test_nothing_of_the_machine_that_ran_it_is_in_the_outputs(notebook):
    outputs = json.dumps([cell.outputs for cell in code_cells(notebook)])
    for private in (str(ROOT), str(Path.home()), "/tmp/", "site-packages", "0x7f"):
        assert private not in outputs


def test_the_skeleton_of_a_lesson_is_complete(lesson):
    assert [line.removeprefix("## ") for line in headings(lesson)[-len(CLOSING) :]] == CLOSING
    assert any("on purpose" in line for line in headings(lesson))


def test_it_has_something_to_look_at(lesson):
    outputs = [output for cell in code_cells(lesson) for output in cell.outputs]
    kinds = {kind for output in outputs for kind in output.get("data", ())}
    assert kinds & {"image/png", "image/jpeg"} or "```text" in prose(lesson)


def test_it_asks_three_questions_with_folded_answers(lesson):
    text = "\n".join(cell.source for cell in section(lesson, "Check yourself"))
    assert re.findall(r"^(\d)\. .+\?", text, re.M) == ["1", "2", "3"]
    assert [summary for summary, _ in folded(lesson, "Check yourself")] == ["Answer"] * 3


def test_it_has_two_exercises_that_say_not_yet(lesson, lesson_number):
    exercises = [CHECK.search(cell.source)[1] for cell in exercise_cells(lesson)]
    assert exercises == [f"{lesson_number}.1", f"{lesson_number}.2"]
    for cell, exercise in zip(exercise_cells(lesson), exercises, strict=True):
        assert f"{exercise}  Not yet: " in cell.outputs[-1].text


def test_it_has_two_solutions(lesson):
    """tests/integration/test_exercises_server.py runs them."""
    assert [summary for summary, _ in folded(lesson, "Solutions")] == ["Exercise 1", "Exercise 2"]


def test_ruff_finds_nothing_in_them():
    for verb in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *verb, "--no-cache", *NOTEBOOKS],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_s_table_of_lessons_is_current():
    spec = importlib.util.spec_from_file_location("lesson_table", ROOT / "tools/lesson_table.py")
    lesson_table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(lesson_table)
    readme = (ROOT / "README.md").read_text()
    assert readme.count(lesson_table.BEGIN) == readme.count(lesson_table.END) == 1
    assert lesson_table.with_table(readme) == readme, "run: python tools/lesson_table.py"


def test_a_kernel_that_dies_as_it_starts_says_why():
    broken = {**os.environ, "PYTHONHOME": "/nowhere"}
    with Path(os.devnull).open("w") as nowhere, pytest.raises(RuntimeError) as caught:
        nbval.kernel.start_new_kernel(kernel_name="python3", stderr=nowhere, env=broken)
    assert re.search(
        r"Kernel died .*; it said:\n(.*\n)*.*PYTHONHOME = '/nowhere'", str(caught.value)
    )
