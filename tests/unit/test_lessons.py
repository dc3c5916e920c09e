"""A lesson that needs what an earlier one makes gets it, by running that lesson if need be."""

import nbformat
import pytest

from serving_kit.errors import ServingKitError
from serving_kit.exercises import lessons


@pytest.fixture
def lesson(tmp_path, monkeypatch):
    monkeypatch.setattr(lessons, "NOTEBOOKS", tmp_path)

    def write(code):
        path = tmp_path / "77_make_it.ipynb"
        nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)]), path)
        return path

    return write


def test_what_is_there_is_not_made_again(lesson, tmp_path):
    lesson("1 / 0")
    assert lessons.made_by("77_make_it", tmp_path) == tmp_path


def test_what_is_missing_is_made_and_the_notebook_stays_as_it_is(lesson, tmp_path):
    notebook = lesson("open('made', 'w').close()\nprint('made')")
    before = notebook.read_bytes()
    assert lessons.made_by("77_make_it", tmp_path / "made").exists()
    assert notebook.read_bytes() == before


def test_a_lesson_that_fails_is_named_with_its_error(lesson, tmp_path):
    lesson("1 / 0")
    with pytest.raises(ServingKitError, match=r"77_make_it, .* ended with ZeroDivisionError"):
        lessons.made_by("77_make_it", tmp_path / "made")


def test_a_lesson_that_does_not_make_it_is_named(lesson, tmp_path):
    lesson("pass")
    with pytest.raises(ServingKitError, match=r"77_make_it ran, but there is no .*made; open"):
        lessons.made_by("77_make_it", tmp_path / "made")
