"""docs/troubleshooting.md, and what its tests have in common.

Each entry of the page has a test, marked with ``provokes``, that does what a learner may do wrong
and returns the words that really came; they are compared with the page.
"""

import functools
import importlib.util
import re
import subprocess
from pathlib import Path

import pytest

from serving_kit.paths import ROOT

PAGE = ROOT / "docs" / "troubleshooting.md"
SECONDS = 60
#: How the page says of a message that no test brings it about.
WHY_NOT = ("*Not seen by us*", "*Seen once by hand*")


def read_page(text):
    """Return each entry's title, with its messages and, of each, the paragraph that follows."""
    entries = {}
    for part in re.split(r"^### ", text, flags=re.M)[1:]:
        title, _, body = part.partition("\n")
        entries[title] = found = []
        body = re.split(r"^## ", body, flags=re.M)[0]
        waiting = []
        for block in filter(None, re.split(r"\n\s*\n", body)):
            if message := re.fullmatch(r"> `(.+)`", block.strip()):
                waiting.append(message[1])
            else:
                found += [(message, block) for message in waiting]
                waiting = []
        found += [(message, "") for message in waiting]
    return entries


ENTRIES = read_page(PAGE.read_text())


def is_provoked(message, paragraph):
    return not any(why in paragraph for why in WHY_NOT)


def plain(text):
    """Return a text without colours, with single spaces."""
    return " ".join(re.sub(r"\x1b\[[\d;]*m", "", text).split())


def pattern(message):
    """Return a regular expression for a message: ``<...>`` stands for anything."""
    parts = re.split(r"<[a-z][a-z ]*>", plain(message))
    return ".+?".join(map(re.escape, parts))


def provokes(title):
    """Mark a test that returns one text or several, in which all messages of an entry must be."""

    def mark(function):
        @functools.wraps(function)
        def test(**fixtures):
            answer = function(**fixtures)
            said = plain(answer if isinstance(answer, str) else "\n".join(answer))
            for message, paragraph in ENTRIES[title]:
                if is_provoked(message, paragraph):
                    found = re.search(pattern(message), said)
                    assert found, f"{message}\n\nnot in:\n\n{said}"

        return test

    return mark


def raised(kind, function, /, *arguments, **named):
    """Call what must raise, and return its words."""
    with pytest.raises(kind) as caught:
        function(*arguments, **named)
    return str(caught.value)


def run(*arguments, **named):
    """Run a program; return all that it printed."""
    done = subprocess.run(
        [*map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=SECONDS,
        check=False,
        **named,
    )
    return done.stdout


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def parameter(key, value):
    """Return a parameter for config.pbtxt."""
    return f'parameters {{ key: "{key}" value: {{ string_value: "{value}" }} }}\n'


def of_another_test(name):
    """Return another test's module, whose fixtures pretend machines."""
    file = Path(__file__).parents[1] / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
