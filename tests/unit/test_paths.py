"""Where a lesson runs, and in which language, by the folder that its kernel starts in."""

import os
from pathlib import Path

import pytest

from serving_kit.paths import NOTEBOOKS, enter_notebooks


@pytest.mark.parametrize(
    ("start", "entered", "language"),
    [
        ("kit/notebooks", "kit/notebooks", None),
        ("kit/notebooks/zh", "kit/notebooks", "zh"),
        ("kit/notebooks/.ipynb_checkpoints", "kit/notebooks", None),
        ("elsewhere", NOTEBOOKS, None),
    ],
)
def test_a_lesson_runs_in_the_folder_of_lessons(tmp_path, monkeypatch, start, entered, language):
    monkeypatch.setenv("SERVING_KIT_LANGUAGE", "")  # so that it is as it was afterwards
    monkeypatch.delenv("SERVING_KIT_LANGUAGE")
    (tmp_path / start).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / start)
    for _ in range(2):  # a cell may be run twice
        enter_notebooks()
        assert Path.cwd() == tmp_path / entered
        assert os.environ.get("SERVING_KIT_LANGUAGE") == language


def test_a_language_that_is_set_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("SERVING_KIT_LANGUAGE", "en")
    (tmp_path / "notebooks" / "zh").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "notebooks" / "zh")
    enter_notebooks()
    assert os.environ["SERVING_KIT_LANGUAGE"] == "en"
