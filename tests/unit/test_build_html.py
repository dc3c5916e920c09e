"""The rules by which ``make html`` makes pages, on a repository of two lessons."""

import base64

import nbformat
import pytest
from bs4 import BeautifulSoup

import build_html
from build_html import CourseError, build

OPENING = """# {title}

**What you'll do**: read `config.pbtxt` and [more](../docs/guide.md).

**What you'll learn**: little.

**What you'll need**: 3 minutes; nothing else.
"""
JPEG = base64.b64encode(b"a photo").decode()
PNG = base64.b64encode(b"a chart").decode()


@pytest.fixture
def repository(tmp_path):
    root = tmp_path / "repository"
    for folder in ("notebooks", "docs/images", "src/rooms"):
        (root / folder).mkdir(parents=True)
    (root / "README.md").write_text(
        "# The course\n\nIt is *short*. Begin!\n\n![A cat](docs/cat.svg)\n"
    )
    (root / "docs/cat.svg").write_text("<svg/>")
    (root / "docs/guide.md").write_text(
        "# A guide\n\n## The file `config.pbtxt`\n\nOne.\n\n## Twice\n\n## Twice\n\n## Content\n"
    )
    (root / "src/kit.py").write_text("def f():\n    return 1\n")
    (root / "src/rooms/b.py").write_text("b = 2\n")
    (root / "src/rooms/a.sh").write_text("echo a\n")
    (root / "src/rooms/weights.bin").write_bytes(b"\xff\xfe")
    write_lesson(root, "00_begin", "Begin", pictures={"image/jpeg": JPEG})
    write_lesson(root, "01_go_on", "Go on")
    return root


def write_lesson(root, name, title, text="Words.", code="print(1)", pictures=None):
    outputs = [nbformat.v4.new_output("stream", text="1\n")]
    for kind, data in (pictures or {}).items():
        outputs.append(nbformat.v4.new_output("display_data", data={kind: data}))
    cells = [
        nbformat.v4.new_markdown_cell(OPENING.format(title=title)),
        nbformat.v4.new_markdown_cell(text),
        nbformat.v4.new_code_cell(code, execution_count=1, outputs=outputs),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), root / "notebooks" / f"{name}.ipynb")


@pytest.fixture
def built(repository, tmp_path):
    """Builds the course; gives a page of it."""

    def built(page):
        build(repository, tmp_path / "html")
        return BeautifulSoup((tmp_path / "html" / page).read_text(), "html.parser")

    return built


def links(page):
    return {link.get_text(): link["href"] for link in page.article.find_all("a", href=True)}


def test_links_lead_to_pages(repository, built):
    text = (
        "[next](01_go_on.ipynb) [guide](../docs/guide.md) [file](../src/kit.py) "
        "[folder](../src/rooms) [readme](../README.md) [web](https://example.com/a.md)"
    )
    write_lesson(repository, "00_begin", "Begin", text)
    found = links(built("notebooks/00_begin.html"))
    assert {name: found[name] for name in ("next", "guide", "file", "folder", "readme", "web")} == {
        "next": "01_go_on.html",
        "guide": "../docs/guide.html",
        "file": "../src/kit.py.html",
        "folder": "../src/rooms.html",
        "readme": "../README.html",
        "web": "https://example.com/a.md",
    }


@pytest.mark.parametrize(
    "anchor", ["the-file-configpbtxt", "The-file-config.pbtxt", "The-file-%60config.pbtxt%60"]
)
def test_anchors_are_found_as_github_and_as_jupyterlab_write_them(repository, built, anchor):
    write_lesson(repository, "00_begin", "Begin", f"[there](../docs/guide.md#{anchor})")
    found = links(built("notebooks/00_begin.html"))
    assert found["there"] == "../docs/guide.html#the-file-configpbtxt"


def test_an_anchor_on_the_same_page(repository, built):
    write_lesson(repository, "00_begin", "Begin", "## Here\n\n[up](#here)")
    assert links(built("notebooks/00_begin.html"))["up"] == "#here"


