"""The course's site as ``make html`` builds it, mostly opened as files, without a network."""

import html
import http.server
import os
import re
import threading
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import build_site
from serving_kit.paths import ROOT

#: To build all pages takes as long as two lessons; the rules are in unit/test_build_site.
pytestmark = pytest.mark.long

NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
#: The folder of the pages in each language.
HOMES = {"en": ".", "zh": "zh"}
#: What the Chinese pages have in English: they look as in the English folder.
SAME = ("api", "assets", "deploy", "model_repository", "src", "tests", ".ci")
#: What is true of one page.
LOOK = """() => ({
    width: document.documentElement.scrollWidth,
    titles: document.querySelectorAll("h1").length,
    empty: [...document.images].filter(one => !one.naturalWidth).map(one => one.src),
    mute: [...document.images].filter(one => !one.alt.trim()).map(one => one.src),
})"""


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """The folder of pages, as the command behind ``make html`` writes it."""
    folder = tmp_path_factory.mktemp("course") / "html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["build_site.py", "--output", str(folder)])
        patch.delenv("SITE_REPOSITORY", raising=False)
        build_site.main()
    return folder


@pytest.fixture(scope="module", params=HOMES)
def home(request, course):
    """The folder of the pages in a language."""
    return course / HOMES[request.param]


def test_every_page_is_whole_on_a_phone_and_asks_nobody(course, phone, seen):
    wrong = []
    for path in sorted(course.rglob("*.html")):
        folder, *rest = path.relative_to(course).parts
        if folder == "zh" and rest[0] in SAME:
            continue
        phone.goto(path.as_uri())
        look = phone.evaluate(LOOK)
        if look != {"width": 390, "titles": 1, "empty": [], "mute": []}:
            wrong.append((path, look))
    assert wrong == []
    assert seen.errors == []


def test_every_link_and_anchor_is_there(course):
    texts = {path: path.read_text(encoding="utf-8") for path in course.rglob("*.html")}
    assert len(texts) > 2 * (len(NOTEBOOKS) + 20)
    anchors = {path: set(re.findall(r'\bid="([^"]+)"', text)) for path, text in texts.items()}
    wrong = []
    for path, text in texts.items():
        for link in set(re.findall(r'<a\b[^>]*\bhref="([^"]+)"', text)):
            parts = urlsplit(html.unescape(link))
            if parts.scheme:
                continue
            target = (
                Path(os.path.normpath(path.parent / unquote(parts.path))) if parts.path else path
            )
            anchor = unquote(parts.fragment)
            if not target.is_file() or (anchor and anchor not in anchors[target]):
                wrong.append(f"{path}: {link}")
    assert wrong == []


def test_the_lessons_are_a_chain_in_both_directions(home):
    pages = [
        (home / "notebooks" / f"{name}.html").read_text(encoding="utf-8") for name in NOTEBOOKS
    ]
    button = r'class="{}-{}"\s+href="(\w+)\.html"'
    assert [re.search(button.format("right", "next"), page)[1] for page in pages[:-1]] == NOTEBOOKS[
        1:
    ]
    assert [re.search(button.format("left", "prev"), page)[1] for page in pages[1:]] == NOTEBOOKS[
        :-1
    ]


def test_from_the_start_page_to_lesson_07_and_back(home, page):
    page.goto((home / "index.html").as_uri())
    page.click(".hero-text a[href='notebooks/README.html']")
    page.locator("article a[href='07_send_requests.html']").click()
    assert page.url.endswith("/notebooks/07_send_requests.html")
    assert page.locator(".site-contents .current > a").first.inner_text().startswith("07 ")
    page.locator(".site-contents a[href='README.html']").click()
    assert page.url == (home / "notebooks" / "README.html").resolve().as_uri()


@pytest.mark.parametrize("name", ["index", "notebooks/07_send_requests", "docs/backend", "search"])
def test_the_switch_of_language_keeps_the_page(course, page, name):
    english, chinese = ((course / place / f"{name}.html").as_uri() for place in ("", "zh"))
    page.goto(english)
    page.click(".language")
    assert page.url == chinese
    assert page.locator("html").get_attribute("lang") == "zh-CN"
    page.click(".language")
    assert page.url == english


def test_the_line_below_a_title_leads_to_the_other_language(course):
    for name in ("README", "notebooks/README", "notebooks/07_send_requests", "docs/security"):
        there, back = course / f"{name}.html", course / "zh" / f"{name}.html"
        for page, other in ((there, back), (back, there)):
            line = re.search(
                r'class="translation" href="([^"]+)"', page.read_text(encoding="utf-8")
            )
            assert Path(os.path.normpath(page.parent / line[1])) == other


@pytest.mark.parametrize(
    ("place", "query", "lessons"),
    [
        ("", "max_batch_size", {"05_write_model_repository", "08_batch_and_scale"}),
        ("", "dynamic batching", {"08_batch_and_scale"}),
        ("zh", "max_batch_size", {"05_write_model_repository", "08_batch_and_scale"}),
        ("zh", "动态批处理", {"08_batch_and_scale"}),
        ("zh", "图", {"03_turn_eager_into_graph"}),
    ],
)
def test_a_search_finds_the_right_lessons_first(course, page, place, query, lessons):
    page.goto((course / place / "index.html").as_uri())
    page.keyboard.press("Control+k")
    page.keyboard.type(query)
    page.keyboard.press("Enter")
    page.wait_for_selector("ul.search li a")
    page.wait_for_function(
        "() => /[0-9]/.test(document.querySelector('.search-summary').innerText)"
    )
    found = page.eval_on_selector_all("ul.search li a", "all => all.map(one => one.href)")
    names = [address.rpartition("/")[2].partition(".html")[0] for address in found]
    assert lessons <= set(names[: len(NOTEBOOKS) + 1])
    assert names[0] in NOTEBOOKS
    assert all("/src/" not in address for address in found)
    page.locator("ul.search li a").first.click()
    page.wait_for_selector("span.highlighted")


