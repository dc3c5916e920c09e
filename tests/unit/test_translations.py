"""The Chinese texts are what ``make translations`` writes, whole, and equal but for the words."""

import json
import posixpath
import re
from itertools import chain
from urllib.parse import unquote

import nbformat
import pytest

import translations
from markdown_messages import PARSER, headings, messages, shape, slug_of, translated
from serving_kit.paths import ROOT
from translation_rules import problems

SOURCES = translations.sources(ROOT)
NOTEBOOKS = [source for source in SOURCES if source.endswith(".ipynb")]


# --- What is a message -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("# Send\n\nOne\ntwo.", ["Send", "One two."]),
        ("- one\n- two\n\n1. three\n", ["one", "two", "three"]),
        ("One?<br>\n   a) yes<br>\n   b) no", ["One?<br>\na) yes<br>\nb) no"]),
        ("| a way | |\n|---|---|\n| `a\\|b` | one \\| two |", ["a way", "one | two"]),
        ("> `an error`\n\n> a quotation", ["a quotation"]),
        ("```shell\nmake lab\n```\n\n`code` 12 %", []),
        (
            "<details><summary>Answer</summary>\n<p>Use <code>x</code>.</p>\n"
            "<pre><code>x = one</code></pre>\n</details>",
            ["Answer", "Use <code>x</code>."],
        ),
        ("![A cat](cat.jpg)", ["![A cat](cat.jpg)"]),
        ("<!-- a comment -->", []),
    ],
)
def test_messages_are_what_is_translated_as_a_whole(text, found):
    assert messages(text) == found


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("# Send\n\nOne\ntwo.", "# SEND\n\nONE TWO."),
        ("- one\n  and two\n\n  three", "- ONE AND TWO\n\n  THREE"),
        ("1. One?<br>\n   a) yes", "1. ONE?<BR>\n   A) YES"),
        ("> one\n> two", "> ONE TWO"),
        (
            "| one | two \\| three | one |\n|---|---|---|",
            "| ONE | TWO \\| THREE | ONE |\n|---|---|---|",
        ),
        ("<p>one</p>\n<pre>two</pre>", "<p>ONE</p>\n<pre>two</pre>"),
        ("```\none\n```", "```\none\n```"),
    ],
)
def test_a_translation_stands_where_the_message_stood(text, shown):
    assert translated(text, str.upper) == shown


def test_links_lead_elsewhere_and_code_stays():
    text = '[one](a.md#b) `[two](a.md)` ![three](c.png)\n\n<p><a href="a.md">four</a></p>'
    found = []
    translated(text, str, lambda link: found.append(link) or link)
    assert found == ["a.md#b", "c.png", "a.md"]
    assert translated(text, str, lambda link: "x").count("a.md") == 1


@pytest.mark.parametrize("source", SOURCES)
def test_a_text_whose_messages_stay_is_the_same(source):
    for text in translations.texts_of(ROOT, source):
        assert translated(text, str).split() == text.split()


# --- What a translation must have -------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "translation", "words"),
    [
        ("Run `make lab`.", "运行 `make serve`。", "code, links or emphasis"),
        ("See [it](a.md).", "见 [它](b.md)。", "code, links or emphasis"),
        ("**Fix.** Do it.", "**解决办法。**照做。", "code, links or emphasis"),
        ("It takes 40 s.", "需要 4 秒。", "numbers differ"),
        ("One, two.", "一,二。", "half-width"),
        ("Use OneFlow.", "使用OneFlow。", "a space"),
        ("Use `x` here.", "使用`x` 吧。", "a space"),
        ("a<br>\nb", "甲<br> 乙", "lines"),
    ],
)
def test_what_is_wrong_with_a_translation_is_told(message, translation, words):
    (found,) = problems(message, translation)
    assert words in found


def test_large_numbers_have_other_units():
    assert problems("It takes 24 million pixels.", "最多 2400 万像素。") == []


def test_a_good_translation():
    message = "**Fix.** Run `make lab` on port 8000; see [the start page](README.md#a)."
    assert (
        problems(
            message, "**解决办法。** 在端口 8000 上运行 `make lab`；见 [起始页](README.md#a)。"
        )
        == []
    )


# --- What is committed ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written():
    return translations.files(ROOT)


def test_the_chinese_files_are_what_the_tool_writes(written):
    for name, text in written.items():
        assert (ROOT / name).read_text(encoding="utf-8") == text, f"{name}: run make translations"
    there = {*ROOT.glob("notebooks/zh/*.*"), *ROOT.glob("docs/zh/*"), *ROOT.glob("**/*.zh.md")}
    names = {path.relative_to(ROOT).as_posix() for path in there if ".venv" not in path.parts}
    assert names == set(written)


