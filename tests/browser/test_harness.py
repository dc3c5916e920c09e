"""The pages of conftest.py notice what they promise to notice."""

import os
import shutil
import subprocess
import sys

import pytest

from serving_kit.paths import ROOT


def show(page, tmp_path, html):
    (tmp_path / "page.html").write_text(f"<!doctype html><html lang=en><body>{html}")
    page.goto((tmp_path / "page.html").as_uri())


def test_a_page_says_its_size_and_language(page, phone, new_page, tmp_path):
    chinese = new_page(locale="zh-CN")
    for one, width, language in (
        (page, 1280, "en-US"),
        (phone, 390, "en-US"),
        (chinese, 1280, "zh-CN"),
    ):
        show(one, tmp_path, '<meta name="viewport" content="width=device-width">')
        assert one.evaluate("[innerWidth, navigator.language]") == [width, language]


def test_errors_are_noticed(page, seen, tmp_path):
    show(page, tmp_path, "<script>console.error('one'); throw Error('two')</script>")
    page.wait_for_function("true")
    assert [error.split()[0] for error in seen.errors] == ["one", "two"]


def test_requests_to_other_hosts_are_noticed(page, seen, tmp_path):
    show(
        page,
        tmp_path,
        "<img src='https://example.com/a.png'><img src='data:image/gif;base64,R0lG'>",
    )
    page.evaluate("try { new WebSocket('wss://example.com/b') } catch {}")
    page.wait_for_timeout(100)
    assert seen.elsewhere == ["https://example.com/a.png", "wss://example.com/b"]
    seen.elsewhere.clear()


@pytest.mark.parametrize(("ci", "outcome"), [("", "1 skipped"), ("true", "1 error")])
def test_without_chromium_a_test_is_skipped_but_fails_in_ci(tmp_path, ci, outcome):
    (tmp_path / "git").symlink_to(shutil.which("git"))  # the root's conftest.py needs it
    test = f"{__file__}::test_errors_are_noticed"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test],
        env=os.environ | {"PATH": str(tmp_path), "CI": ci},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert outcome in done.stdout
    assert "run apt install chromium fonts-noto-cjk" in done.stdout