def test_links_in_folded_html_are_links_too(repository, built):
    text = '<details><summary>Answer</summary>\n<p><a href="01_go_on.ipynb">on</a></p>\n</details>'
    write_lesson(repository, "00_begin", "Begin", text)
    assert links(built("notebooks/00_begin.html"))["on"] == "01_go_on.html"


def test_a_link_to_what_no_page_can_show_becomes_plain(repository, built):
    write_lesson(repository, "00_begin", "Begin", "[weights](../src/rooms/weights.bin)")
    page = built("notebooks/00_begin.html")
    assert "weights" not in links(page)
    assert page.find("span", title="src/rooms/weights.bin in the repository").string == "weights"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[x](../docs/none.md)", r"01_go_on.ipynb links to .*there is no docs/none.md in the rep"),
        ("[x](../../other/a.md)", r"there is no \.\./other/a.md in the repository"),
        ("[x](../docs/guide.md#none)", r'links to "none" in docs/guide.md, .* it has .*twice-1'),
        ("![x](none.png)", r'shows the picture "none.png": expected a file of the repository'),
        ("![x](https://example.com/a.png)", r"expected a file .* needs no network"),
    ],
)
def test_what_leads_nowhere_is_refused_and_nothing_is_written(
    repository, built, tmp_path, text, sentence
):
    write_lesson(repository, "01_go_on", "Go on", text)
    with pytest.raises(CourseError, match=sentence):
        built("index.html")
    assert not (tmp_path / "html").exists()


def test_a_folder_s_page_shows_its_text_files(repository, built):
    write_lesson(repository, "00_begin", "Begin", "[folder](../src/rooms)")
    page = built("src/rooms.html")
    headings = [heading.get_text() for heading in page.find_all("h2")]
    assert headings == ["src/rooms/a.sh", "src/rooms/b.py"]
    assert "b = 2" in page.article.get_text()


def test_a_link_to_a_folder_with_a_readme_leads_to_that(repository, built):
    (repository / "src/rooms/README.md").write_text("# Rooms\n")
    write_lesson(repository, "00_begin", "Begin", "[rooms](../src/rooms/) [all](..)")
    found = links(built("notebooks/00_begin.html"))
    assert (found["rooms"], found["all"]) == ("../src/rooms/README.html", "../README.html")


def test_a_dollar_is_no_formula(repository, built):
    write_lesson(repository, "00_begin", "Begin", "Say `a $(pwd)` or `b $(id)`; $5 and $6.")
    page = built("notebooks/00_begin.html")
    assert {"a $(pwd)", "b $(id)"} <= {code.get_text() for code in page.article.find_all("code")}


def test_a_solution_is_coloured_and_an_answer_is_left_alone(repository, built):
    folded = "<details><summary>{}</summary>\n<pre><code>x = 1 &lt; 2</code></pre>\n</details>\n\n"
    text = folded.format("Exercise 1") + folded.format("Answer")
    write_lesson(repository, "00_begin", "Begin", text)
    solution, answer = built("notebooks/00_begin.html").article.find_all("details")
    assert solution.select_one(".highlight .mi").get_text() == "1"
    assert solution.pre.get_text() == "x = 1 < 2\n"
    assert answer.pre.code.get_text() == "x = 1 < 2"


def test_headings_that_are_the_same_have_anchors_that_differ(built):
    ids = [heading["id"] for heading in built("docs/guide.html").find_all("h2")]
    assert ids == ["the-file-configpbtxt", "twice", "twice-1", "content-1"]


