"""The messages about projects of lesson 14 in docs/troubleshooting.md: the typical mistakes."""

import json
import shutil
import sys
import zipfile

import pytest
from learner_projects import NAME, call_main, configure, exported_project
from provoking import edit, provokes, raised

from serving_kit.errors import ProjectError
from serving_kit.projects import Project, certificate, compare, new_project, progress
from serving_kit.projects.checks import Missing, finish, graphs, served


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    project = exported_project(tmp_path_factory.mktemp("projects"), versions=(1, 2))
    configure(project)
    return project


@pytest.fixture
def project(exported, tmp_path):
    """A project of a test's own, to be spoiled: a text model with two versions."""
    return shutil.copytree(exported, tmp_path / NAME)


@pytest.fixture(autouse=True)
def reads_the_network_anew(monkeypatch):
    """Also where a file was changed within the second in which Python would have compiled it."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield
    sys.modules.pop("network", None)


def graph_of(project, version):
    return project / "model_repository" / NAME / str(version) / "model"


@provokes("A project cannot be made")
def test_a_project_cannot_be_made(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "file").touch()
    return [
        raised(ProjectError, new_project, "My-model", "text", tmp_path),
        raised(ProjectError, new_project, "mine", "text", tmp_path),
        raised(ProjectError, new_project, "mine", "image", tmp_path),
        raised(ProjectError, new_project, "mine", "text", tmp_path / "file"),
    ]


@provokes("Not a project, or not a complete one")
def test_not_a_project(tmp_path, monkeypatch):
    project = new_project("mine", "pair", tmp_path)
    said = [raised(ProjectError, progress, tmp_path), raised(ProjectError, certificate, project)]
    module = sys.modules[certificate.__module__]  # which the package has under the same name
    monkeypatch.setattr(module, "is_complete", lambda steps: True)
    (project / "certificate.html").mkdir()
    return [*said, raised(ProjectError, certificate, project)]


def test_all_is_well_before_a_mistake_is_made(project):
    checked = Project(project)
    assert graphs.exported(checked) == "versions 1, 2: int64 [1, 48] -> float32 [1, 4]"
    assert compare.compare(project, 1) < 1e-5
    assert served.configured(checked) == "no mistakes found; 1 instance, max_batch_size 1"


@provokes("The export of a project is wrong")
def test_the_export_of_a_project_is_wrong(project):
    def why(version=1):
        return raised(compare.Missing, compare.compare, project, version)

    said = [raised(Missing, graphs.exported, Project(new_project("none", "text", project.parent)))]
    shutil.rmtree(graph_of(project, 1))
    shutil.copytree(graph_of(project, 2), graph_of(project, 1))
    said.append(why())
    # a network that takes a row without a batch, too
    embed = "        x = self.embed(tokens)"
    edit(project / "network.py", embed, f"        tokens = tokens.reshape(-1, LENGTH)\n{embed}")
    for row in ("array[:1].astype(np.int32)", "array[0]", "array[:2]"):
        edit(project / "export.py", "flow.tensor(array[:1])", f"flow.tensor({row})")
        call_main(project, "export", 1, as_arrays=lambda result: [])
        edit(project / "export.py", f"flow.tensor({row})", "flow.tensor(array[:1])")
        said.append(why())
    call_main(project, "export", 1)
    call_main(project, "train", 1, STEPS={1: 9})
    said.append(why())
    edit(project / "network.py", "return module.eval()", "return module.train()")
    said.append(why())
    call_main(project, "export", 1)
    said.append(raised(Missing, graphs.exported, Project(project)))
    return said


def test_a_state_dict_instead_of_a_graph_is_named(project):
    shutil.rmtree(graph_of(project, 1))
    shutil.copytree(project / "weights" / "1", graph_of(project, 1))
    assert "this folder holds a state dict" in raised(Missing, graphs.exported, Project(project))


@provokes("The network of a project cannot be run")
def test_the_network_of_a_project_cannot_be_run(project):
    def spoil(old, new):
        edit(project / "network.py", old, new)
        said = raised(compare.Missing, compare.compare, project, 1)
        edit(project / "network.py", new, old)
        return said

    said = [
        spoil("import numpy as np", "import numpi as np"),
        spoil("def examples(", "def example("),
        spoil("return [np.stack([tokens_of(text) for text in texts])]", "return texts"),
        spoil("np.stack([tokens_of(text) for text in texts])", "tokens_of(texts[0])[None]"),
        spoil("return module.eval()", "return None"),
        spoil("return self.scores(", "return 7, self.scores("),
        spoil("return self.scores(", "return float('nan') * self.scores("),
    ]
    shutil.rmtree(project / "weights" / "1")
    return [*said, raised(compare.Missing, compare.compare, project, 1)]


@provokes("The configuration of a project is not complete")
def test_the_configuration_of_a_project(project):
    config = project / "model_repository" / NAME / "config.pbtxt"
    said = []

    def why():
        return raised(Missing, served.configured, Project(project))

    for old, new in (
        ("TYPE_INT64", "?"),
        ("TYPE_INT64", "TYPE_INT32"),
        ("[ 48 ]", "[ 1, 48 ]"),
        ("INPUT_0", "tokens"),
        (' label_filename: "labels.txt"', ""),
    ):
        text = config.read_text()
        config.write_text(text.replace(old, new))
        said.append(why())
        config.write_text(text)
    labels = config.with_name("labels.txt")
    labels.write_text("English\nFrench\n")
    said.append(why())
    labels.unlink()
    return [*said, why()]


@provokes("The last steps of a project")
def test_the_last_steps_of_a_project(project):
    checked = Project(project)
    said = [raised(Missing, finish.load_tested, checked), raised(Missing, finish.packaged, checked)]
    report = project / finish.REPORT
    report.write_text(json.dumps({"2 instances, max_batch_size 8": []}))
    said.append(raised(Missing, finish.load_tested, checked))
    report.write_text("{")
    said.append(raised(Missing, finish.load_tested, checked))
    # version 2 is not served, then has the same weights, then is not there
    for version in (1, 2):
        compare.compare(project, version)
    configure(project, more="version_policy { specific { versions: [ 1 ] } }")
    said.append(raised(Missing, finish.second_version, checked))
    shutil.copy(checked.kept / "eager_1.npz", checked.kept / "eager_2.npz")
    said.append(raised(Missing, finish.second_version, checked))
    shutil.rmtree(graph_of(project, 2).parent)
    said.append(raised(Missing, finish.second_version, checked))
    # the package is older than the configuration, lacks the backend, is damaged
    call_main(project, "package")
    configure(project, rows=8)
    said.append(raised(Missing, finish.packaged, checked))
    with zipfile.ZipFile(checked.package, "w") as packed:
        for path in checked.repository.rglob("*"):
            packed.write(path, f"{NAME}/{path.relative_to(project)}")
    said.append(raised(Missing, finish.packaged, checked))
    checked.package.write_bytes(b"PK")
    return [*said, raised(Missing, finish.packaged, checked)]