def test_the_landing_page_shows_every_lesson(home, page):
    page.goto((home / "index.html").as_uri())
    assert page.locator(".hero img").evaluate("one => one.naturalWidth") > 600
    assert page.locator(".lessons .sd-card").count() == len(NOTEBOOKS)
    assert page.locator(".lessons img").count() > 0.8 * len(NOTEBOOKS)
    page.locator(".lessons .sd-card").nth(3).click()
    assert page.url.endswith(f"/notebooks/{NOTEBOOKS[3]}.html")


def test_answers_are_folded_until_clicked(home, page):
    page.goto((home / "notebooks" / "01_run_model_eagerly.html").as_uri())
    answer = page.locator("article details").first
    assert not answer.locator("p").first.is_visible()
    answer.locator("summary").click()
    assert answer.locator("p").first.is_visible()
    assert page.locator("article details .highlight .k").count() > 0


def test_code_can_be_copied_and_the_notebook_downloaded(course, page):
    for place, source in (("", "notebooks"), ("zh", "notebooks/zh")):
        page.goto((course / place / "notebooks" / "07_send_requests.html").as_uri())
        page.wait_for_selector(".cell_input .copybtn", state="attached")
        assert page.locator(".cell_output .copybtn").count() == 0
        address = page.locator(".download").evaluate("one => one.href").removeprefix("file://")
        saved = (ROOT / source / "07_send_requests.ipynb").read_bytes()
        assert Path(unquote(address)).read_bytes() == saved


def test_a_printed_table_scrolls_and_all_else_wraps_on_a_phone(course, phone):
    phone.goto((course / "notebooks" / "07_send_requests.html").as_uri())
    styles = phone.evaluate(
        """() => [".output.aligned pre", ".output:not(.aligned) pre"].map(
            one => getComputedStyle(document.querySelector(one)).whiteSpace)"""
    )
    assert styles == ["pre", "pre-wrap"]


def test_no_line_ends_within_the_dashes_of_an_option(course, phone):
    phone.goto((course / "notebooks" / "06_start_triton.html").as_uri())
    dashes = phone.locator("article code .dash")
    assert {"-v", "--m"} <= set(dashes.all_inner_texts())
    assert dashes.evaluate_all("all => all.every(one => one.getClientRects().length === 1)")


def test_contents_are_beside_the_text_or_on_a_phone_behind_a_button(home, page, phone):
    address = (home / "docs" / "backend.html").as_uri()
    for window in (page, phone):
        window.goto(address)
        contents = window.locator(".site-contents")
        if window is phone:
            assert not contents.is_visible()
            window.tap(".primary-toggle")
            contents.wait_for(state="visible")
        assert "oneflow" in contents.locator(".current > a").first.inner_text()
        contents.locator("a[href='../notebooks/01_run_model_eagerly.html']").click()
        assert window.url.endswith("01_run_model_eagerly.html")


def luminance(colour):
    """Return a colour's relative luminance, by the formula of WCAG 2.2."""
    channels = [int(number) / 255 for number in colour[4:-1].split(",")]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_are_easy_to_read(course, new_page, scheme):
    """At least 4.5 to 1, which WCAG 2.2 asks for; paper is light in the light scheme only."""
    page = new_page(color_scheme=scheme)
    page.goto((course / "notebooks" / "06_start_triton.html").as_uri())
    colours = page.evaluate(
        """() => ["article", ".site-contents li a", ".eyebrow span", ".language", "article p a",
                  ".highlight .c1", ".highlight .k, .highlight .kn", ".highlight .s2",
                  ".highlight .mi", ".highlight .nf", ".highlight .nb", ".highlight .o"].map(
            one => getComputedStyle(document.querySelector(one)).color)"""
    )
    papers = page.evaluate(
        """() => ["body", ".cell_input"].map(
            one => getComputedStyle(document.querySelector(one)).backgroundColor)"""
    )
    for paper in map(luminance, papers):
        assert (paper > 0.5) == (scheme == "light")
        for colour in colours:
            lighter, darker = sorted((luminance(colour), paper), reverse=True)
            assert (lighter + 0.05) / (darker + 0.05) > 4.5, colour


def test_dark_can_be_chosen_and_stays(course, page):
    page.goto((course / "index.html").as_uri())
    while page.locator("html").get_attribute("data-mode") != "dark":
        page.locator(".theme-switch-button").click()
    page.goto((course / "zh" / "docs" / "backend.html").as_uri())
    assert page.locator("html").get_attribute("data-theme") == "dark"


@pytest.fixture
def prefixed(course):
    """The address of the site on a server that has it under a path."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def translate_path(self, path):
            return super().translate_path(path.removeprefix("/kit/course"))

        def log_message(self, *words):
            pass

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Handler, directory=course)
    ) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/kit/course"
        server.shutdown()
        thread.join()


def test_it_works_on_a_server_under_a_path(prefixed, page, seen):
    page.goto(f"{prefixed}/zh/search.html?q=max_batch_size")
    page.wait_for_selector("ul.search p.context")  # a server also gives excerpts
    page.locator("ul.search li a[href*='08_batch']").first.click()
    page.click(".language")
    assert page.url == f"{prefixed}/notebooks/08_batch_and_scale.html"
    page.click(".sidebar-top .brand")
    assert page.url == f"{prefixed}/index.html"
    assert seen.errors == []
