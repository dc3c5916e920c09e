"""The verb check, as a user meets it: what it prints, and its exit code."""

import json
import shutil

import pytest

from serving_kit.cli import main
from serving_kit.paths import MODEL_REPOSITORY


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with the configuration of fast_neural_style, but no version."""
    monkeypatch.chdir(tmp_path)
    for config in ("config.pbtxt", "configs/cpu.pbtxt"):
        copy = tmp_path / "models" / "fast_neural_style" / config
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(MODEL_REPOSITORY / "fast_neural_style" / config, copy)
    return tmp_path / "models"


def test_an_error_makes_it_exit_1(repository, capsys):
    assert main(["check", "models"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("error   models/fast_neural_style  ")
    assert lines[-1].startswith("1 error, ")


def test_json_on_request(repository, capsys):
    assert main(["check", "--json", "models"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["errors"] == 1
    assert report["findings"][0]["code"] == "no-version"


def test_advice_alone_makes_it_exit_0(repository, capsys):
    model = repository / "py"
    (model / "1").mkdir(parents=True)
    (model / "1" / "model.py").write_text("class TritonPythonModel:\n    pass\n")
    (model / "config.pbtxt").write_text('name: "py"\nbackend: "python"\n')
    (model / "config.pbtxt~").write_text("")
    shutil.rmtree(repository / "fast_neural_style")
    assert main(["check", "models"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "0 errors, 1 piece of advice"


def test_nothing_to_say(repository, capsys):
    model = repository / "py"
    (model / "1").mkdir(parents=True)
    (model / "1" / "model.py").write_text("class TritonPythonModel:\n    pass\n")
    (model / "config.pbtxt").write_text('name: "py"\nbackend: "python"\n')
    shutil.rmtree(repository / "fast_neural_style")
    assert main(["check", "models"]) == 0
    assert capsys.readouterr().out == "no mistakes found\n"
