"""The lessons in JupyterLab, as ``make lab`` opens it: Run All Cells, and where links lead."""

import json
import os
import posixpath
import re
import shlex
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from notebook_parts import NOTEBOOKS, prose, read

from serving_kit.paths import ROOT
from serving_kit.server.ports import free_ports

START_SECONDS = STOP_SECONDS = 60
RUN_MS = 180_000
NOTEBOOK = "00_quickstart.ipynb"
#: The notebook that JupyterLab shows, as it has it in memory, saved or not; null until it is open.
NOTEBOOK_SHOWN = """() => {
    const panel = globalThis.jupyterapp?.shell.currentWidget;
    const cells = panel?.content?.model?.sharedModel.cells ?? [];
    const kernel = panel?.context?.sessionContext?.session?.kernel;
    return kernel && cells.length ? {
        idle: kernel.status === "idle",
        cells: cells.map(cell => cell.toJSON()).filter(cell => cell.cell_type === "code"),
    } : null;
}"""
OPEN = f"({NOTEBOOK_SHOWN})()?.idle"
#: What some code prints in the kernel of the notebook that is shown.
SAID = """async code => {
    const kernel = jupyterapp.shell.currentWidget.context.sessionContext.session.kernel;
    const future = kernel.requestExecute({code, store_history: false});
    let said = "";
    future.onIOPub = message => { said += message.content.text ?? ""; };
    await future.done;
    return said;
}"""
#: The last cell has printed, or one has failed, after which JupyterLab runs none.
ENDED = f"""() => {{
    const {{idle, cells}} = ({NOTEBOOK_SHOWN})();
    const failed = cell => cell.outputs.some(output => output.output_type === "error");
    return idle && (cells.at(-1).outputs.length > 0 || cells.some(failed));
}}"""


@pytest.fixture
def kit(tmp_path):
    """A copy of what lesson 00 reads and writes; the rest of what git has, by links."""
    for name in ("notebooks", "model_repository"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=what_is_made)
    listing = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in {".venv", *(file.partition("/")[0] for file in listing.stdout.splitlines())}:
        if not (tmp_path / name).exists():
            (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def what_is_made(folder, names):
    """For ``copytree``: what lessons and exports have written, and git ignores."""
    made = {"result.jpg", ".ipynb_checkpoints"}
    return [name for name in names if name in made or Path(folder, name, "export.json").exists()]


@contextmanager
def lab(kit, lessons=""):
    """Run the command of ``make lab`` in a copy of the kit; give the address that it opens.

    Args:
        kit: the folder of the copy.
        lessons: the language of the lessons, as for ``make lab LESSONS=...``.
    """
    lines = subprocess.run(
        ["make", "--dry-run", "lab"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.replace("\\\n", " ")
    (command,) = (line for line in lines.splitlines() if "jupyterlab" in line)
    (port,) = free_ports((None,))
    options = [
        "--no-browser",
        "--LabApp.expose_app_in_browser=True",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
    ]
    home = {"HOME": str(kit / "home"), "JUPYTER_RUNTIME_DIR": str(kit / "runtime")}
    notebook = "zh/" + NOTEBOOK if lessons == "zh" else NOTEBOOK
    with (kit / "lab.log").open("w") as log:
        server = subprocess.Popen(
            ["bash", "-c", f"exec {command} {shlex.join(options)}"],
            cwd=kit,
            env=os.environ | home | {"LESSONS": lessons},
            stdout=log,
            stderr=log,
        )
    try:
        yield address(server, kit, notebook)
    finally:
        # What Jupyter itself does after Ctrl-C and "y": it ends its kernels first.
        server.send_signal(signal.SIGTERM)
        server.wait(STOP_SECONDS)


def address(server, kit, notebook):
    """Wait for the file in which the server says where it is."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        for file in (kit / "runtime").glob("jpserver-*.json"):
            try:
                found = json.loads(file.read_text())
            except json.JSONDecodeError:  # it is being written
                continue
            return f"{found['url']}lab/tree/notebooks/{notebook}?token={found['token']}"
        time.sleep(0.2)
    pytest.fail(f"JupyterLab did not start:\n{(kit / 'lab.log').read_text()[-2000:]}")


@pytest.mark.long
@pytest.mark.parametrize(
    ("lessons", "title", "verdict"),
    [
        ("", "Serve a OneFlow model in ten cells", "01.1  Not yet: "),
        ("zh", "用十个单元格部署 OneFlow 模型", "01.1  还不对："),
    ],
    ids=["English", "Chinese"],
)
def test_lesson_00_runs_in_jupyterlab_and_its_picture_is_there(kit, page, lessons, title, verdict):
    with lab(kit, lessons) as url:
        page.goto(url)
        page.wait_for_function(OPEN, timeout=RUN_MS)
        page.get_by_role("heading", name=title).wait_for()
        check = "from serving_kit import exercises; exercises.check('01.1', None)"
        assert page.evaluate(SAID, check).startswith(verdict)
        # So that nothing seen below is what the file was saved with:
        page.evaluate("jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")
        assert not any(cell["outputs"] for cell in page.evaluate(NOTEBOOK_SHOWN)["cells"])

        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        page.wait_for_function(ENDED, timeout=RUN_MS, polling=500)
        cells = page.evaluate(NOTEBOOK_SHOWN)["cells"]
        outputs = [output for cell in cells for output in cell["outputs"]]
        assert [output["evalue"] for output in outputs if output["output_type"] == "error"] == []
        assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
        assert "".join(cells[-1]["outputs"][0]["text"]).strip() == "stopped"
        picture = page.locator(".jp-OutputArea img").last
        picture.scroll_into_view_if_needed()
        assert picture.evaluate("one => one.naturalWidth") > 600
    assert (kit / "notebooks" / "result.jpg").stat().st_size > 10_000


def links():
    """Return the files of the repository that the lessons and their start page link to."""
    pages = {path: prose(read(path)) for path in NOTEBOOKS}
    pages[ROOT / "notebooks" / "README.md"] = (ROOT / "notebooks" / "README.md").read_text()
    return {
        posixpath.normpath(posixpath.join("notebooks", link.partition("#")[0]))
        for text in pages.values()
        for link in re.findall(r"\]\(([^)\s]+)\)|href=\"([^\"]+)\"", text)
        for link in link
        if link and not link.startswith(("https://", "http://", "#"))
    }


@pytest.mark.long
def test_links_of_the_lessons_lead_to_files_that_jupyterlab_shows(kit, page):
    with lab(kit) as url:
        page.goto(url)
        page.wait_for_function(OPEN, timeout=RUN_MS)
        found = page.evaluate(
            """async paths => Object.fromEntries(await Promise.all(paths.map(async path => [path,
                (await jupyterapp.serviceManager.contents.get(path, {content: false})
                    .catch(() => ({type: "missing"}))).type])))""",
            sorted(links()),
        )
        kinds = {path: "notebook" if path.endswith(".ipynb") else "file" for path in found}
        assert found == kinds
        # And one of each kind is opened by a click, a page of Markdown as a reader wants it.
        page.evaluate(
            "jupyterapp.commands.execute('docmanager:open', {path: 'notebooks/README.md'})"
        )
        page.locator(".jp-MarkdownViewer a", has_text="docs/teaching.md").click()
        page.locator(".jp-MarkdownViewer h1", has_text="Teach with this course").wait_for()
        # Nothing lies over the lesson, such as the question whether to fetch Jupyter's news.
        assert page.locator(".Toastify__toast").count() == 0
