"""Projects of lesson 14 as far as they need neither OneFlow nor a server."""

import ast

import pytest
from tritonclient.grpc.model_config_pb2 import ModelConfig

from serving_kit.cli import main
from serving_kit.errors import ProjectError
from serving_kit.projects import KINDS, new_project, progress, settings_of, to_text
from serving_kit.projects.evidence import fingerprint, kept


def files_in(folder):
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_project_has_short_files_that_can_be_read(tmp_path, kind):
    project = new_project("my_model", kind, tmp_path)
    assert {"README.md", "network.py", "train.py", "export.py", "client.py"} <= set(
        files_in(project)
    )
    labels = "model_repository/my_model/labels.txt"
    assert (labels in files_in(project)) == (kind != "pair")
    for path in project.rglob("*"):
        if path.is_file():
            text = path.read_text()
            assert "@NAME@" not in text
            assert len(text.splitlines()) <= 120
    for path in project.glob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text()))
    assert [path.name for path in tmp_path.iterdir()] == ["my_model"]


@pytest.mark.parametrize(
    "name", ["My_model", "1st", "my-model", "", ".", "..", "a/b", "a" * 41, "my model", "é"]
)
def test_a_name_that_is_none_gets_one_sentence(tmp_path, name):
    with pytest.raises(ProjectError, match="cannot be the name of a project"):
        new_project(name, "text", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_ever_overwritten(tmp_path):
    project = new_project("mine", "text", tmp_path)
    (project / "network.py").write_text("# precious")
    (tmp_path / "file").write_text("precious")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("mine", "file", "link"):
        with pytest.raises(ProjectError, match="exists already"):
            new_project(name, "text", tmp_path)
    assert (project / "network.py").read_text() == "# precious"


def test_the_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["new", "mine", "--model", "pair"]) == 0
    assert capsys.readouterr().out == "made      mine/, pair: begin with mine/README.md\n"
    assert main(["progress", "mine"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(
        "1  exported     missing  model_repository/mine/1/model is not there"
    )
    assert lines[-1] == "0 of 8 steps are done"
    assert main(["progress", "mine", "--certificate"]) == 1
    assert "error: mine is not complete: step 1, exported" in capsys.readouterr().err
    assert not (tmp_path / "mine" / "certificate.html").exists()


def test_a_project_can_be_called_from_within_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(new_project("mine", "pair", tmp_path))
    assert to_text(progress(".")).endswith("0 of 8 steps are done")


def test_what_was_found_is_kept_until_a_file_changes(tmp_path):
    (tmp_path / "a").write_text("1")
    found = []

    def find():
        found.append(1)
        return {"found": len(found)}

    def look():
        return kept(tmp_path / "kept" / "it.json", fingerprint(tmp_path, [tmp_path / "a"]), find)

    assert [look(), look()] == [{"found": 1}] * 2
    (tmp_path / "a").write_text("12")
    assert look() == {"found": 2}
    (tmp_path / "kept" / "it.json").write_text("{}")
    assert look() == {"found": 3}


def test_settings_in_words():
    config = ModelConfig(max_batch_size=1)
    assert settings_of(config) == "1 instance, max_batch_size 1"
    config.instance_group.add(count=2)
    config.dynamic_batching.SetInParent()
    config.parameters["batch_sizes"].string_value = "2, 4"
    assert settings_of(config) == (
        "2 instances, max_batch_size 1, dynamic_batching, batch_sizes 2, 4"
    )
