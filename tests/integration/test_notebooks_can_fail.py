"""That the notebooks pass means something: they fail when what they teach is broken."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from serving_kit.paths import ROOT

SECONDS = 300
LESSON = "notebooks/00_quickstart.ipynb"


@pytest.fixture
def kit(tmp_path):
    """A copy of the kit that may be broken; its notebooks use it, and nothing of the original."""
    kit = tmp_path / "kit"
    for folder in ("src", "backends"):
        shutil.copytree(ROOT / folder, kit / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "model_repository", kit / "model_repository", ignore=exported_versions)
    (kit / "assets").symlink_to(ROOT / "assets")
    (kit / "notebooks").mkdir()
    for file in (LESSON, "pyproject.toml", "conftest.py"):
        shutil.copyfile(ROOT / file, kit / file)
    return kit


def exported_versions(folder, names):
    """For ``copytree``: leave out what was exported, and keep the versions that are sources."""
    return [name for name in names if (Path(folder) / name / "export.json").exists()]


def run_lesson(kit):
    """Run the lesson as ``make test`` does, until its first cell fails; return what pytest says."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", LESSON],
        cwd=kit,
        env={**os.environ, "PYTHONPATH": str(kit / "src")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def another_number_was_saved(kit):
    """Add one to the first number of two digits or more that a cell printed."""
    notebook = json.loads((kit / LESSON).read_text())
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            text = "".join(output.get("text", ""))
            if found := re.search(r"\b\d{2,}\b", text):
                changed = str(int(found[0]) + 1)
                output["text"] = text[: found.start()] + changed + text[found.end() :]
                (kit / LESSON).write_text(json.dumps(notebook))
                return
    raise AssertionError("no number was printed")


def the_model_is_another(kit):
    replace(kit / "src/serving_kit/stylenet.py", "(self.paint(x)) * 255", "(self.paint(x)) * 250")


def the_backend_is_wrong(kit):
    replace(kit / "backends/oneflow/model.py", "rows.copy() if copied else rows", "rows + 1")


def the_config_is_wrong(kit):
    replace(kit / "model_repository/fast_neural_style/configs/cpu.pbtxt", "TYPE_FP32", "TYPE_FP16")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "cell"),
    [
        (another_number_was_saved, "print(sum(p.numel() for p in model.parameters())"),
        (the_model_is_another, "eager = model(flow.tensor(image))"),
        (the_config_is_wrong, 'Path("../model_repository/fast_neural_style/configs/cpu.pbtxt")'),
        (the_backend_is_wrong, 'triton_client.infer("fast_neural_style"'),
    ],
)
def test_a_lesson_fails_when_something_is_broken(kit, spoil, cell):
    spoil(kit)
    done = run_lesson(kit)
    assert done.returncode == 1, done.stdout
    # It is the cell that meets what was broken; all before it passed in this copy.
    number = int(re.search(r"^FAILED notebooks/00_\w+\.ipynb::Cell (\d+)", done.stdout, re.M)[1])
    cells = json.loads((kit / LESSON).read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert cell in code[number]
