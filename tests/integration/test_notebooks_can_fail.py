"""That the notebooks pass means something: they fail when what they teach is broken."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from serving_kit.paths import ROOT

SECONDS = 300
LESSON = "notebooks/00_quickstart.ipynb"


def run(folder, notebook, *options, **environment):
    """Run a notebook as ``make test`` does; return what pytest says."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, notebook],
        cwd=folder,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def failed_cell(done, notebook):
    """Return the number of the code cell that failed."""
    assert done.returncode == 1, done.stdout
    return int(re.search(rf"^FAILED {notebook}::Cell (\d+)", done.stdout, re.M)[1])


@pytest.fixture
def course(tmp_path):
    """A folder with the settings of the tests and room for a notebook; nothing of the kit."""
    for file in ("pyproject.toml", "conftest.py"):
        shutil.copyfile(ROOT / file, tmp_path / file)
    return tmp_path


def write_notebook(path, exact, varies):
    """Save a notebook as if it had been run; the last cells have the tag of such as vary."""
    cells = [
        nbformat.v4.new_code_cell(
            source,
            execution_count=count,
            metadata={"tags": ["varies"]} if count > len(exact) else {},
            outputs=[nbformat.v4.new_output("stream", name="stdout", text=printed)],
        )
        for count, (source, printed, _) in enumerate([*exact, *varies], start=1)
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)


#: Cells of a notebook as (source, what it was saved with, whether that passes).
EXACT = [
    ("print(3 * 47)", "141\n", True),
    ("print(3 * 49)", "141\n", False),
    ("print(3 / 0)", "141\n", False),
]
SAVED = "slowest: b  3 ms at 127.0.0.1:41507\n"
VARIES = [
    ("print('slowest: b', '12.5 ms', 'at 127.0.0.1:8000')", SAVED, True),
    ("print('slowest: a', '12.5 ms', 'at 127.0.0.1:8000')", SAVED, False),
    ("print('slowest: b', '12.5 s', 'at 127.0.0.1:8000')", SAVED, False),
    ("print('slowest: b', 'None ms', 'at 127.0.0.1:8000')", SAVED, False),
]


def test_a_cell_that_prints_something_else_than_it_was_saved_with_fails(course):
    """All it printed is compared; of cells whose numbers vary, the words are."""
    write_notebook(course / "tiny.ipynb", EXACT, VARIES)
    done = run(course, "tiny.ipynb")
    failed = re.findall(r"^FAILED tiny.ipynb::Cell (\d+)", done.stdout, re.M)
    wanted = [number for number, (*_, passes) in enumerate([*EXACT, *VARIES]) if not passes]
    assert list(map(int, failed)) == wanted, done.stdout


@pytest.fixture
def kit(course):
    """A copy of the kit that may be broken; its notebooks use it, and nothing of the original."""
    for folder in ("src", "backends"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, course / folder, ignore=ignored)
    shutil.copytree(
        ROOT / "model_repository", course / "model_repository", ignore=exported_versions
    )
    (course / "assets").symlink_to(ROOT / "assets")
    (course / "notebooks").mkdir()
    shutil.copyfile(ROOT / LESSON, course / LESSON)
    return course


def exported_versions(folder, names):
    """For ``copytree``: leave out what was exported, and keep the versions that are sources."""
    return [name for name in names if (Path(folder) / name / "export.json").exists()]


def replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def the_model_is_another(kit):
    network = kit / "src/serving_kit/stylenet/network.py"
    replace(network, "(self.paint(x)) * 255", "(self.paint(x)) * 250")


def the_backend_is_wrong(kit):
    replace(kit / "backends/oneflow/model.py", "rows.copy() if copied else rows", "rows + 1")


def the_config_is_wrong(kit):
    replace(kit / "model_repository/fast_neural_style/configs/cpu.pbtxt", "TYPE_FP32", "TYPE_FP16")


@pytest.mark.long
@pytest.mark.parametrize(
    ("spoil", "cell"),
    [
        (the_model_is_another, "eager = model(flow.tensor(image))"),
        (the_config_is_wrong, '(model_folder / "configs/cpu.pbtxt").read_text()'),
        (the_backend_is_wrong, 'triton_client.infer("fast_neural_style"'),
    ],
)
def test_the_quickstart_fails_when_something_is_broken(kit, spoil, cell):
    spoil(kit)
    path = os.pathsep.join(str(kit / folder) for folder in ("src", "backends/oneflow"))
    # It is the cell that meets what was broken; all before it passed in this copy.
    number = failed_cell(run(kit, LESSON, "-x", PYTHONPATH=path), LESSON)
    cells = json.loads((kit / LESSON).read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert cell in code[number]