def test_no_message_is_missing_fuzzy_or_left_over():
    wanted = translations.found_messages(ROOT)
    assert list(chain.from_iterable(map(translations.to_do, wanted))) == []
    for path, found in wanted.items():
        assert [m.id for m in translations.read_catalog(path) if m.id] == list(dict.fromkeys(found))
    assert set((ROOT / translations.LOCALE).rglob("*.po")) == set(wanted)


@pytest.mark.parametrize("source", NOTEBOOKS)
def test_code_and_outputs_are_those_of_the_english_lesson(source):
    english, chinese = (
        json.loads((ROOT / name).read_text(encoding="utf-8"))
        for name in (source, translations.counterpart(source))
    )
    nbformat.validate(chinese)
    assert len(english["cells"]) == len(chinese["cells"])
    for one, other in zip(english["cells"], chinese["cells"], strict=True):
        if one["cell_type"] == "code":
            assert one == other
        else:
            assert {**one, "source": None} == {**other, "source": None}
    assert {**english, "cells": None} == {**chinese, "cells": None}


@pytest.mark.parametrize("source", SOURCES)
def test_a_chinese_text_has_the_blocks_of_the_english_one(source):
    kinds = [
        [token.type for text in texts for token in PARSER.parse(text)]
        for texts in (
            translations.texts_of(ROOT, source),
            translations.texts_of(ROOT, translations.counterpart(source)),
        )
    ]
    assert kinds[0] == kinds[1]


@pytest.mark.parametrize("source", SOURCES)
def test_links_of_a_chinese_text_lead_somewhere(source):
    name = translations.counterpart(source)
    for text in translations.texts_of(ROOT, name):
        for token in chain.from_iterable(t.children or () for t in PARSER.parse(text)):
            link = token.attrGet("href") or token.attrGet("src") or ""
            if link and not re.match(r"[a-z]+:", link):
                assert leads_somewhere(name, link), f"{name}: {link}"


def leads_somewhere(name, link):
    path, _, anchor = unquote(link).partition("#")
    other = posixpath.normpath(posixpath.join(posixpath.dirname(name), path)) if path else name
    if not (ROOT / other).exists():
        return False
    texts = translations.texts_of(ROOT, other) if anchor else []
    slugs = {slug_of(one) for text in texts for one in headings(text)}
    return not anchor or slug_of(anchor) in slugs


def test_a_chinese_text_leads_to_chinese_neighbours(written):
    assert "[English](../07_send_requests.ipynb)" in written["notebooks/zh/07_send_requests.ipynb"]
    assert "](08_batch_and_scale.ipynb)" in written["notebooks/zh/07_send_requests.ipynb"]
    assert (
        "](../../src/serving_kit/client/inference.py)"
        in written["notebooks/zh/07_send_requests.ipynb"]
    )
    assert "](docs/zh/backend.md)" in written["README.zh.md"]
    assert "](notebooks/zh/00_quickstart.ipynb)" in written["README.zh.md"]
    assert "[English](README.md)" in written["README.zh.md"]


# --- A sentence changes -----------------------------------------------------------------------


def test_a_changed_sentence_is_fuzzy_and_shown_in_english_until_it_is_translated(tmp_path):
    page = tmp_path / "README.md"
    page.write_text("# Begin\n\nIt takes five minutes, or a little more.\n")
    path = tmp_path / translations.catalog_file("README.md")
    renew(
        tmp_path, {"Begin": "开始", "It takes five minutes, or a little more.": "需要五分钟左右。"}
    )
    assert translations.translate(tmp_path, "README.md") == "# 开始\n\n需要五分钟左右。\n"
    assert translations.to_do(path) == []

    changed = "It takes six minutes, or a little more."
    page.write_text(f"# Begin\n\n{changed}\n")
    renew(tmp_path, {})
    assert translations.translate(tmp_path, "README.md") == f"# 开始\n\n{changed}\n"
    assert translations.to_do(path) == [f"README.po: is fuzzy: {changed}"]
    assert '#| msgid "It takes five minutes' in path.read_text()
    assert "需要五分钟左右。" in path.read_text()


def renew(root, known):
    """Renew the messages of a README, and translate those that are known."""
    path = root / translations.catalog_file("README.md")
    translations.renew(path, messages((root / "README.md").read_text()), {})
    text = path.read_text(encoding="utf-8")
    for message, translation in known.items():
        text = text.replace(
            f'msgid "{message}"\nmsgstr ""', f'msgid "{message}"\nmsgstr "{translation}"'
        )
    path.write_text(text, encoding="utf-8")


def test_a_message_that_moved_to_another_text_brings_its_translation(tmp_path):
    path = tmp_path / "page.po"
    translations.renew(path, ["Clean up", "Set up"], {"Clean up": "清理"})
    assert translations.translations(translations.read_catalog(path)) == {"Clean up": "清理"}


def test_a_shape_knows_code_and_links_but_not_words():
    assert shape("A [b](c) `d`") == shape("`d` [x](c) y")
    assert shape("A `d`") != shape("A d")
