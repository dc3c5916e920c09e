"""docs/troubleshooting.md: every entry is provoked, and no error is forgotten."""

import ast
import re
from pathlib import Path

import nbformat
from provoking import (
    ENTRIES,
    PAGE,
    is_provoked,
    plain,
)

from serving_kit.paths import BACKENDS, MODEL_REPOSITORY, ROOT
from serving_kit.server.gateway import CONFIGURATION

#: The first words of the messages that nobody provokes here; the page says why, at each.
NOT_PROVOKED = {
    "Unable to import Numpy array",
    "port <port> needs administrator rights",
    "docker: Error response from daemon: could not select device driver",
    "permission denied while trying to connect to the Docker daemon socket",
    "no kernel image is available",
    "<file> cannot be read: <why>",
    "<file> cannot be written: permission denied",
}
#: Sources whose messages the page does not repeat, and why.
NOT_ON_THE_PAGE = {
    "src/serving_kit/repository/checks": "make check prints what to do; see its own tests",
    "src/serving_kit/exercises": "hints, each beside its exercise",
    "src/serving_kit/projects/checks": "progress says what to do; see its own tests",
    "src/serving_kit/projects/compare.py": "the same",
    "src/serving_kit/client/perf_analyzer.py": "of the tool of lesson 08; see its own tests",
    "src/serving_kit/client/uploads.py": "limits of demo.zip; see its own tests",
    "backends/oneflow/oneflow_backend/rebatch.py": "the reasons in one sentence that is there",
    "backends/oneflow/oneflow_backend/batch_axis.py": "the same",
    "backends/oneflow/oneflow_backend/batch_places.py": "the same",
    "backends/oneflow/oneflow_backend/batch_table.py": "the same",
    "backends/oneflow/oneflow_backend/batch_values.py": "the same",
    "backends/oneflow/oneflow_backend/shape_inference.py": "the same",
}
#: Words of errors that are only a part of a sentence on the page, or none for a learner, and why.
PARTS = {
    "OneFlow's process died of": "after a trial that was left out",
    "the model is being unloaded": "a request that was under way as its model was unloaded",
    "not the fields of a ServerSpec:": "such a record is dropped",
    "no response in HTTP from": "as with a server that does not respond",
    "has no attribute": "Python's own words",
    'a number of seconds above 0, such as "2.5"': "as with max_retries",
    '"true" or "false"': "as with max_retries",
    "); is it running with this model, and ready?": "as with a server that does not respond",
    "is not host:port; write it like": "it says how to write it",
    "there is no protocol": "it says which there are",
    "pixels are too many for this format; use .png": "it says what to use",
    ", but there is no Triton with its python backend; name the tritonserver of one, or unset it": (
        "who sets SERVING_KIT_TRITON knows which it is"
    ),
}


def test_every_entry_has_a_provoker_and_every_provoker_an_entry():
    expected = {
        title for title, found in ENTRIES.items() if any(is_provoked(*each) for each in found)
    }
    tests = "".join(file.read_text() for file in Path(__file__).parent.glob("test_*.py"))
    titles = re.findall(r'^@provokes\("(.+)"\)\ndef test_', tests, flags=re.M)
    assert len(titles) == len(set(titles))
    assert set(titles) == expected


def test_the_messages_that_nobody_provokes_are_known():
    found = [each[0] for entry in ENTRIES.values() for each in entry if not is_provoked(*each)]
    assert len(found) == len(NOT_PROVOKED)
    assert all(any(message.startswith(known) for known in NOT_PROVOKED) for message in found)


def test_every_entry_says_cause_and_fix():
    for title, found in ENTRIES.items():
        paragraphs = [paragraph for _, paragraph in found]
        assert any("**Cause.**" in said and "**Fix.**" in said for said in paragraphs), title


def test_links_of_the_page_lead_somewhere():
    text = PAGE.read_text()
    anchors = {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^##+ (.+)$", text, re.M)
    }
    for target in re.findall(r"\]\(([^)]+)\)", re.sub(r"`[^`]*`", "", text)):
        if target.startswith("#"):
            assert target[1:] in anchors, target
        elif not target.startswith("https://"):
            assert (PAGE.parent / target).exists(), target


