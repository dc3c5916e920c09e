"""A headless Chromium, and pages in it that notice requests to other hosts and errors.

And the demo's page, server.py, with a real Triton behind it.
"""

import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import sync_playwright

from serving_kit.models import ALL_STYLES, repository_for
from serving_kit.server import TritonServer

sys.path.insert(0, str(Path(__file__).parent))  # which pytest's importlib mode does not do
import demo_page

HERE = {"127.0.0.1", "localhost", "::1"}
FLAGS = [
    "--no-sandbox",  # CI is root in a container
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",  # containers give /dev/shm 64 MB, too little for a page
    # Also where there is a network, no page gets to it: tests see the same everywhere.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
]
DESKTOP = {"viewport": {"width": 1280, "height": 800}}
PHONE = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "has_touch": True,
    "is_mobile": True,
}
HANG_MS = 60_000


@pytest.fixture(scope="session")
def chromium():
    """The path of Chromium. Without one, tests are skipped; in CI they fail."""
    path = shutil.which("chromium")
    if path is None:
        sentence = "there is no Chromium: run apt install chromium fonts-noto-cjk"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(sentence)
    return path


# For one module, not for the session: while it lives, this thread has a running event loop,
# in which nbval and others could not start theirs.
@pytest.fixture(scope="module")
def browser(chromium, tmp_path_factory):
    """The browser that a module's tests share; what it writes, it writes into a home of its own."""
    home = str(tmp_path_factory.mktemp("home"))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=FLAGS,
            timeout=HANG_MS,
            env=os.environ | {"HOME": home, "XDG_CONFIG_HOME": home, "XDG_CACHE_HOME": home},
        )
        yield browser
        browser.close()


@pytest.fixture
def seen():
    """What the pages of a test did: ``elsewhere``, requests to other hosts, and ``errors``."""
    return SimpleNamespace(elsewhere=[], errors=[])


@pytest.fixture
def new_page(browser, seen):
    """Makes pages, ``new_page(PHONE, locale="zh-CN")``; at the end none has asked another host."""
    contexts = []

    def new_page(window=DESKTOP, **options):
        context = browser.new_context(**window, **options)
        contexts.append(context)
        context.set_default_timeout(HANG_MS)
        context.on("request", lambda request: note_elsewhere(request.url))
        context.on("console", note_console)
        context.on("weberror", lambda error: seen.errors.append(str(error.error)))
        page = context.new_page()
        page.on("websocket", lambda socket: note_elsewhere(socket.url))
        return page

    def note_elsewhere(url):
        parts = urlsplit(url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.hostname not in HERE:
            seen.elsewhere.append(url)

    def note_console(message):
        if message.type == "error":
            seen.errors.append(f"{message.text} ({message.location.get('url')})")

    yield new_page
    for context in contexts:
        context.close()
    assert seen.elsewhere == [], "a page asked another host"


@pytest.fixture
def page(new_page):
    """A page in a window of a desktop, in English."""
    return new_page(locale="en-US")


@pytest.fixture
def phone(new_page):
    """A page on a phone, in English."""
    return new_page(PHONE, locale="en-US")


@pytest.fixture
def chinese_phone(new_page):
    """A page on a phone, in Chinese."""
    return new_page(PHONE, locale="zh-CN")


@pytest.fixture(scope="session")
def triton():
    """The Triton behind the page, which serves all styles."""
    with TritonServer(repository_for(models=[ALL_STYLES]), models=[ALL_STYLES]) as server:
        yield server


@pytest.fixture(scope="session")
def way(triton):
    """The way from the page to Triton, which a test can close for a while."""
    with demo_page.Way(triton.url) as way:
        yield way


@pytest.fixture(scope="session")
def make_demo(way, tmp_path_factory):
    """Makes pages that are not started, ``make_demo(DEMO_ROOT_PATH="/demo")``."""

    def make_demo(**options):
        folder = tmp_path_factory.mktemp("demo")
        (folder / "temporary").mkdir()
        return demo_page.DemoPage(
            demo_page.lay_out(folder / "zip"), way.url, folder / "temporary", **options
        )

    return make_demo


@pytest.fixture(scope="session")
def demo(make_demo):
    """The page that tests share, under a path."""
    with demo_page.running(make_demo(DEMO_ROOT_PATH="/demo")) as page:
        yield page
