"""The start page of the course and the page for instructors: what they say to type works."""

import json
import re
import subprocess
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np
import oneflow as flow
import pytest
from notebook_parts import NOTEBOOKS

from serving_kit.paths import ROOT
from serving_kit.repository import check, has_errors
from serving_kit.server import TritonServer
from serving_kit.stylenet import load_stylenet

PAGE = (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8")
TEACHING = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.S | re.M)


def test_it_leads_to_every_lesson_in_order():
    links = re.findall(r"^- \[.+?\]\((\w+\.ipynb)\)", PAGE, re.M)
    assert links == [path.name for path in NOTEBOOKS]


def test_its_titles_are_those_of_the_lessons():
    titles = dict(re.findall(r"^- \[\w\w (.+?)\]\((\w+\.ipynb)\)", PAGE, re.M))
    for title, name in titles.items():
        first = json.loads((ROOT / "notebooks" / name).read_text())["cells"][0]["source"]
        assert "".join(first).startswith(f"# {title}\n")


def test_its_make_commands_are_there():
    makefile = (ROOT / "Makefile").read_text()
    for verb in set(re.findall(r"\bmake ([a-z]+)\b(?! sure)", "\n".join(blocks("shell")))):
        assert re.search(rf"^{verb}: ", makefile, re.M), verb


def test_the_development_container_has_the_kit_s_python_and_its_environment():
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    assert "3.10" in container["image"]
    settings = container["customizations"]["vscode"]["settings"]
    assert settings["python.defaultInterpreterPath"].endswith("/.venv/bin/python")
    makefile = (ROOT / "Makefile").read_text()
    for command in container["postCreateCommand"].split(" && "):
        assert re.search(rf"^{command.removeprefix('make ')}: ", makefile, re.M)


def test_what_vs_code_is_started_with():
    (command,) = re.findall(r"^env (\$\(.+\)) code \.$", PAGE, re.M)
    done = subprocess.run(
        ["bash", "-c", f'env {command} bash -c "echo $OPENBLAS_CORETYPE"'],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_marks_are_read_from_notebooks_that_were_handed_in(tmp_path):
    (command,) = re.findall(r"^grep .+$", TEACHING, re.M)
    said = {"an": "Right! It waits.", "bo": "Not yet: it waits.", "li": "正确！它会等待。"}
    for name, line in said.items():
        path = tmp_path / "handed_in" / name / "06_start_triton.ipynb"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"text": [f"06.1  {line}\n"]}, ensure_ascii=False))
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        'handed_in/an/06_start_triton.ipynb:"06.1  Right!',
        'handed_in/li/06_start_triton.ipynb:"06.1  正确！',
    ]


@pytest.mark.long
def test_the_cheat_sheet_from_the_module_to_the_response(tmp_path, monkeypatch):
    """Its code, as it stands there, with a network, an address and smaller pictures put in."""
    graph, request = (block for block in blocks("python"))
    (config,) = blocks("pbtxt")
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "model_repository" / "my_model"
    (folder / "1").mkdir(parents=True)
    image = np.full((1, 3, 64, 64), 99, np.float32)
    names = {"flow": flow, "model": load_stylenet("starry_night"), "example": flow.tensor(image)}
    exec(graph, names)
    (folder / "config.pbtxt").write_text(config.replace("256", "64"))
    assert not has_errors(check(folder.parent))
    with TritonServer(folder.parent, mode="local", ready_timeout=300) as server:
        names["image"] = image
        exec(request.replace("localhost:8000", server.url), names)
        assert names["result"].shape == image.shape
        commands = re.findall(r"^curl (\S+)", "\n".join(blocks("shell")), re.M)
        assert len(commands) > 5
        for url in commands:
            url = url.replace("localhost:8000", server.url).replace("fast_neural_style", "my_model")
            if url.startswith("localhost:8002"):
                url = server.metrics_url.removeprefix("http://")
            assert urlopen(f"http://{url}").status == 200
        with pytest.raises(HTTPError, match="400"):
            urlopen(f"http://{server.url}/v2/models/none/ready")
    names.clear()
