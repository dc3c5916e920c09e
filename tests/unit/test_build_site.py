"""The rules by which ``make html`` writes what Sphinx reads, on a repository of two lessons."""

import json

import pytest
from bs4 import BeautifulSoup
from site_repository import PNG, write_lesson, write_repository

import build_site
from markdown_messages import anchors_of, headings
from serving_kit.paths import ROOT
from site_markdown import links_of, with_coloured_code
from site_pages import SiteError, Sources
from site_tree import read_tree, write_sources
from site_words import NAME, site_words, words_of
from translations import read_catalog


@pytest.fixture
def repository(tmp_path):
    write_repository(tmp_path / "repository")
    return tmp_path / "repository"


@pytest.fixture
def staged(repository, tmp_path):
    """Writes the sources of the site; gives one of them, of a lesson the second cell."""

    def staged(name, **sources):
        folder = tmp_path / "site"
        write_sources(read_tree(Sources(repository, **sources)), folder)
        text = (folder / name).read_text(encoding="utf-8")
        return json.loads(text)["cells"][1]["source"] if name.endswith(".ipynb") else text

    return staged


def links(text):
    return {link.text: link.href for link in links_of(text)}


def test_links_lead_to_what_sphinx_reads(repository, staged):
    text = (
        "[next](01_go_on.ipynb) [guide](../docs/guide.md) [file](../src/kit.py) "
        "[folder](../src/rooms) [readme](../README.md) [web](https://example.com/a.md)"
    )
    write_lesson(repository, "00_begin", "Begin", text)
    assert links(staged("notebooks/00_begin.ipynb")) == {
        "next": "01_go_on.ipynb",
        "guide": "../docs/guide.md",
        "file": "../src/kit.py.md",
        "folder": "../src/rooms.md",
        "readme": "../README.md",
        "web": "https://example.com/a.md",
    }


def test_links_to_source_files_lead_to_the_repository_if_it_is_named(repository, staged, tmp_path):
    text = "[file](../src/kit.py) [folder](../src/rooms) [guide](../docs/guide.md)"
    write_lesson(repository, "00_begin", "Begin", text)
    found = staged("notebooks/00_begin.ipynb", published="https://example.org/kit/blob/main")
    assert links(found) == {
        "file": "https://example.org/kit/blob/main/src/kit.py",
        "folder": "https://example.org/kit/tree/main/src/rooms",
        "guide": "../docs/guide.md",
    }
    assert not (tmp_path / "site/src").exists()


@pytest.mark.parametrize(
    "anchor", ["the-file-configpbtxt", "The-file-config.pbtxt", "The-file-%60config.pbtxt%60"]
)
def test_anchors_are_found_as_github_and_as_jupyterlab_write_them(repository, staged, anchor):
    write_lesson(repository, "00_begin", "Begin", f"[there](../docs/guide.md#{anchor})")
    found = links(staged("notebooks/00_begin.ipynb"))
    assert found["there"] == "../docs/guide.md#the-file-configpbtxt"


def test_an_anchor_on_the_same_page(repository, staged):
    write_lesson(repository, "00_begin", "Begin", "## Here\n\n[up](#Here)")
    assert links(staged("notebooks/00_begin.ipynb")) == {"up": "#here"}


def test_headings_that_are_the_same_have_anchors_that_differ():
    text = "# A\n\n## `a` b\n\n## Twice\n\n## Twice\n\n## 二\n\n```\n# no heading\n```\n"
    assert anchors_of(headings(text)) == ["a", "a-b", "twice", "twice-1", "二"]


def test_links_in_folded_html_lead_to_pages(repository, staged):
    text = '<details><summary>Answer</summary>\n<p><a href="01_go_on.ipynb">on</a></p>\n</details>'
    write_lesson(repository, "00_begin", "Begin", text)
    assert links(staged("notebooks/00_begin.ipynb")) == {"on": "01_go_on.html"}


def test_what_looks_like_a_link_in_code_is_none():
    text = "`[a](b)` ``x ` [a](b)``\n\n```text\n[a](b)\n```\n\n<!-- [a](b) -->\n\n[`c`](d) ![e](f)"
    assert [(link.text, link.href, link.is_picture) for link in links_of(text)] == [
        ("`c`", "d", False),
        ("e", "f", True),
    ]


@pytest.mark.parametrize(
    ("language", "line", "href"),
    [
        ("en", "[中文](zh/00_begin.ipynb)", "../zh/notebooks/00_begin.html"),
        ("zh", "[English](zh/00_begin.ipynb)", "../../notebooks/00_begin.html"),
    ],
)
def test_the_line_to_the_other_language_leads_to_the_same_page(
    repository, staged, language, line, href
):
    write_lesson(repository, "00_begin", "Begin", line)
    found = staged("notebooks/00_begin.ipynb", language=language)
    assert BeautifulSoup(found, "html.parser").a["href"] == href


