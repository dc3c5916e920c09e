"""Each project of lesson 14 from an empty folder: by the lesson, and by the README's commands."""

import contextlib
import html
import os
import re
import subprocess
import sys

import pytest
from learner_projects import NAME
from nbclient import NotebookClient
from notebook_parts import LESSONS, code_cells, read

from serving_kit.errors import ServerError
from serving_kit.projects import KINDS, is_complete, new_project, progress
from serving_kit.server.ports import HOST, free_ports

SECONDS = 300
(LESSON,) = (path for path in LESSONS if path.name.startswith("14"))
DONE = "8 of 8 steps are done"


def printed(cell):
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_the_lesson_leads_to_a_served_model(tmp_path, kind):
    """All cells as they are, but for the name of the network and an empty folder to work in."""
    notebook = read(LESSON)
    first = code_cells(notebook)[0]
    for old, new in (
        ('MODEL = "classifier"', f'MODEL = "{kind}"'),
        ('Path("../build/lesson_14")', f'Path("{tmp_path}/lesson_14")'),
    ):
        assert old in first.source
        first.source = first.source.replace(old, new)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=SECONDS, resources=resources).execute()
    outputs = [printed(cell) for cell in code_cells(notebook)]
    assert sum(DONE in text for text in outputs) == 1
    project = tmp_path / "lesson_14" / NAME
    assert is_complete(progress(project))
    assert NAME in (project / "certificate.html").read_text()
    mistakes = "".join(outputs[outputs.index(next(t for t in outputs if DONE in t)) :])
    assert len(re.findall("^(?:exported|equal|configured): ", mistakes, re.M)) == (
        5 if kind == "pair" else 6
    )


@pytest.fixture
def python():
    """Run a command of the README with the kit's Python; return what it printed."""

    def python(folder, *words):
        done = subprocess.run(
            [sys.executable, *words], cwd=folder, capture_output=True, text=True, timeout=SECONDS,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    yield python
    python(".", "-m", "serving_kit", "stop")


def three_ports():
    """Return the first two of three free ports in a row, which serve takes for its own."""
    for _ in range(50):
        (first,) = free_ports((None,))
        with contextlib.suppress(ServerError):
            return free_ports((first, first + 1, first + 2))[:2]
    raise AssertionError("no three ports in a row are free")


CONFIG = """name: "my_model"
backend: "oneflow"
max_batch_size: 1
input [ { name: "INPUT_0" data_type: TYPE_FP32 dims: [ 6 ] },
        { name: "INPUT_1" data_type: TYPE_FP32 dims: [ 10 ] } ]
output [ { name: "OUTPUT_0" data_type: TYPE_FP32 dims: [ 1 ] reshape { shape: [ ] } } ]
instance_group [ { count: 1 kind: KIND_CPU } ]
"""


@pytest.mark.long
def test_the_commands_of_the_readme_lead_to_a_served_model(tmp_path, python):
    project = new_project(NAME, "pair", tmp_path)
    readme = (project / "README.md").read_text()
    commands = re.findall(r"`python ([^`]+)`", readme)
    http, grpc = three_ports()
    where = {
        "client.py": ["--http", f"{HOST}:{http}", "--grpc", f"{HOST}:{grpc}"],
        "load_test.py": ["--grpc", f"{HOST}:{grpc}"],
    }
    steps = [words.split() for words in commands if "progress" not in words]
    names = [next(word for word in words if word not in ("-m", "serving_kit")) for words in steps]
    assert names == [
        "train.py", "export.py", "check", "serve", "client.py", "pytest", "load_test.py",
        "train.py", "export.py", "package.py", "stop",
    ]  # fmt: skip
    for words, name in zip(steps[:-1], names, strict=False):
        if name == "check":
            (project / "model_repository" / NAME / "config.pbtxt").write_text(CONFIG)
        if name == "serve":
            words = [*words, "--port", str(http)]
        python(project, *words, *where.get(name, []))
    said = python(tmp_path, "-m", "serving_kit", "progress", NAME, "--certificate", "Ada <L>")
    assert DONE in said
    assert "Ada <L> can:" in said
    assert html.escape("Ada <L>") in (project / "certificate.html").read_text()


@pytest.mark.long
def test_the_classifier_has_the_layout_of_flowvision(tmp_path, flowvision):
    """What the lesson says: with other arguments it takes the weights of flowvision's resnet18."""
    project = new_project(NAME, "classifier", tmp_path)
    program = """
import numpy as np, oneflow as flow
from flowvision.models import resnet18
from network import ResNet
theirs = resnet18().eval()
ours = ResNet(layers=(2, 2, 2, 2), width=64, num_classes=1000).eval()
ours.load_state_dict(theirs.state_dict())
x = flow.tensor(np.random.default_rng(0).random((1, 3, 64, 64), np.float32))
with flow.no_grad():
    assert np.allclose(ours(x).numpy(), theirs(x).numpy(), rtol=1e-4, atol=1e-5)
"""
    subprocess.run(
        [sys.executable, "-c", program],
        cwd=project, env={**os.environ, "PYTHONPATH": str(flowvision)}, check=True, timeout=SECONDS,
    )  # fmt: skip


NETWORK_OF_FLOWVISION = """
import numpy as np
import oneflow as flow
from flowvision.models import resnet18


def network(version):
    flow.manual_seed(version)
    return resnet18().eval()


def examples():
    return [np.random.default_rng(0).random((2, 3, 64, 64), np.float32)]
"""


@pytest.mark.long
def test_a_network_of_flowvision_goes_the_same_way(tmp_path, flowvision, python, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(flowvision))
    project = new_project(NAME, "classifier", tmp_path)
    (project / "network.py").write_text(NETWORK_OF_FLOWVISION)
    (project / "model_repository" / NAME / "labels.txt").unlink()
    python(project, "export.py", "1")
    (project / "model_repository" / NAME / "config.pbtxt").write_text('backend: "oneflow"\n')
    states = {step.name: step.state for step in progress(project)}
    assert [name for name, state in states.items() if state == "done"] == [
        "exported", "equal", "configured", "served", "batch",
    ]  # fmt: skip