def words_of(node):
    """Return the fixed words of a message in the source, in pieces, the longest first."""
    pieces = [
        part.value
        for part in ast.walk(node)
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    ]
    return sorted((plain(piece).strip("; ") for piece in pieces), key=len, reverse=True)


def sentences_of(path):
    """Return line and fixed words of each error that a source file raises with words of its own."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
            words = words_of(node.exc.args[0])
            if words and len(words[0]) >= 12:
                yield node.lineno, words[0]


def test_no_error_of_the_kit_is_forgotten():
    """A new error wants an entry and a provoker, or a reason in ``NOT_ON_THE_PAGE``."""
    known = plain("\n".join(message for found in ENTRIES.values() for message, _ in found))
    folders = (ROOT / "src" / "serving_kit", BACKENDS, MODEL_REPOSITORY / "preprocess")
    sources = [path for folder in folders for path in folder.rglob("*.py")]
    forgotten = []
    for path in sources:
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(tuple(NOT_ON_THE_PAGE)):
            forgotten += [
                f"{name}:{line}: {words}"
                for line, words in sentences_of(path)
                if words not in known and words not in PARTS
            ]
    assert not forgotten, "\n".join(forgotten)


def test_no_refusal_of_the_set_up_is_forgotten():
    known = plain("\n".join(message for found in ENTRIES.values() for message, _ in found))
    script = re.sub(r"\\\n\s*", " ", (ROOT / "tools" / "set_up.sh").read_text())
    script = re.sub(r"' '|' \"", " ", script)
    refusals = re.findall(r"\b(?:fail|refuse) ['\"](?!\$@)(.+)", script)
    assert len(refusals) >= 7
    for refusal in refusals:
        words = max(re.split(r"\$\{[^}]*\}|\$\([^)]*\)|\$\w+|\\?\"|'", refusal), key=len)
        assert plain(words)[:40] in known, refusal


def test_no_sentence_of_the_gateway_is_forgotten():
    known = plain("\n".join(message for found in ENTRIES.values() for message, _ in found))
    text = CONFIGURATION.read_text()
    sentences = re.findall(r'\bbody: [{] inline_string: "(.+)" [}]|\bbody: &.* "(.+)" [}]', text)
    sentences += re.findall(r'\brefuse\(handle, "((?:[^"\\]|\\.)+)"()', text)
    assert len(sentences) >= 15
    for sentence in map("".join, sentences):
        assert plain(sentence.replace('\\"', '"')) in known, sentence


#: How a line of a lesson's output looks that may be an error.
ERROR_LINE = re.compile(
    r"\[\d{3}\]|\w(error|exception)\b:? \S|\[error\]|refused|\bfail(s|ed)\b|not yet:", re.I
)


#: What looks like one and is none: counters of lessons 08 and 10, the alerts that 10 prints, a
#: source that 09 prints, a sentence that 05 cuts off, attempts that 07 counts, and what the builder
#: of demo.zip says in 12, which has tests of its own.
NO_ERROR = re.compile(
    r"TritonModelException: \.\.\.|^attempt \d+: |failed( so far)?: 0|requests failed|failed, say|"
    r"failed requests that|none failed|Failed requests:|"
    r"or refused: |refused: (none|503)|refused \d+, Triton counted|has refused: |except |"
    r"nothing was built|^(info|warning|critical) +[A-Z]|No request has failed"
)


def error_lines(path):
    """Yield the lines of a notebook's outputs that may be errors."""
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if {"image/png", "image/jpeg"} & set(data):
                continue  # its text says what the picture shows
            text = output.get("text") or data.get("text/plain", "")
            for line in filter(ERROR_LINE.search, plain_lines(text)):
                if not NO_ERROR.search(line):
                    yield line


def plain_lines(text):
    return [plain(line) for line in text.splitlines()]


def test_no_error_of_a_lesson_is_forgotten():
    beginnings = {
        next(part for part in re.split(r"<[a-z ]*>", plain(message)) if len(part) >= 9).strip()[:25]
        for found in ENTRIES.values()
        for message, _ in found
    }
    forgotten = [
        f"{path.name}: {line}"
        for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
        for line in error_lines(path)
        if not any(begin in line for begin in beginnings)
    ]
    assert not forgotten, "\n".join(forgotten)
