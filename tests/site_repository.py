"""A repository as small as the rules of the course's site allow."""

import base64

import nbformat

OPENING = """# {title}

**What you'll do**: read `config.pbtxt` and [more](../docs/guide.md).

**What you'll learn**: little.

**What you'll need**: 3 minutes; nothing else.
"""
JPEG = base64.b64encode(b"a photo").decode()
PNG = base64.b64encode(b"a chart").decode()
START = """# The course

**First steps**

- [00 Begin](00_begin.ipynb): quickly
- [01 Go on](01_go_on.ipynb)
"""


def write_repository(root):
    """Write a repository of two lessons, the start page, a page to read, and source files."""
    for folder in ("notebooks", "docs", "src/rooms"):
        (root / folder).mkdir(parents=True)
    (root / "README.md").write_text("# The kit\n\nIt is *short*.\n\n![A cat](docs/cat.svg)\n")
    (root / "notebooks/README.md").write_text(START)
    (root / "docs/cat.svg").write_text("<svg/>")
    (root / "docs/guide.md").write_text(
        "# A guide\n\n## The file `config.pbtxt`\n\nOne.\n\n## Twice\n\n## Twice\n"
    )
    (root / "src/kit.py").write_text("def f():\n    return 1\n")
    (root / "src/rooms/b.py").write_text('"""\n```\n"""\n')
    (root / "src/rooms/a.sh").write_text("echo a\n")
    (root / "src/rooms/weights.bin").write_bytes(b"\xff\xfe")
    write_lesson(root, "00_begin", "Begin", pictures={"image/png": PNG, "image/jpeg": JPEG})
    write_lesson(root, "01_go_on", "Go on")


def write_lesson(root, name, title, text="Words.", pictures=None, alt="A picture."):
    """Write a lesson of two texts and a cell that shows pictures, by their kinds."""
    outputs = [nbformat.v4.new_output("stream", text="1\n")]
    for kind, data in (pictures or {}).items():
        metadata = {kind: {"alt": alt}}
        outputs.append(nbformat.v4.new_output("display_data", data={kind: data}, metadata=metadata))
    cells = [
        nbformat.v4.new_markdown_cell(OPENING.format(title=title)),
        nbformat.v4.new_markdown_cell(text),
        nbformat.v4.new_code_cell("print(1)", execution_count=1, outputs=outputs),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), root / "notebooks" / f"{name}.ipynb")