def test_outputs_are_shown_and_code_in_them_is_text(repository, built):
    write_lesson(repository, "00_begin", "Begin", pictures={"image/png": PNG})
    path = repository / "notebooks/00_begin.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[2].outputs[0].text = "<b>\x1b[31mred\x1b[0m"
    nbformat.write(notebook, path)
    cell = built("notebooks/00_begin.html").select_one(".cell")
    assert cell.select_one(".count").string == "1"
    assert cell.select_one(".output").get_text() == "<b>red"
    assert cell.select_one(".ansi-red-fg").string == "red"
    assert cell.img["src"] == f"data:image/png;base64,{PNG}"


@pytest.mark.parametrize(
    ("printed", "classes"),
    [
        ("first call  5904 ms\nlater        1913 ms\n", ["output", "aligned"]),
        ("04.1  Not yet: one line of prose\n", ["output"]),
        ("check:  " + 99 * "a" + "\nTriton:  b\n", ["output"]),
    ],
)
def test_a_printed_table_is_told_from_lines_that_a_phone_wraps(repository, built, printed, classes):
    write_lesson(repository, "00_begin", "Begin", pictures={"image/png": PNG})
    path = repository / "notebooks/00_begin.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[2].outputs[0].text = printed
    nbformat.write(notebook, path)
    assert built("notebooks/00_begin.html").select_one(".output")["class"] == classes


def test_no_line_ends_within_the_dashes_of_an_option(repository, built):
    write_lesson(repository, "00_begin", "Begin", "`run -v$(pwd):/a --rm`, `<b> - c`, `a-b`.")
    codes = built("notebooks/00_begin.html").article.find_all("code")
    assert [code.get_text() for code in codes[-3:]] == ["run -v$(pwd):/a --rm", "<b> - c", "a-b"]
    assert [dash.string for code in codes for dash in code.select(".dash")] == ["-v", "--r"]


def test_the_landing_page_has_a_card_for_each_lesson(repository, built):
    write_lesson(repository, "00_begin", "Begin", pictures={"image/png": PNG, "image/jpeg": JPEG})
    page = built("index.html")
    first, second = page.select(".card")
    assert first.img["src"] == f"data:image/jpeg;base64,{JPEG}"  # the last one
    assert second.img is None
    assert second.select_one(".blank").string == "01"
    assert first.a["href"] == "notebooks/00_begin.html"
    assert first.p.get_text() == "read config.pbtxt and more."
    assert first.select_one(".facts").get_text() == "3 minutes"
    assert "2 lessons, 0.1 hours" in page.get_text()
    assert page.select_one(".hero img")["src"].startswith("data:image/svg+xml;base64,")
    assert [small.string for small in page.select(".docs small")] == ["README.md", "docs/guide.md"]
    assert page.select_one(".docs p").string == "It is short."


def test_the_start_page_is_first_of_what_is_to_read(repository, built):
    (repository / "notebooks/README.md").write_text("# The course\n\nIt begins here.\n")
    write_lesson(repository, "00_begin", "Begin", "[start](README.md)")
    page = built("index.html")
    assert page.select_one(".start a")["href"] == "notebooks/README.html"
    assert page.select_one(".docs a")["href"] == "notebooks/README.html"


def test_copies_that_jupyterlab_made_are_no_pages(repository, built):
    copy = repository / "docs/.ipynb_checkpoints/guide-checkpoint.md"
    copy.parent.mkdir()
    copy.write_text("# Guide\n\n[nowhere](none.md)\n")
    assert len(built("index.html").select(".docs li")) == 2


def test_lessons_are_a_chain(built):
    steps = {}
    for name in ("00_begin", "01_go_on"):
        found = built(f"notebooks/{name}.html").select(".steps a")
        steps[name] = [(*link["rel"], link["href"]) for link in found]
    assert steps == {
        "00_begin": [("prev", "../index.html"), ("next", "../notebooks/01_go_on.html")],
        "01_go_on": [("prev", "../notebooks/00_begin.html"), ("next", "../index.html")],
    }


def test_the_same_repository_gives_the_same_bytes_and_old_pages_go(repository, tmp_path):
    build(repository, tmp_path / "one")
    build(repository, tmp_path / "two")
    (tmp_path / "two" / "old.html").write_text("")
    build(repository, tmp_path / "two")
    one, two = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}
        for folder in (tmp_path / "one", tmp_path / "two")
    )
    assert one == two
    assert len(one) == 6  # index.html, style.css, README.html, a guide, two lessons


def test_main_says_in_one_sentence_what_is_wrong(repository, tmp_path, monkeypatch):
    write_lesson(repository, "01_go_on", "Go on", "[x](none.md)")
    monkeypatch.setattr(build_html, "ROOT", repository)
    monkeypatch.setattr("sys.argv", ["build_html.py", "--output", str(tmp_path / "html")])
    with pytest.raises(SystemExit, match=r"^html: notebooks/01_go_on.ipynb links to .none.md.: "):
        build_html.main()
