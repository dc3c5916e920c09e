"""Draw docs/drawings/: each ``.mmd`` file becomes the ``.svg`` beside it.

``make drawings`` runs this. The pictures show without a network and without JavaScript. Mermaid
comes from the npm registry into ``build/``, once, at the version and hash below, and draws in
this machine's Chromium, which is offline meanwhile.

The drawing of the kit's modules is written here, too, from their import statements.
"""

import base64
import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DRAWINGS = ROOT / "docs" / "drawings"
MODULES = DRAWINGS / "modules.mmd"
KIT = ROOT / "src" / "serving_kit"
BACKEND_NAME = "backends/oneflow"
BACKEND = ROOT / BACKEND_NAME

MERMAID = "mermaid@11.12.0"
MERMAID_SHA512 = (
    "ZudVx73BwrMJfCFmSSJT84y6u5brEoV8DOItdHomNLz32uBjNrelm7mg95X7g+C6UoQH/W6mBLGDEDv73JdxBg=="
)
MERMAID_FILE = "package/dist/mermaid.min.js"

FONT = "Arial, Helvetica, sans-serif"
SETTINGS = {
    "startOnLoad": False,
    "securityLevel": "strict",
    # Labels are SVG's own text: HTML in an SVG shows in browsers only.
    "htmlLabels": False,
    "flowchart": {
        "htmlLabels": False,
        "useMaxWidth": False,
        "wrappingWidth": 500,
        "nodeSpacing": 30,
        "rankSpacing": 42,
        "padding": 10,
        "subGraphTitleMargin": {"top": 2, "bottom": 14},
    },
    "sequence": {
        "useMaxWidth": False,
        "mirrorActors": False,
        "actorMargin": 30,
        "width": 130,
        "actorFontFamily": FONT,
        "noteFontFamily": FONT,
        "messageFontFamily": FONT,
        "noteMargin": 16,
    },
    "theme": "base",
    "themeVariables": {
        "fontFamily": FONT,
        "fontSize": "15px",
        "primaryColor": "#e8f0fb",
        "primaryBorderColor": "#4a6fa5",
        "primaryTextColor": "#1b1f24",
        "lineColor": "#57606a",
        "edgeLabelBackground": "#ffffff",
        "clusterBkg": "#f6f8fa",
        "clusterBorder": "#afb8c1",
        "noteBkgColor": "#fff8dc",
        "noteBorderColor": "#c9b458",
        "noteTextColor": "#1b1f24",
    },
    # Mermaid lets the arrow shine through its label.
    "themeCSS": ".edgeLabel rect { opacity: 1 !important; fill: #ffffff !important; }",
}
#: Without it the pictures could not be read on a dark page.
PAPER = '<svg style="background-color: white" '

HEAD = """\
---
config:
  flowchart:
    nodeSpacing: 20
    rankSpacing: 34
---
%% make drawings writes this from the import statements of src/serving_kit/
flowchart LR"""
#: Imported nearly everywhere, or (``__main__``) nothing but a call of ``cli``.
LEFT_OUT = {"errors", "paths", "__main__"}


def main() -> None:
    """Draw every drawing anew."""
    MODULES.write_text(modules_drawing(kit_imports()))
    sources = sorted(DRAWINGS.glob("*.mmd"))
    pictures = render([source.read_text() for source in sources])
    for source, picture in zip(sources, pictures, strict=True):
        target = source.with_suffix(".svg")
        target.write_text(stamp(source) + picture + "\n")
        print(f"{target.relative_to(ROOT)}: {target.stat().st_size:,} bytes")


def stamp(source: Path) -> str:
    """Return the first line of a picture: which text it was drawn from."""
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    return f"<!-- make drawings drew this from {source.name}, SHA-256 {digest} -->\n"


def render(texts: list[str]) -> list[str]:
    """Draw Mermaid texts in a browser without a window; return an SVG for each."""
    from playwright.sync_api import sync_playwright

    script = mermaid_script()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        context = browser.new_context(offline=True)
        page = context.new_page()
        page.add_script_tag(content=script)
        page.evaluate("settings => mermaid.initialize(settings)", SETTINGS)
        pictures = [
            page.evaluate("async text => (await mermaid.render('drawing', text)).svg", text)
            for text in texts
        ]
        browser.close()
    return [picture.replace("<svg ", PAPER, 1) for picture in pictures]


def mermaid_script() -> str:
    """Return Mermaid's JavaScript; download it first, if it is not in ``build/`` yet."""
    folder = ROOT / "build" / "mermaid"
    archive = folder / f"{MERMAID.replace('@', '-')}.tgz"
    if not archive.exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "pack", "--silent", MERMAID], cwd=folder, check=True)
    found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != MERMAID_SHA512:
        sys.exit(
            f"{archive} has the SHA-512 {found}, expected {MERMAID_SHA512}; remove it, and ask "
            "where it came from"
        )
    with tarfile.open(archive) as package:
        return package.extractfile(MERMAID_FILE).read().decode()


def kit_imports() -> dict[str, set[str]]:
    """Return, for each module or package of the kit, which others it imports, now or later.

    The backend's modules count as one, ``backends/oneflow``.
    """
    imports: dict[str, set[str]] = {}
    for path in sorted(KIT.rglob("*.py")):
        name = path.relative_to(KIT).parts[0].removesuffix(".py")
        if name != "__init__":
            imports.setdefault(name, set()).update(_imported(path.read_text()) - {name})
    return imports


def _imported(source: str) -> set[str]:
    """Return what a file imports of the kit and of the backend."""
    names = re.findall(r"^ *from serving_kit\.(\w+)|^ *import serving_kit\.(\w+)", source, re.M)
    found = {first or second for first, second in names}
    for line in re.findall(r"^ *from serving_kit import (.+)$", source, re.M):
        found |= set(re.findall(r"\w+", line))
    backend = {path.stem for path in BACKEND.glob("*.py")}
    others = re.findall(r"^from (\w+) import|import_module\(\"(\w+)\"\)", source, re.M)
    if backend & {first or second for first, second in others}:
        found.add(BACKEND_NAME)
    return found


def modules_drawing(imports: dict[str, set[str]]) -> str:
    """Return the drawing of the modules: arrows to what is not reached by way of another."""
    shown = {name: imports[name] - LEFT_OUT for name in imports.keys() - LEFT_OUT}

    def reached(name: str) -> set[str]:
        direct = shown.get(name, set())
        return direct.union(*(reached(other) for other in direct))

    arrows = []
    # In this order Mermaid leads the fewest arrows behind a module that they do not mean.
    for name, targets in sorted(shown.items(), reverse=True):
        by_way = set().union(*(reached(other) for other in targets))
        arrows += [(name, other) for other in sorted(targets - by_way, reverse=True)]
    names = sorted({name for arrow in arrows for name in arrow}, reverse=True)
    lines = [HEAD, *(f'    {_id(name)}["{name}"]' for name in names)]
    lines += [f"    {_id(name)} --> {_id(other)}" for name, other in arrows]
    lines += [f"    style {_id(BACKEND_NAME)} fill:#fff8dc,stroke:#c9b458"]
    return "\n".join([*lines, ""])


def _id(name: str) -> str:
    """Return a name that means nothing to Mermaid, as ``graph`` and ``end`` do."""
    return "m_" + name.replace("/", "_")


if __name__ == "__main__":
    main()
