"""In which language the kit speaks to a learner, and what it says in Chinese."""

import subprocess
import sys

import pytest

from serving_kit import language
from serving_kit.errors import ServingKitError
from serving_kit.paths import ROOT

VARIABLES = ("SERVING_KIT_LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")


@pytest.fixture
def environment(monkeypatch):
    """Set these variables and no other that says a language."""

    def environment(**variables):
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return environment


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "en"),
        ({"LANG": "C.UTF-8"}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_TW"}, "zh"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({"LANG": "zh_CN.UTF-8", "LC_MESSAGES": "en_US.UTF-8"}, "en"),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": ""}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "SERVING_KIT_LANGUAGE": "en"}, "en"),
        ({"SERVING_KIT_LANGUAGE": "zh"}, "zh"),
        ({"SERVING_KIT_LANGUAGE": "zh-CN"}, "zh"),
        ({"SERVING_KIT_LANGUAGE": "", "LANG": "zh_CN.UTF-8"}, "zh"),
    ],
)
def test_the_setting_counts_before_the_locale(environment, variables, expected):
    environment(**variables)
    assert language.language() == expected


def test_an_unknown_language_is_told_what_is_expected(environment):
    environment(SERVING_KIT_LANGUAGE="fr")
    with pytest.raises(ServingKitError) as caught:
        language.language()
    assert str(caught.value) == (
        "SERVING_KIT_LANGUAGE=fr is not a language of the kit; write one of en, zh"
    )


def test_a_message_without_a_translation_stays_english(environment, monkeypatch, tmp_path):
    (tmp_path / "some.po").write_text(
        'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=utf-8\\n"\n\n'
        'msgid "one"\nmsgstr "一"\n\n#, fuzzy\nmsgid "two"\nmsgstr "二"\n\n'
        'msgid "three"\nmsgstr ""\n'
    )
    monkeypatch.setattr(language, "TRANSLATIONS", tmp_path / "some.po")
    language._translations.cache_clear()
    environment(SERVING_KIT_LANGUAGE="zh")
    assert list(map(language._, ("one", "two", "three", "four"))) == ["一", "two", "three", "four"]
    language._translations.cache_clear()


CHECKS = """
from serving_kit import exercises
exercises.check("06.2", lambda *statuses: "wait")
exercises.check("06.2", lambda live, ready, model, probe:
    "restart" if live != 200 else "nothing" if probe == 200 else "load")
exercises.hint("06.2")
exercises.check("07.quiz", "adacbdac")
"""


def test_an_exercise_in_chinese():
    """A wrong answer, a right one, a hint and a quiz, in a process whose language it is."""
    done = run(CHECKS, SERVING_KIT_LANGUAGE="zh")
    assert done.stdout.splitlines() == [
        "06.2  还不对：live 200，ready 200，model 200，probe 200：你的函数返回了 'wait'，"
        '应为 "nothing"：一切正常。',
        "06.2  正确！只在别无他法时才重启：其他模型继续提供服务。",
        "06.2  提示 1/3：从最坏的情况开始：服务器完全没有响应时，其他都不重要。",
        "07.quiz  还不对：8 题中答对了 7 题。",
        "第 1 题：请求形状的第一个数是批维度；dims 不写它（第 05 课）。",
    ]


def test_in_english_no_translation_is_read():
    done = run(CHECKS + "import sys; sys.exit('babel' in sys.modules)", LANG="en_US.UTF-8")
    assert "06.2  Not yet: live 200" in done.stdout


def run(program, **variables):
    environment = {"PATH": "/usr/bin:/bin", **variables}
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
