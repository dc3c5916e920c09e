"""docs/drawings/: each picture is of its text, shows everywhere, and is shown in the document."""

import re
import subprocess
from xml.etree import ElementTree

import pytest

import draw
import translations
from drawing_messages import labels, translated
from serving_kit.paths import ROOT

DRAWINGS = draw.DRAWINGS
SOURCES = sorted(DRAWINGS.glob("*.mmd"))
CHINESE = sorted(draw.CHINESE.glob("*.mmd"))
DOCUMENT = ROOT / "docs" / "architecture.md"
START_PAGE = ROOT / "notebooks" / "README.md"
#: What the largest may have, in bytes and in the pixels of GitHub's column.
LARGEST, WIDEST = 80_000, 1050
SVG = "{http://www.w3.org/2000/svg}"
#: What a repository has only after ``make models``, or what is made by a lesson or a command.
MADE = {"model.mlir", "result.jpg", "demo.zip"}


@pytest.fixture(
    params=[*SOURCES, *CHINESE], ids=lambda source: f"{source.parent.name}-{source.stem}"
)
def source(request):
    return request.param


@pytest.fixture(params=SOURCES, ids=lambda source: source.stem)
def english(request):
    return request.param


def picture(source):
    return source.with_suffix(".svg").read_text()


@pytest.mark.parametrize("folder", [draw.DRAWINGS, draw.CHINESE], ids=["English", "Chinese"])
def test_there_are_as_many_pictures_as_texts(folder):
    names = [source.stem for source in SOURCES]
    assert len(names) == 5
    assert [file.stem for file in sorted(folder.glob("*.mmd"))] == names
    assert [file.stem for file in sorted(folder.glob("*.svg"))] == names


def test_a_chinese_text_is_what_the_tool_writes(english):
    written = (draw.CHINESE / english.name).read_text()
    assert written == draw.in_chinese(english.read_text()), "run: make drawings"


def test_a_translation_keeps_the_names_in_a_label():
    catalog = translations.read_catalog(ROOT / translations.catalog_file(translations.DRAWINGS))
    for label, chinese in translations.translations(catalog).items():
        for word in re.split(r"<br/>|[\s,:()]+", label):
            if re.search(r"[\d/_]|\w\.\w", word):
                assert word in chinese, word


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('flowchart TB\n  a["one<br/>two"] -->|"three"| b["`**four**\nfive`"]\n  c["three"]\n',
         ["one<br/>two", "three", "**four**\nfive"]),
        ("sequenceDiagram\n  participant A as one\n  A->>B: two: 2\n  Note over A: three\n"
         "  alt four\n  else five: 5\n  end\n", ["one", "two: 2", "three", "four", "five: 5"]),
    ],
)  # fmt: skip
def test_labels_are_found_and_replaced_where_they_are(text, found):
    assert labels(text) == found
    assert labels(translated(text, str.upper)) == [label.upper() for label in found]
    assert translated(text, lambda label: label) == text


def test_a_drawing_of_an_unknown_kind_is_named():
    with pytest.raises(ValueError, match="begins with 'pie'"):
        labels("pie title Pets")


def test_a_picture_is_of_its_text(source):
    assert picture(source).startswith(draw.stamp(source)), "run: make drawings"


def test_a_picture_shows_in_any_viewer(source):
    text = picture(source)
    tree = ElementTree.fromstring(text)
    assert not list(tree.iter(f"{SVG}foreignObject"))
    assert not list(tree.iter(f"{SVG}script"))
    assert 'style="background-color: white"' in text
    assert {*re.findall(r"https?://[^\s\"'<)]+", text)} <= {
        "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
    }  # fmt: skip
    assert not re.search(r"@import|url\((?!#)", text)


def test_a_picture_is_small_and_can_be_read_where_it_is_shown(source):
    assert len(picture(source)) < LARGEST
    tree = ElementTree.fromstring(picture(source))
    assert 250 < float(tree.get("width")) < WIDEST


def test_all_words_of_a_text_are_in_its_picture(source):
    drawn = re.sub(r"\s+", "", "".join(ElementTree.fromstring(picture(source)).itertext()))
    for label in labels(source.read_text()):
        for line in re.split(r"<br/>|\n", label.replace("**", "")):
            assert re.sub(r"\s+", "", line) in drawn, line


def test_every_file_that_a_drawing_names_is_there(english):
    listing = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    files = listing.stdout.splitlines()
    text = english.read_text()
    for name in re.findall(r"[\w/]+\.(?:py|sh|md|ipynb|pbtxt|mlir|jpg|zip)\b", text):
        there = any(f"/{file}".endswith(f"/{name}") for file in files)
        assert there or name in MADE, name
    for name in re.findall(r"(?<![\w/.<])([a-z_]\w*(?:/[a-z_]\w*)*/)(?![\w.>])", text):
        assert any(f"/{name}" in f"/{file}" for file in files), name
    for number in re.findall(r"\b\d\d\b", text.replace("2.51", "")):
        if "lesson" in text:
            assert any(file.startswith(f"notebooks/{number}_") for file in files), number


def test_each_drawing_is_shown_beside_a_link_to_its_text(english):
    text = DOCUMENT.read_text() + START_PAGE.read_text()
    assert re.search(rf"!\[[^\]]+\]\([./docs]*drawings/{english.stem}\.svg\)", text)
    assert re.search(rf"\([./docs]*drawings/{english.name}\)", text)


def test_links_of_the_document_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)", DOCUMENT.read_text()):
        assert (DOCUMENT.parent / target).exists(), target
