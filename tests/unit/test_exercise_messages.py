"""All that an exercise says to a learner can be translated, and is."""

import ast
import re
from collections import Counter
from string import Formatter

import pytest

import translations
from exercise_messages import EXERCISES, exercise_messages
from serving_kit.language import TRANSLATIONS
from serving_kit.paths import ROOT

SOURCES = sorted((ROOT / EXERCISES).glob("*.py"))
#: Two words in a row, or the end of a sentence: no name, no format, no code.
PROSE = re.compile(r"[A-Za-z]{2,}[,;:]? [a-z]+|[a-z] .*[.?!]$")
#: Calls whose words are not the exercises' own: those that are translated already, and errors that
#: say what Triton or the kit itself would.
OTHERS = {
    *("_", "InferenceServerException", "OSError", "ConnectionRefusedError", "ServingKitError"),
    *("_BadPicture", "_Fault"),
}
#: What is compared with others' words, or never shown.
NOT_SHOWN = {
    "must be compiled first",
    "the picture is empty",
    "too many measurements",
    r"^def exercise_(\w+)\(\w+: (Callable|str)\)",
}
#: The translator keeps these as they are.
PLACEHOLDER = re.compile(r"\{[^{}]*\}")
CODE = re.compile(r"`[^`]*`")
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def name_of(call):
    return getattr(call.func, "id", "") if isinstance(call, ast.Call) else ""


def untranslated(node):
    """Yield the sentences below a node that do not go through ``_``."""
    is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    if is_docstring or name_of(node) in OTHERS:
        return
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts)
    if isinstance(node, ast.JoinedStr | ast.Constant):
        if PROSE.search(text) and "\n" not in text and text not in NOT_SHOWN:
            yield node.lineno, text
        return
    for child in ast.iter_child_nodes(node):
        yield from untranslated(child)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_every_sentence_goes_through_gettext(source):
    assert list(untranslated(ast.parse(source.read_text()))) == []


def test_a_sentence_that_does_not_is_found():
    for line in ('raise NotYet("not so")', 'raise NotYet(f"{x} is not so")', 'WHY = {1: "not so"}'):
        assert list(untranslated(ast.parse(line)))
    assert not list(untranslated(ast.parse('raise NotYet(_("{x} is not so").format(x=1))')))


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_gettext_is_given_a_literal_and_its_name_to_nothing_else(source):
    tree = ast.parse(source.read_text())
    calls = [node for node in ast.walk(tree) if name_of(node) == "_"]
    for call in calls:
        (text,) = call.args
        assert isinstance(text, ast.Constant) and isinstance(text.value, str), call.lineno
    stored = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == "_"]
    assert {type(node.ctx) for node in stored} <= {ast.Load}
    assert "_" not in {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}


def test_the_messages_are_what_is_given_to_gettext():
    calls = [node for source in SOURCES for node in ast.walk(ast.parse(source.read_text()))]
    given = [node.args[0].value for node in calls if name_of(node) == "_"]
    assert set(exercise_messages(ROOT)) == set(given) and len(given) > 400


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_each_placeholder_is_filled_in(source):
    for node in ast.walk(ast.parse(source.read_text())):
        message = getattr(getattr(node, "func", None), "value", None)
        if name_of(message) == "_":
            names = {name for _, name, _, _ in Formatter().parse(message.args[0].value) if name}
            assert names == {keyword.arg for keyword in node.keywords}, node.lineno


def test_a_translation_has_the_placeholders_code_and_numbers_of_its_message():
    for one in translations.read_catalog(TRANSLATIONS):
        if one.id:
            assert kept(one.string) == kept(one.id), one.id


def kept(text):
    """Return what is the same in a message and its translation."""
    code = PLACEHOLDER.findall(text) + CODE.findall(text)
    return Counter(code + NUMBER.findall(CODE.sub("", PLACEHOLDER.sub("", text))))
