"""The course as ``make html`` builds it, opened as files, as a reader without a network does."""

from urllib.parse import unquote, urldefrag

import pytest

import build_html
from serving_kit.paths import ROOT

#: To build all pages takes as long as two lessons; the builder's rules are in unit/test_build_html.
pytestmark = pytest.mark.long

NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
#: What is true of one page, and where its links lead.
LOOK = """() => ({
    width: document.documentElement.scrollWidth,
    empty: [...document.images].filter(one => !one.naturalWidth).map(one => one.alt),
    titles: document.querySelectorAll("h1").length,
    scripts: document.scripts.length,
    ids: [...document.querySelectorAll("[id]")].map(one => one.id),
    links: [...document.querySelectorAll("a[href]")].map(one => one.href),
})"""


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """The folder of pages, as the command behind ``make html`` writes it."""
    folder = tmp_path_factory.mktemp("course") / "html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["build_html.py", "--output", str(folder)])
        build_html.main()
    return folder


def test_every_page_is_whole_on_a_phone_and_asks_nobody(course, phone, seen):
    looks = {}
    for path in sorted(course.rglob("*.html")):
        phone.goto(path.as_uri())
        looks[path.as_uri()] = phone.evaluate(LOOK)
    assert len(looks) > len(NOTEBOOKS) + 2
    wrong = []
    for page, look in looks.items():
        wrong += [f"{page}: {look[kind]} {kind}" for kind in ("empty", "scripts") if look[kind]]
        if look["width"] > 390 or look["titles"] != 1:
            wrong.append(f"{page}: {look['width']} pixels wide, {look['titles']} titles")
        for link in filter(lambda link: link.startswith("file:"), look["links"]):
            target, anchor = urldefrag(link)
            if target not in looks or (anchor and unquote(anchor) not in looks[target]["ids"]):
                wrong.append(f"{page}: broken link {link}")
    assert wrong == []
    assert seen.errors == []


def test_the_lessons_are_a_chain_in_both_directions(course, page):
    page.goto((course / "index.html").as_uri())
    page.click(".button")
    there = walk(page, "next")
    assert there == NOTEBOOKS
    page.goto((course / "notebooks" / f"{NOTEBOOKS[-1]}.html").as_uri())
    assert walk(page, "prev") == NOTEBOOKS[::-1]


def walk(page, rel):
    """Click from lesson to lesson until the landing page comes; return their names."""
    names = []
    while not page.url.endswith("index.html"):
        names.append(page.url.rpartition("/")[2].removesuffix(".html"))
        assert len(names) <= len(NOTEBOOKS)
        page.click(f"a[rel={rel}]")
    return names


def test_the_landing_page_shows_every_lesson(course, page):
    page.goto((course / "index.html").as_uri())
    assert page.locator(".hero img").evaluate("one => one.naturalWidth") > 600
    assert page.locator(".card").count() == len(NOTEBOOKS)
    page.locator(".card").nth(3).click()
    assert page.url.endswith(f"/notebooks/{NOTEBOOKS[3]}.html")


def test_answers_are_folded_until_clicked(course, page):
    page.goto((course / "notebooks" / "01_run_model_eagerly.html").as_uri())
    answer = page.locator("article details").first
    assert not answer.locator("p").first.is_visible()
    answer.locator("summary").click()
    assert answer.locator("p").first.is_visible()


def test_contents_are_beside_the_text_or_on_a_phone_behind_a_button(course, page, phone):
    address = (course / "docs" / "backend.html").as_uri()
    for window, shown in ((page, ".side"), (phone, ".menu nav")):
        window.goto(address)
        if window is phone:
            assert not window.locator(shown).is_visible()
            window.tap(".menu summary")
        assert window.locator(f"{shown} [aria-current]").inner_text().startswith("The backend")
        window.locator(f"{shown} ol a").nth(1).click()
        assert window.url.endswith(f"{NOTEBOOKS[1]}.html")


def luminance(colour):
    """Return a colour's relative luminance, by the formula of WCAG 2.2."""
    channels = [int(number) / 255 for number in colour[4:-1].split(",")]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_are_easy_to_read(course, new_page, scheme):
    """At least 4.5 to 1, which WCAG 2.2 asks for; paper is light only where it shall be."""
    page = new_page(color_scheme=scheme)
    page.goto((course / "notebooks" / "06_start_triton.html").as_uri())
    colours = page.evaluate(
        """() => ["article", ".side a", ".eyebrow span", "article p a", ".highlight .c1",
                  ".highlight .k, .highlight .kn", ".highlight .s2", ".highlight .mi"].map(
            one => getComputedStyle(document.querySelector(one)).color)"""
    )
    papers = page.evaluate(
        """() => ["body", ".highlight"].map(
            one => getComputedStyle(document.querySelector(one)).backgroundColor)"""
    )
    for paper in map(luminance, papers):
        assert (paper > 0.5) == (scheme == "light")
        for colour in colours:
            lighter, darker = sorted((luminance(colour), paper), reverse=True)
            assert (lighter + 0.05) / (darker + 0.05) > 4.5, colour
