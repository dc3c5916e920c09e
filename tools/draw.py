"""Draw docs/drawings/: each ``.mmd`` file becomes the ``.svg`` beside it, and both in Chinese.

``make drawings`` runs this. The pictures show without a network and without JavaScript. Mermaid
comes from the npm registry into ``build/``, once, at the version and hash below, and draws in
this machine's Chromium, which is offline meanwhile. Boxes fit their words where Arial, or a font as
wide as Arial (Debian's fonts-liberation), is installed; to draw the Chinese ones, fonts-noto-cjk.

docs/drawings/zh/ has the same drawings with the labels that drawings.po has for them.
"""

import base64
import hashlib
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import translations
from drawing_messages import translated

ROOT = Path(__file__).resolve().parent.parent
DRAWINGS = ROOT / "docs" / "drawings"
CHINESE = DRAWINGS / "zh"

MERMAID = "mermaid@11.12.0"
MERMAID_SHA512 = (
    "ZudVx73BwrMJfCFmSSJT84y6u5brEoV8DOItdHomNLz32uBjNrelm7mg95X7g+C6UoQH/W6mBLGDEDv73JdxBg=="
)
MERMAID_FILE = "package/dist/mermaid.min.js"

#: Latin letters are Arial's in Chinese labels, too; Chinese ones are as wide in all of these fonts.
FONT = "Arial, Helvetica, PingFang SC, Microsoft YaHei, Noto Sans CJK SC, sans-serif"
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
    # Mermaid lets the arrow shine through its label, and a participant's line through a condition.
    "themeCSS": ".edgeLabel rect { opacity: 1 !important; fill: #ffffff !important; } "
    ".loopText { paint-order: stroke; stroke: #ffffff !important; stroke-width: 6px; }",
}
#: Without it the pictures could not be read on a dark page.
PAPER = '<svg style="background-color: white" '


def main() -> None:
    """Draw every drawing anew, in English and in Chinese."""
    write_chinese_texts()
    sources = [*sorted(DRAWINGS.glob("*.mmd")), *sorted(CHINESE.glob("*.mmd"))]
    pictures = render([source.read_text() for source in sources])
    for source, picture in zip(sources, pictures, strict=True):
        target = source.with_suffix(".svg")
        target.write_text(stamp(source) + picture + "\n")
        print(f"{target.relative_to(ROOT)}: {target.stat().st_size:,} bytes")


def write_chinese_texts() -> None:
    """Write the text of each drawing in Chinese to ``docs/drawings/zh/``."""
    CHINESE.mkdir(exist_ok=True)
    for source in DRAWINGS.glob("*.mmd"):
        (CHINESE / source.name).write_text(in_chinese(source.read_text()))


def in_chinese(text: str) -> str:
    """Return a Mermaid text with Chinese labels; one that has no translation stays English."""
    catalog = translations.read_catalog(ROOT / translations.catalog_file(translations.DRAWINGS))
    known = translations.translations(catalog)
    return translated(text, lambda label: known.get(label, label))


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


if __name__ == "__main__":
    main()
