"""Reading the notebooks: their cells, sections, exercises and folded solutions."""

import ast
import html
import re

import nbformat
from IPython.core.inputtransformer2 import TransformerManager

from serving_kit.paths import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
#: All but the quickstart and the appendix; they share one skeleton.
LESSONS = [path for path in NOTEBOOKS if path.name[:2] in {f"{n:02d}" for n in range(1, 100)}]
# In one block of HTML, without an empty line: only so does nbconvert keep it folded, too.
FOLDED = re.compile(r"^<details><summary>([^<]+)</summary>\n((?:.+\n)+?)</details>$", re.M)
CHECK = re.compile(r'exercises\.check\("([\d.]+)", (\w+)\)')


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(notebook):
    """Return the text of all Markdown cells."""
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def section(notebook, heading):
    """Return the cells from one heading to the next."""
    cells, inside = [], False
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and re.search(r"^## ", cell.source, re.M):
            inside = f"## {heading}" in cell.source.splitlines()
        if inside:
            cells.append(cell)
    return cells


def folded(notebook, heading):
    """Return summary and content of each folded part of a section."""
    return FOLDED.findall("\n".join(cell.source for cell in section(notebook, heading)))


def exercise_cells(lesson):
    """Return the cells that check an exercise."""
    cells = [cell for cell in section(lesson, "Exercises") if cell.cell_type == "code"]
    return [cell for cell in cells if CHECK.search(cell.source)]


def solutions(lesson):
    """Yield number and answer of each exercise, as its folded solution defines it."""
    parts = folded(lesson, "Solutions")
    for cell, (_, solution) in zip(exercise_cells(lesson), parts, strict=True):
        namespace = definitions(lesson)
        code = re.search(r"<pre><code>(.+?)</code></pre>", solution, re.S)[1]
        exec(html.unescape(code), namespace)
        number, answer = CHECK.search(cell.source).groups()
        yield number, namespace[answer]


def definitions(lesson):
    """Return what the lesson imports, and the first form of each of its classes."""
    body, seen = [], set()
    for cell in code_cells(lesson):
        for node in ast.parse(TransformerManager().transform_cell(cell.source)).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                body.append(node)
            if isinstance(node, ast.ClassDef) and node.name not in seen:
                seen.add(node.name)
                body.append(node)
    namespace = {}
    exec(compile(ast.Module(body, []), "lesson", "exec"), namespace)
    return namespace
