"""Every notebook is saved as it was run, in order, with outputs that nbval can compare.

The lessons, which are all notebooks but the quickstart and the appendix, also share one skeleton.
"""

import importlib
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
#: The sections after the numbered ones; the quiz stands where a part of the course ends.
CLOSING = [
    "In practice",
    "Check yourself",
    "Exercises",
    "Solutions",
    "Wrap-up quiz",
    "Clean up",
    "Where to go next",
]
WITH_QUIZ = ("04", "07", "12")
#: What a cell may be tagged with: docs/teaching.md says what each means.
TAGS = {"varies", "yes-or-no", "nbval-ignore-output", "raises-exception"}
EXERCISE = re.compile(r"^\*\*(\d) \((easy|medium|hard)\)\.\*\* ", re.M)


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
    numbers = [path.name[:2] for path in NOTEBOOKS]
    assert len(set(numbers)) == len(numbers) > 1
    assert numbers[0] == "00"


def test_names_are_a_number_and_words(path):
    assert re.fullmatch(r"(\d\d|A\d)_[a-z]+(_[a-z]+)*\.ipynb", path.name)


def test_they_are_small():
    assert sum(path.stat().st_size for path in NOTEBOOKS) < MAX_BYTES_OF_ALL


def test_it_is_valid_and_its_metadata_is_normalized(notebook):
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.metadata.language_info == {"name": "python", "version": "3.10"}
    for cell in notebook.cells:
        assert set(cell.metadata) <= {"tags"}
        assert set(cell.metadata.get("tags", ())) <= TAGS
    assert [cell.id for cell in notebook.cells] == [
        f"cell-{number:02d}" for number in range(len(notebook.cells))
    ]


def test_cells_were_run_in_order(notebook):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))


def tags(cell):
    return set(cell.metadata.get("tags", ()))


def printed(cell):
    return "".join(o.text for o in cell.outputs if o.output_type == "stream")


def test_most_cells_print_something_that_is_compared(notebook):
    compared = [
        cell
        for cell in code_cells(notebook)
        if "nbval-ignore-output" not in tags(cell)
        and any(output.output_type in ("stream", "error") for output in cell.outputs)
    ]
    assert len(compared) >= 0.8 * len(code_cells(notebook))


def test_ignored_outputs_are_few(notebook):
    assert not any("NBVAL_" in cell.source for cell in code_cells(notebook))
    special = {"nbval-ignore-output", "raises-exception"}
    assert sum(bool(tags(cell) & special) for cell in code_cells(notebook)) <= 2


def test_numbers_that_vary_leave_words_to_compare(notebook):
    for cell in code_cells(notebook):
        if "varies" in tags(cell):
            assert re.search(r"[A-Za-z]{2}", printed(cell)), cell.source


def test_true_and_false_answer_a_question_only(notebook):
    """What a cell prints is for a learner, who wants to see numbers, names and addresses."""
    for cell in code_cells(notebook):
        if "yes-or-no" not in tags(cell):
            assert not re.search(r"^(.*: )? *(True|False)$", printed(cell), re.M), cell.source


def test_each_picture_has_an_alternative_text(notebook):
    for cell in code_cells(notebook):
        for output in cell.outputs:
            for kind in {"image/png", "image/jpeg"} & set(output.get("data", {})):
                alt = output.metadata[kind]["alt"]
                assert 20 <= len(alt) <= 400, alt
                assert output.data["text/plain"] == alt
    assert not re.search(r"!\[\]\(|<img(?![^>]*alt=\"[^\"]+\")", prose(notebook))


def test_plots_are_shown_with_their_text(notebook):
    assert not any("plt.show(" in cell.source for cell in code_cells(notebook))


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


def test_the_skeleton_of_a_lesson_is_complete(lesson, lesson_number):
    closing = [part for part in CLOSING if part != "Wrap-up quiz" or lesson_number in WITH_QUIZ]
    assert [line.removeprefix("## ") for line in headings(lesson)[-len(closing) :]] == closing
    assert any("on purpose" in line for line in headings(lesson))


def test_it_has_something_to_look_at(lesson):
    outputs = [output for cell in code_cells(lesson) for output in cell.outputs]
    kinds = {kind for output in outputs for kind in output.get("data", ())}
    assert kinds & {"image/png", "image/jpeg"} or "```text" in prose(lesson)


def test_it_asks_three_questions_with_folded_answers(lesson):
    text = "\n".join(cell.source for cell in section(lesson, "Check yourself"))
    assert re.findall(r"^(\d)\. .+\?", text, re.M) == ["1", "2", "3"]
    assert [summary for summary, _ in folded(lesson, "Check yourself")] == ["Answer"] * 3


def test_it_has_exercises_that_say_not_yet(lesson, lesson_number):
    """Two to four, from easy to hard, each with hints; tests/unit/test_exercises.py reads them."""
    cells = exercise_cells(lesson)
    wanted = [f"{lesson_number}.{number}" for number in range(1, len(cells) + 1)]
    assert 2 <= len(cells) <= 4
    assert [CHECK.search(cell.source)[1] for cell in cells] == wanted
    for cell, exercise in zip(cells, wanted, strict=True):
        assert f"{exercise}  Not yet: " in cell.outputs[-1].text
    text = "\n".join(cell.source for cell in section(lesson, "Exercises"))
    numbers, degrees = zip(*EXERCISE.findall(text), strict=True)
    assert list(numbers) == [number[-1] for number in wanted]
    assert list(degrees) == sorted(degrees, key=["easy", "medium", "hard"].index)
    assert f'`exercises.hint("{lesson_number}.1")`' in text


def test_each_exercise_has_a_solution(lesson):
    """tests/integration/test_exercises_server.py runs them."""
    wanted = [f"Exercise {number}" for number, _ in enumerate(exercise_cells(lesson), start=1)]
    assert [summary for summary, _ in folded(lesson, "Solutions")] == wanted


@pytest.mark.parametrize("number", WITH_QUIZ)
def test_a_part_of_the_course_ends_with_a_quiz(number):
    """Its key, in the folded solution, is what the check takes."""
    (path,) = (path for path in LESSONS if path.name.startswith(number))
    lesson = read(path)
    (cell,) = (cell for cell in section(lesson, "Wrap-up quiz") if cell.cell_type == "code")
    assert f"{number}.quiz  Not yet: give " in printed(cell)
    ((_, key),) = folded(lesson, "Wrap-up quiz")
    letters = re.search(r"<code>([abcd]+)</code>", key)[1]
    module = importlib.import_module(f"serving_kit.exercises.lesson_{number}")
    assert module.exercise_quiz(letters)
    text = "\n".join(cell.source for cell in section(lesson, "Wrap-up quiz"))
    assert len(re.findall(r"^\d\. .+", text, re.M)) == len(letters)


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
