"""The landing page of the course's site, and the contents that it has of the whole site."""

import pytest
from site_repository import write_lesson, write_repository

from site_landing import write_landing_page
from site_pages import SiteError, Sources
from site_tree import read_tree


@pytest.fixture
def repository(tmp_path):
    write_repository(tmp_path / "repository")
    return tmp_path / "repository"


@pytest.fixture
def landing(repository, tmp_path):
    """Writes the landing page; gives its text."""

    def landing():
        (tmp_path / "site").mkdir(exist_ok=True)
        write_landing_page(read_tree(Sources(repository)), tmp_path / "site", ["api/kit"])
        return (tmp_path / "site/index.md").read_text()

    return landing


def test_the_landing_page_has_a_card_for_each_lesson(landing, tmp_path):
    text = landing()
    assert text.startswith("# The kit\n")
    assert "![A cat](docs/cat.svg)" in text
    assert "2 lessons, 0.1 hours" in text
    first, second = text.split("```{grid-item-card}")[1:]
    assert ":link: notebooks/00_begin\n" in first
    assert ":img-top: cards/00.jpeg\n:img-alt: A picture.\n" in first  # the last one
    assert "Read `config.pbtxt` and more\n" in first
    assert "{bdg}`3 minutes`" in first
    assert "img-top" not in second and "\n01\n^^^\n" in second
    assert (tmp_path / "site/cards/00.jpeg").read_bytes() == b"a photo"


def test_the_landing_page_says_what_the_pages_to_read_begin_with(repository, landing):
    (repository / "docs/guide.md").write_text(
        "# A guide\n\n[中文](zh/guide.md)\n\n| a | b |\n|---|---|\n\n"
        "See [x](../README.md). Then go.\n"
    )
    assert "[A guide](docs/guide.md)\n\nSee x.\n" in landing()


def test_the_contents_have_the_groups_of_the_start_page(landing):
    tables = [part.partition("```")[0] for part in landing().split("```{toctree}")[1:]]
    entries = [[line for line in table.splitlines() if line] for table in tables]
    assert [(table[1].removeprefix(":caption: "), table[2:]) for table in entries] == [
        ("The course", ["The start page <notebooks/README>"]),
        ("First steps", ["00 Begin <notebooks/00_begin>", "01 Go on <notebooks/01_go_on>"]),
        ("Reference", ["README", "docs/guide"]),
        ("Deployment", []),
        ("API", ["api/kit"]),
    ]


def test_a_lesson_that_the_start_page_forgets_is_an_error(repository, landing):
    write_lesson(repository, "02_end", "End")
    with pytest.raises(SiteError, match=r"does not name notebooks/02_end.ipynb; add it to a list"):
        landing()
