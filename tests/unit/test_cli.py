"""The commands as far as they go without a server: what they print, and their exit code."""

import json
import shutil

import pytest

from serving_kit.cli import main
from serving_kit.errors import ExportError
from serving_kit.paths import MODEL_REPOSITORY, ROOT


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
    assert lines[0].startswith("error    models/fast_neural_style  ")
    assert lines[-1].startswith("1 error, ")


def test_json_on_request(repository, capsys):
    assert main(["check", "--json", "models"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["errors"] == 1
    assert report["findings"][0]["code"] == "no-version"


def test_a_warning_alone_makes_it_exit_0(repository, capsys):
    model = repository / "py"
    (model / "1").mkdir(parents=True)
    (model / "1" / "model.py").write_text("class TritonPythonModel:\n    pass\n")
    (model / "config.pbtxt").write_text('name: "py"\nbackend: "python"\n')
    (model / "config.pbtxt~").write_text("")
    shutil.rmtree(repository / "fast_neural_style")
    assert main(["check", "models"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "0 errors, 1 warning"


def test_nothing_to_say(repository, capsys):
    model = repository / "py"
    (model / "1").mkdir(parents=True)
    (model / "1" / "model.py").write_text("class TritonPythonModel:\n    pass\n")
    (model / "config.pbtxt").write_text('name: "py"\nbackend: "python"\n')
    shutil.rmtree(repository / "fast_neural_style")
    assert main(["check", "models"]) == 0
    assert capsys.readouterr().out == "no mistakes found\n"


MISTAKES = {
    "missing picture": (["--image", "none.jpg"], "error: there is no file none.jpg; give the path"),
    "text file": (["--image", "notes.txt"], "error: notes.txt is text; expected a JPEG, PNG or"),
    "folder": (["--image", "."], "error: . is a folder or a device; give the path of a picture"),
    "unknown style": (["--style", "red_amber"], "error: style 'red_amber' does not exist; write "),
    "not a format": (["--output", "result"], "error: result has no known picture extension"),
    "no such folder": (
        ["--output", "no/result.jpg"],
        "error: no/result.jpg cannot be written: there",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_in_demo_gets_one_sentence_and_no_server(tmp_path, monkeypatch, capfd, case):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("not a picture")
    arguments, sentence = MISTAKES[case]
    assert main(["demo", *arguments]) == 1
    told = capfd.readouterr()
    assert told.err.startswith(sentence) and told.err.count("\n") == 1
    assert told.out == ""  # which would begin with the server
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.fixture
def no_export(monkeypatch):
    """Lets every export fail with a sentence of its own."""

    def repository_for(*_, **__):
        raise ExportError("an export was asked for")

    monkeypatch.setattr("serving_kit.models.repository_for", repository_for)


@pytest.mark.parametrize("path", ["model_repository", "../model_repository", "link"])
def test_serve_exports_the_models_however_their_folder_is_named(
    path, tmp_path, monkeypatch, no_export, capsys
):
    (tmp_path / "link").symlink_to(MODEL_REPOSITORY)
    monkeypatch.chdir({"link": tmp_path, "model_repository": ROOT}.get(path, ROOT / "docs"))
    assert main(["serve", "--repository", path]) == 1
    assert capsys.readouterr().err == "error: an export was asked for\n"


def test_serve_exports_nothing_for_another_folder_and_for_a_dry_run(
    tmp_path, monkeypatch, no_export, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main(["serve", "--repository", "none"]) == 1
    assert f"error: {tmp_path}/none is not a folder" in capsys.readouterr().err
    assert main(["serve", "--dry-run"]) == 0
    assert "tritonserver" in capsys.readouterr().out