def test_translated_files_come_first(repository, staged, tmp_path):
    (tmp_path / "zh/docs").mkdir(parents=True)
    (tmp_path / "zh/docs/guide.md").write_text("# 指南\n\n## 文件\n\n[它](#文件)\n")
    (tmp_path / "zh/docs/cat.svg").write_text("<svg>猫</svg>")
    write_lesson(repository, "00_begin", "Begin", "[there](../docs/guide.md#文件)")
    options = {"language": "zh", "translated": tmp_path / "zh"}
    assert links(staged("docs/guide.md", **options)) == {"它": "#文件"}
    assert "猫" in staged("docs/cat.svg", **options)
    assert "Begin" in (tmp_path / "site/notebooks/00_begin.ipynb").read_text()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[x](../docs/none.md)", r"01_go_on.ipynb links to .*there is no docs/none.md in the rep"),
        ("[x](../../other/a.md)", r"there is no \.\./other/a.md in the repository"),
        ("[x](../docs/guide.md#none)", r'links to "none" in docs/guide.md, .* it has .*twice-1'),
        ("[x](../src/rooms/weights.bin)", r"weights.bin, which is no text .* link to its folder"),
        ("![x](none.png)", r'shows the picture "none.png": expected a file of the repository'),
        ("![x](https://example.com/a.png)", r"expected a file .* needs no network"),
        ("![](../docs/cat.svg)", r"without an alternative text; write"),
        ('<img src="../docs/cat.svg">', r"without an alternative text"),
        ('<img src="../docs/cat.svg" alt="A cat">', r"by a tag; write"),
    ],
)
def test_what_leads_nowhere_or_cannot_be_seen_by_all_is_refused(repository, staged, text, sentence):
    write_lesson(repository, "01_go_on", "Go on", text)
    with pytest.raises(SiteError, match=sentence):
        staged("README.md")


def test_a_picture_of_a_cell_needs_an_alternative_text(repository, staged, tmp_path):
    staged("README.md")
    cells = json.loads((tmp_path / "site/notebooks/00_begin.ipynb").read_text())["cells"]
    assert [output["data"]["text/plain"] for output in cells[2]["outputs"][1:]] == 2 * [
        "A picture."
    ]
    write_lesson(repository, "01_go_on", "Go on", pictures={"image/png": PNG}, alt="")
    with pytest.raises(SiteError, match=r"cell 2 of notebooks/01_go_on.ipynb .* show_figure"):
        staged("README.md")


def test_a_folder_s_page_shows_its_text_files(repository, staged):
    write_lesson(repository, "00_begin", "Begin", "[folder](../src/rooms)")
    assert staged("src/rooms.md") == (
        "---\norphan: true\nnosearch: true\n---\n\n# `src/rooms`\n\n"
        "## `src/rooms/a.sh`\n\n```bash\necho a\n```\n\n"
        '## `src/rooms/b.py`\n\n````python\n"""\n```\n"""\n````\n'
    )


def test_a_link_to_a_folder_with_a_readme_leads_to_that(repository, staged):
    (repository / "src/rooms/README.md").write_text("# Rooms\n")
    write_lesson(repository, "00_begin", "Begin", "[rooms](../src/rooms/) [all](..)")
    found = links(staged("notebooks/00_begin.ipynb"))
    assert found == {"rooms": "../src/rooms/README.md", "all": "../README.md"}


def test_copies_that_jupyterlab_made_and_translations_are_no_pages(repository, staged, tmp_path):
    for folder in (".ipynb_checkpoints", "zh", "site", "locale"):
        (repository / "docs" / folder).mkdir()
        (repository / "docs" / folder / "guide.md").write_text("[nowhere](none.md)\n")
    staged("README.md")
    assert {path.name for path in (tmp_path / "site/docs").iterdir()} == {"cat.svg", "guide.md"}


def test_folded_python_is_coloured_and_other_folded_text_is_left_alone():
    folded = "<pre><code>x = 1 &lt; 2</code></pre>\n<pre><code>E0101 no &lt;model&gt;</code></pre>"
    first, second = BeautifulSoup(with_coloured_code(folded), "html.parser").find_all("pre")
    assert first.select_one(".mi").get_text() == "1"
    assert first.get_text().strip() == "x = 1 < 2"
    assert str(second) == "<pre><code>E0101 no &lt;model&gt;</code></pre>"


def test_main_says_in_one_sentence_what_is_wrong(repository, monkeypatch):
    write_lesson(repository, "01_go_on", "Go on", "[x](none.md)")
    monkeypatch.setattr(build_site, "ROOT", repository)
    monkeypatch.setattr("sys.argv", ["build_site.py"])
    with pytest.raises(SystemExit, match=r"^html: notebooks/01_go_on.ipynb links to .none.md.: "):
        build_site.main()


@pytest.mark.parametrize("language", build_site.LANGUAGES)
def test_the_course_itself_leads_nowhere_wrong(tmp_path, language):
    tree = build_site.stage(ROOT, tmp_path / language, language)
    assert {"README.md", "notebooks/07_send_requests.ipynb"} <= tree.pages.keys()
    if language != "en":
        assert tree.sources.is_translated("notebooks/07_send_requests.ipynb")


def test_the_site_s_own_words_are_found_and_translated():
    words = site_words()
    assert {NAME, "Begin with lesson {number}", "Download this notebook"} <= set(words)
    known = {
        one.id: one.string for one in read_catalog(ROOT / "docs/locale/zh_CN/LC_MESSAGES/site.po")
    }
    assert [word for word in words if not known.get(word)] == []
    assert words_of(ROOT, "zh")("Contents") == "目录"
    assert words_of(ROOT, "en")("Contents") == "Contents"
