"""docs/troubleshooting.md: every message on the page is brought about here, and compared.

Each entry of the page has a provoker below, which does what a learner may do wrong and returns
the words that really came. A message that cannot be provoked here says so on the page, and stands
in ``NOT_PROVOKED``.
"""

import ast
import functools
import gc
import http.client
import importlib.util
import inspect
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import numpy as np
import oneflow as flow
import psutil
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from geventhttpclient._parser import HTTPParseError
from nbclient import NotebookClient
from oneflow import nn
from tritonclient.utils import InferenceServerException

from oneflow_backend.graph_folder import GraphFolderError, read_graph_folder
from oneflow_backend.saved_graph import SavedGraph
from oneflow_backend.worker_process import WorkerError, find_python
from serving_kit import exercises, models
from serving_kit.client.images import check_writable, decode_image, read_image, write_image
from serving_kit.client.inference import infer
from serving_kit.errors import (
    ClientError,
    ConfigError,
    ExportError,
    ImageError,
    ServerError,
    ServingKitError,
    StyleError,
)
from serving_kit.exercises import lessons
from serving_kit.export.version import export_version
from serving_kit.paths import BACKENDS, CAT, ROOT
from serving_kit.repository import checks
from serving_kit.repository.config import as_triton_has_it, backend_config, config_for, read_config
from serving_kit.repository.config import write_config as write_config_file
from serving_kit.repository.config_text import parse_config
from serving_kit.server import docker, embedded, ports, runs
from serving_kit.server.triton import TritonServer, choose
from serving_kit.stylenet.cpu_network import load_stylenet_cpu
from serving_kit.stylenet.network import StyleNet, load_stylenet
from serving_kit.stylenet.styles import style_index

PAGE = ROOT / "docs" / "troubleshooting.md"
SECONDS = 60

#: The first words of the messages that nobody provokes here; the page says why, at each.
NOT_PROVOKED = {
    "Unable to import Numpy array",
    "port <port> is for the administrator",
    "docker: Error response from daemon: could not select device driver",
    "permission denied while trying to connect to the Docker daemon socket",
    "no kernel image is available",
    "<file> cannot be read: <why>",
    "<file> cannot be written: permission denied",
}
WHY_NOT = ("*Not seen by us*", "*Seen once by hand*")

#: Sources whose messages the page does not repeat, and why.
NOT_ON_THE_PAGE = {
    "src/serving_kit/checks": "make check prints them with their cure; see its own tests",
    "src/serving_kit/exercises": "hints, each beside its exercise",
    "src/serving_kit/client/perf_analyzer.py": "of the tool of lesson 08; see its own tests",
    "src/serving_kit/client/pictures.py": "limits of stylize_jpeg; lesson 09 and its own tests",
    "src/serving_kit/client/uploads.py": "limits of demo.zip; see its own tests",
    "backends/oneflow/oneflow_backend/rebatch.py": "the reasons in one sentence that is there",
}
#: Words of errors that are only a part of a sentence on the page, or none for a learner, and why.
PARTS = {
    "the model is being unloaded": "a request that was under way as its model was unloaded",
    'a number of seconds above 0, as "2.5"': "as with max_retries",
    '"true" or "false"': "as with max_retries",
    "); is it started with this model, and ready?": "as with a server that does not answer",
    "is not host:port; write it like": "it says how to write it",
    "there is no protocol": "it says which there are",
    "pixels are too many for this format; use .png": "it says what to use",
    ", but there is no Triton with its python backend; name the tritonserver of one, or unset it": (
        "who sets SERVING_KIT_TRITON knows which it is"
    ),
}


# --- The page ---------------------------------------------------------------------------------


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
PROVOKERS = {}


def pattern(message):
    """Return a regular expression for a message: ``<...>`` stands for anything."""
    parts = re.split(r"<[a-z][a-z ]*>", plain(message))
    return ".+?".join(map(re.escape, parts))


def plain(text):
    """Return a text without colours, with single spaces."""
    return " ".join(re.sub(r"\x1b\[[\d;]*m", "", text).split())


def is_provoked(message, paragraph):
    return not any(why in paragraph for why in WHY_NOT)


def provokes(title):
    def register(function):
        assert title not in PROVOKERS
        PROVOKERS[title] = function
        return function

    return register


def test_every_entry_has_a_provoker_and_every_provoker_an_entry():
    expected = {
        title for title, found in ENTRIES.items() if any(is_provoked(*each) for each in found)
    }
    assert expected == set(PROVOKERS)


def test_the_messages_that_nobody_provokes_are_known():
    found = [each[0] for entry in ENTRIES.values() for each in entry if not is_provoked(*each)]
    assert len(found) == len(NOT_PROVOKED)
    assert all(any(message.startswith(known) for known in NOT_PROVOKED) for message in found)


def test_every_entry_says_cause_and_cure():
    for title, found in ENTRIES.items():
        paragraphs = [paragraph for _, paragraph in found]
        assert any("**Cause.**" in said and "**Cure.**" in said for said in paragraphs), title


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


@pytest.mark.parametrize("title", PROVOKERS)
def test_the_message_is_the_one_that_appears(request, title):
    provoker = PROVOKERS[title]
    names = inspect.signature(provoker).parameters
    answer = provoker(**{name: request.getfixturevalue(name) for name in names})
    said = plain(answer if isinstance(answer, str) else "\n".join(answer))
    for message, paragraph in ENTRIES[title]:
        if is_provoked(message, paragraph):
            assert re.search(pattern(message), said), f"{message}\n\nnot in:\n\n{said}"


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
    sources = [*(ROOT / "src" / "serving_kit").rglob("*.py"), *BACKENDS.glob("oneflow/*.py")]
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


#: How a line of a lesson's output looks that may be an error.
ERROR_LINE = re.compile(
    r"\[\d{3}\]|\w(error|exception)\b:? \S|\[error\]|refused|\bfail(s|ed)\b|not yet:", re.I
)


#: What looks like one and is none: counters of lessons 08 and 10, a source that 09 prints, and what
#: the builder of demo.zip says in 12, which has tests of its own.
NO_ERROR = re.compile(
    r"failed( so far)?: 0|requests failed|failed, say|or refused: |has refused: |except |"
    r"nothing was built"
)


def error_lines(path):
    """Yield the lines of a notebook's outputs that may be errors."""
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", []):
            text = output.get("text") or output.get("data", {}).get("text/plain", "")
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


# --- Help for the provokers -------------------------------------------------------------------


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


def of_another_test(name):
    """Return another test's module, whose fixtures pretend machines."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


set_up_tests, docker_tests = of_another_test("test_set_up"), of_another_test("test_docker_server")
bare, machine = set_up_tests.bare, set_up_tests.machine
engine = docker_tests.machine


class Embedding(nn.Module):
    """Rows of a table, minus their mean over the batch, with something that takes time.

    OneFlow aborts over an index outside of the table, and rows are not independent.
    """

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 512)
        self.slow = nn.Parameter(flow.rand(768, 768))

    def forward(self, x):
        rows = self.table(x).sum(dim=1)
        return rows * flow.softmax(rows, dim=0) + (self.slow @ self.slow)[:1, :512]


class Changed(nn.Module):
    """StyleNet, with something done to its answer."""

    def __init__(self, change):
        super().__init__()
        self.stylenet, self.change, self.calls = load_stylenet(), change, 0

    def forward(self, x):
        self.calls += 1
        return self.change(self.stylenet(x), self.calls)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(1).uniform(0, 255, (1, 3, 64, 64)).astype(np.float32)


@pytest.fixture
def saved(tmp_path, small_version):
    """A saved graph of a test's own, to be damaged."""
    return Path(shutil.copytree(small_version / "model", tmp_path / "1" / "model"))


# --- Set-up -----------------------------------------------------------------------------------


@provokes("Another kind of machine")
def _(machine):
    machine.command("uname", "case $1 in -s) echo Darwin ;; *) echo arm64 ;; esac")
    return machine.refusal()


@provokes("An old C library")
def _(machine):
    machine.command("getconf", "echo glibc 2.31")
    return machine.refusal()


@provokes("No uv")
def _(bare):
    return bare.refusal()


@provokes("No Python 3.10")
def _(bare):
    bare.stand_in()
    return bare.refusal()


@provokes("No room on the disk")
def _(machine):
    machine.command("df", 'echo "file system"; echo "/dev/x 9999999 1 5242880 50% /"')
    return machine.refusal()


@provokes("The list of packages was changed")
def _(machine):
    with (machine.kit / "environment.yml").open("a") as file:
        file.write("      - tqdm==4.70.1\n")
    return machine.refusal()


@provokes("The packages could not be installed")
def _(machine, tmp_path):
    machine.real_uv()
    return machine.set_up(UV_OFFLINE="1", UV_CACHE_DIR=str(tmp_path / "empty")).stderr


@provokes("The kit is not there")
def _(tmp_path):
    return run(set_up_tests.PYTHON, "-c", "import serving_kit", cwd=tmp_path)


# --- OneFlow ----------------------------------------------------------------------------------


@provokes("libcudnn is missing")
def _():
    # Away from the packages beside it, but on the same disk, OneFlow finds no cuDNN.
    packages = Path(flow.__file__).parent.parent
    with tempfile.TemporaryDirectory(prefix="oneflow-alone-", dir=packages) as folder:
        for package in ("oneflow", "oneflow.libs"):
            shutil.copytree(packages / package, Path(folder, package), copy_function=os.link)
        return run(sys.executable, "-c", "import oneflow", env=os.environ | {"PYTHONPATH": folder})


@pytest.fixture(scope="module")
def last_words(small_version):
    """What a process prints that imports OneFlow, loads a graph and ends without closing it."""
    code = (
        "import os, sys, numpy as np\n"
        "from oneflow_backend.saved_graph import SavedGraph\n"
        # On one core a graph is run as a graph, not operator by operator.
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "graph = SavedGraph(sys.argv[1])\n"
        "graph(np.zeros((1, 3, 64, 64), np.float32))\n"
    )
    environment = {name: v for name, v in os.environ.items() if name != "GLOG_minloglevel"}
    for _ in range(3):  # now and then it hangs instead
        try:
            return run(sys.executable, "-c", code, small_version / "model", env=environment)
        except subprocess.TimeoutExpired as hung:
            print(hung.output)
    raise AssertionError("it hung three times")


@provokes("Words about InfiniBand and CUDA")
def _(last_words):
    return last_words


@provokes("OneFlow ends with an abort after all went well")
def _(last_words):
    return last_words


@provokes("IProgress not found")
def _(tmp_path):
    code = 'import sys\nsys.modules["ipywidgets"] = None\nimport tqdm.auto'
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}}).execute()
    return "".join(output.text for output in notebook.cells[0].outputs)


@provokes("Weights do not fit the module")
def _():
    state = load_stylenet().state_dict()
    del state["paint.norm.beta"]
    return raised(RuntimeError, StyleNet().load_state_dict, state)


@provokes("Nothing to differentiate")
def _():
    try:
        flow.ones(3).sum().backward()
    except Exception as error:
        return "".join(traceback.format_exception_only(type(error), error))


# --- Graph and save ---------------------------------------------------------------------------


class Graph(nn.Graph):
    def __init__(self, module):
        super().__init__()
        self.module = module

    def build(self, x):
        return self.module(x)


@provokes("A graph takes one shape only")
def _(image, capfd):
    graph = Graph(load_stylenet())
    graph(flow.tensor(image))
    try:
        graph(flow.tensor(np.concatenate([image, image])))
    except Exception as error:
        return str(error) + "".join(capfd.readouterr())
    finally:
        del graph
        gc.collect()


@provokes("A graph cannot look at values")
def _(image, capfd):
    module = Changed(lambda y, _: y * 2 if y.mean() > 3 else y)
    error = raised(AssertionError, Graph(module), flow.tensor(image))
    return [error, *capfd.readouterr()]


@provokes("A graph that never ran cannot be saved")
def _(tmp_path):
    return raised(RuntimeError, flow.save, Graph(load_stylenet()), str(tmp_path / "model"))


@provokes("flow.load of a graph")
def _(saved):
    with pytest.raises(AssertionError) as caught:
        flow.load(str(saved))
    return traceback.format_exception_only(caught.type, caught.value)


def refuse_export(module, image, folder):
    return raised(ExportError, export_version, module, [image], folder / "2")


def out_of_step(y, calls):
    if calls > 1:
        raise ValueError("oops")
    return y


@provokes("A module cannot be exported")
def _(image, tmp_path):
    return [
        refuse_export(Changed(out_of_step), image, tmp_path),
        refuse_export(Changed(lambda y, _: {"picture": y}), image, tmp_path),
    ]


@provokes("An export whose answers differ")
def _(image, tmp_path):
    shape = (1, 3, 64, 64)
    return [
        refuse_export(Changed(lambda y, _: y + flow.rand(*shape)), image, tmp_path),
        refuse_export(Changed(lambda y, _: y + flow.log(flow.randn(*shape))), image, tmp_path),
        refuse_export(Changed(lambda y, calls: y if calls == 1 else (y, y)), image, tmp_path),
    ]


@provokes("A tensor made inside build")
def _(image, tmp_path):
    mean = Changed(lambda y, _: y - flow.tensor(np.full((1, 3, 1, 1), 9, np.float32)))
    return refuse_export(mean, image, tmp_path)


@provokes("A size that StyleNet does not take")
def _():
    return raised(ExportError, load_stylenet_cpu, size=(30, 30))


@provokes("make models fails")
def _(tmp_path):
    return raised(
        ExportError, models._export_in_child, "fast_neural_style", "no_such", "cpu", tmp_path / "1"
    )


@provokes("Arrays that do not fit a saved graph")
def _(image, saved):
    with SavedGraph(saved) as graph:
        return [raised(ValueError, graph, image, image), raised(ValueError, graph, image[0])]


# --- The saved folder -------------------------------------------------------------------------


def refuse_folder(folder):
    return raised(GraphFolderError, read_graph_folder, folder)


@provokes("There is no graph")
def _(tmp_path):
    (tmp_path / "empty").mkdir()
    return [refuse_folder(tmp_path / "none"), refuse_folder(tmp_path / "empty")]


@provokes("The graph lies in the wrong place")
def _(saved):
    high, deep = saved.parent / "high", saved.parent / "deep" / "model"
    shutil.copytree(saved, high)
    shutil.copytree(saved, deep / "model")
    return [refuse_folder(high / "model"), refuse_folder(deep)]


@provokes("A state dict instead of a graph")
def _(tmp_path):
    flow.save(load_stylenet().state_dict(), str(tmp_path / "model"))
    return refuse_folder(tmp_path / "model")


@provokes("model.mlir is damaged")
def _(saved):
    mlir = saved / "model.mlir"
    text, said = mlir.read_text(), []
    for content in (text[: len(text) // 2].encode(), b"version https://git-lfs", b"module \xff"):
        mlir.write_bytes(content)
        said.append(refuse_folder(saved))
    os.truncate(mlir, 300_000_000)  # no byte of which is on the disk
    return [*said, refuse_folder(saved)]


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@provokes("model.mlir is of another OneFlow")
def _(saved):
    edit(saved / "model.mlir", "data_type = ", "dtype = ")
    return refuse_folder(saved)


@provokes("A graph without an output")
def _(saved):
    edit(saved / "model.mlir", '"oneflow.output"', '"oneflow.outlet"')
    return refuse_folder(saved)


@provokes("A data type that Triton does not have")
def _(saved):
    edit(saved / "model.mlir", "data_type = 2 : i32", "data_type = 20 : i32")
    return refuse_folder(saved)


@provokes("Weights are missing or cut off")
def _(saved):
    weights = saved / "module.paint.conv.weight" / "out"
    os.truncate(weights, 100)
    short = refuse_folder(saved)
    weights.unlink()
    return [short, refuse_folder(saved)]


# --- Repository and config.pbtxt --------------------------------------------------------------

CONFIG = """\
name: "small"
backend: "oneflow"
max_batch_size: 1
input [ { name: "INPUT_0" data_type: TYPE_FP32 dims: [ 3, 64, 64 ] } ]
output [ { name: "OUTPUT_0" data_type: TYPE_FP32 dims: [ 3, 64, 64 ] } ]
instance_group [ { count: 1 kind: KIND_CPU } ]
"""


def changed(old, new):
    assert old in CONFIG
    return CONFIG.replace(old, new, 1)


@provokes("A line of make check")
def _(small_repository):
    edit(small_repository / "small" / "config.pbtxt", 'name: "small"', 'name: "other"')
    return checks.to_text(checks.check(small_repository))


@provokes("A field that does not exist")
def _(broken):
    texts = (
        changed("max_batch_size", "max_batchsize"),
        changed("TYPE_FP32", "TYPE_FLOAT32"),
        changed("max_batch_size: 1", "max_batch_size: 1 max_batch_size: 2"),
        changed("3, 64", "3 64"),
    )
    return [raised(ConfigError, parse_config, text, "config.pbtxt") for text in texts] + [
        broken["typo"][1]
    ]


@provokes("config.pbtxt cannot be read")
def _(tmp_path):
    files = {"none": None, "large": b"#" * 2_000_000, "mark": b"\xef\xbb\xbf", "odd": b"\n\xff"}
    for name, content in files.items():
        if content:
            (tmp_path / name).write_bytes(content)
    return [raised(ConfigError, read_config, tmp_path / name) for name in (*files, ".")]


@provokes("The kit will not write config.pbtxt")
def _(tmp_path):
    config = parse_config(CONFIG, "config.pbtxt")
    (tmp_path / "config.pbtxt").write_text(CONFIG + "# precious\n")
    (tmp_path / "file").touch()
    return [
        raised(ConfigError, write_config_file, config, tmp_path / "config.pbtxt"),
        raised(ConfigError, write_config_file, config, tmp_path / "file" / "config.pbtxt"),
    ]


@pytest.fixture
def two_inputs(tmp_path, saved):
    """A graph whose second input has another shape, and whose batch is not 1."""
    mlir = saved / "model.mlir"
    (line,) = [text for text in mlir.read_text().splitlines() if '"oneflow.input"' in text]
    name = re.search(r'op_name = "([^"]+)"', line)[1]
    other = line.replace(name, f"{name.rpartition('_')[0]}_99").replace(
        "shape = [1 : si64, 3 : si64", "shape = [1 : si64, 5 : si64"
    )
    edit(mlir, line, f"{line}\n{other}")
    return saved


@provokes("Names, types and dims do not fit the graph")
def _(small_version, two_inputs):
    graph, both = read_graph_folder(small_version / "model"), read_graph_folder(two_inputs)

    def refuse(text, graph=graph):
        config = as_triton_has_it(parse_config(text, "config.pbtxt"))
        return raised(GraphFolderError, backend_config.check_config, config, graph)

    def second(first, second):
        inputs = [
            f'{{ name: "INPUT_{i}" data_type: TYPE_FP32 dims: [ {n}, 64, 64 ] }}'
            for i, n in enumerate((first, second))
        ]
        return re.sub(r"^input.*$", f"input [ {', '.join(inputs)} ]", CONFIG, flags=re.M)

    edit(two_inputs / "model.mlir", "shape = [1 : si64, 5", "shape = [2 : si64, 5")
    unbatched = read_graph_folder(two_inputs)
    return [
        refuse(changed("INPUT_0", "image")),
        refuse(changed("TYPE_FP32", "TYPE_FP64")),
        refuse(changed("3, 64, 64", "3, 64, 65")),
        refuse(changed("3, 64, 64", "1, 3, 64, 64")),
        refuse(changed("max_batch_size: 1", "max_batch_size: 0")),
        refuse(second(5, 3), both),
        refuse(second(3, 5), unbatched),
        raised(ConfigError, config_for, two_inputs, name="small", max_batch_size=1),
    ]


@provokes("A tensor without dims")
def _(saved):
    mlir = saved / "model.mlir"
    (line,) = [text for text in mlir.read_text().splitlines() if '"oneflow.output"' in text]
    edit(mlir, line, re.sub(r"shape = \[[^\]]*\]", "shape = [1 : si64]", line))
    return raised(ConfigError, config_for, saved, name="small", max_batch_size=1)


def parameter(key, value):
    return f'parameters {{ key: "{key}" value: {{ string_value: "{value}" }} }}\n'


@provokes("A parameter of the backend")
def _():
    said = []
    for key, value in (("max_retrys", "1"), ("max_retries", "many")):
        config = parse_config(CONFIG + parameter(key, value), "config.pbtxt")
        read = backend_config.read_settings
        said.append(raised(GraphFolderError, read, as_triton_has_it(config)))
    return said


def nameless(old, new):
    """Return a changed configuration of a model that is called as its folder is."""
    return changed(old, new).replace('name: "small"\n', "")


#: What is done to a model before it is loaded.
BREAKS = {
    "typo": lambda model: model.write_config(nameless("max_batch_size", "max_batchsize")),
    "state dict": lambda model: (model.folder / "1" / "model" / "model.mlir").unlink(),
    "no version": lambda model: shutil.rmtree(model.folder / "1"),
    "gpu": lambda model: model.write_config(nameless("KIND_CPU", "KIND_GPU gpus: [ 0 ]")),
    "operator": lambda model: edit(
        model.folder / "1" / "model" / "model.mlir", '"oneflow.sigmoid"', '"oneflow.sigmoidal"'
    ),
    "ensemble": lambda model: model.write_config(
        'platform: "ensemble" max_batch_size: 1'
        + CONFIG.partition("max_batch_size: 1")[2].partition("instance_group")[0]
        + 'ensemble_scheduling { step [ { model_name: "nobody" model_version: -1'
        ' input_map { key: "INPUT_0" value: "INPUT_0" }'
        ' output_map { key: "OUTPUT_0" value: "OUTPUT_0" } } ] }'
    ),
}


@pytest.fixture(scope="module")
def broken(make_small_model, loading_server):
    """What the client and the log say of each broken model; they are loaded side by side."""

    def refuse(case):
        model = make_small_model()
        BREAKS[case](model)
        return raised(InferenceServerException, model.load)

    with ThreadPoolExecutor(3) as pool:
        said = list(pool.map(refuse, BREAKS))
    return {case: (text, loading_server.log()) for case, text in zip(BREAKS, said, strict=True)}


@provokes("Triton only says that it failed")
def _(broken):
    return [broken["typo"][0], broken["state dict"][0]]


@provokes("An ensemble with a step that is not there")
def _(broken):
    return broken["ensemble"][0]


@provokes("No version to serve")
def _(broken):
    return broken["no version"]


@provokes("A GPU that is not there")
def _(broken):
    return broken["gpu"]


@provokes("OneFlow will not load the graph")
def _(broken):
    return broken["operator"][0]


# --- Server -----------------------------------------------------------------------------------


@pytest.fixture
def empty(tmp_path):
    """An empty model repository, with which Triton is ready in no time."""
    folder = tmp_path / "empty models"
    folder.mkdir()
    return folder


def refuse_start(repository, **named):
    return raised(ServerError, TritonServer(repository, **named).start)


@provokes("Triton ended before it was ready")
def _(small_repository, empty):
    (small_repository / "small" / "1" / "model" / "model.mlir").unlink()
    return [refuse_start(small_repository), refuse_start(empty, options=["--no-such-option"])]


@provokes("Triton was not ready in time")
def _(small_repository):
    return refuse_start(small_repository, ready_timeout=0.1)


@provokes("A port is taken")
def _(empty, loading_server, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "SERVERS", tmp_path / "servers")
    with socket.socket() as other:
        other.bind((ports.HOST, 0))
        other.listen()
        taken = other.getsockname()[1]
        said = [
            refuse_start(empty, http_port=taken),
            refuse_start(empty, http_port=loading_server.ports[0]),
            refuse_start(empty, options=[f"--grpc-port={taken}"]),
        ]
    detached = TritonServer(empty, detached=True).start()
    try:
        (tmp_path / "others").mkdir()
        other = TritonServer(tmp_path / "others", detached=True, http_port=detached.ports[0])
        return [*said, raised(ServerError, other.start)]
    finally:
        detached.stop()


@provokes("A port or an address that cannot be")
def _(empty):
    return [refuse_start(empty, http_port=70000), refuse_start(empty, address="192.0.2.1")]


@provokes("There is no repository")
def _(tmp_path):
    return refuse_start(tmp_path / "nowhere")


@provokes("The server runs already")
def _(loading_server):
    return raised(ServerError, loading_server.start)


@provokes("A library is missing")
def _(tmp_path, monkeypatch):
    # Away from its package, the stub finds the libraries beside it no more.
    stub = Path(shutil.copy(embedded._stub(), tmp_path))
    python_only = embedded._library_path().rpartition(":")[2]
    with monkeypatch.context() as patch:
        patch.setattr(embedded, "_library_path", lambda: "/nowhere")
        said = [raised(ServerError, embedded.check_machine)]
    with monkeypatch.context() as patch:
        patch.setattr(embedded, "_stub", lambda: stub)
        patch.setattr(embedded, "_library_path", lambda: python_only)
        said.append(raised(ServerError, embedded.check_machine))
    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: None)
        return [*said, raised(ServerError, embedded.check_machine)]


@provokes("No room in shared memory")
def _(monkeypatch):
    usage = shutil.disk_usage("/dev/shm")._replace(free=3 << 20)
    monkeypatch.setattr(embedded.shutil, "disk_usage", lambda folder: usage)
    return raised(ServerError, embedded.check_machine)


@provokes("A space in the temporary folder")
def _(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "a space"))
    return raised(ServerError, runs.new_run_dir)


@provokes("escapes backend directory")
def _(small_repository, monkeypatch):
    def link(file, target):
        Path(target).symlink_to(file)

    copytree = functools.partial(shutil.copytree, copy_function=link)
    monkeypatch.setattr(embedded.shutil, "copytree", copytree)
    return refuse_start(small_repository)


@provokes("No Python for the worker")
def _(monkeypatch):
    monkeypatch.delenv("ONEFLOW_BACKEND_PYTHON", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "base_exec_prefix", "/nowhere")
    return raised(WorkerError, find_python)


@provokes("No such way to a server")
def _():
    return raised(ServerError, choose, "cloud")


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    """A server with nothing to serve, whose model control is closed."""
    with TritonServer(tmp_path_factory.mktemp("closed")) as server:
        yield server


@provokes("Loading models is closed")
def _(closed):
    with httpclient.InferenceServerClient(closed.url) as client:
        over_http = raised(InferenceServerException, client.load_model, "small")
    with grpcclient.InferenceServerClient(closed.grpc_url) as client:
        return [over_http, raised(InferenceServerException, client.load_model, "small")]


# --- Requests ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(make_small_model):
    """A small model that is loaded, and refuses what is not finite."""
    model = make_small_model()
    with (model.folder / "config.pbtxt").open("a") as config:
        config.write(parameter("reject_non_finite", "true"))
    model.load()
    return model


def send(model, array, *, name="INPUT_0", kind="FP32", wanted="OUTPUT_0", called=None, version=""):
    """Send one request."""
    with model.client() as client:
        tensor = httpclient.InferInput(name, array.shape, kind).set_data_from_numpy(array)
        outputs = [httpclient.InferRequestedOutput(wanted)]
        client.infer(called or model.name, [tensor], version, outputs=outputs)


def ask(model, array, **named):
    """Send a request that is refused; return the error's words."""
    return raised(InferenceServerException, send, model, array, **named)


@provokes("The shape is wrong")
def _(served, image):
    return [ask(served, image[:, :, :32]), ask(served, np.concatenate([image, image]))]


@provokes("The type is wrong")
def _(served, image):
    doubles = image.astype(np.float64)
    return [ask(served, doubles), ask(served, doubles, kind="FP64")]


@provokes("The name is wrong")
def _(served, make_small_model, image):
    gone = make_small_model()
    gone.write_config('backend: "oneflow"')
    gone.load()
    gone.unload()
    deadline = time.monotonic() + SECONDS
    while "no available versions" not in (last := ask(gone, image)):
        assert time.monotonic() < deadline, last
        time.sleep(0.05)
    return [
        ask(served, image, name="image"),
        ask(served, image, wanted="OUTPUT_1"),
        ask(served, image, called="fast_neural_stile"),
        ask(served, image, version="9"),
        last,
    ]


@provokes("The request is no JSON")
def _(served):
    host, port = served.server.url.split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=SECONDS)
    connection.request("POST", f"/v2/models/{served.name}/infer", '{"inputs": [')
    said = connection.getresponse().read().decode()
    connection.close()
    return json.loads(said)["error"]


@provokes("Values that are not numbers")
def _(served, image):
    return ask(served, np.full_like(image, np.nan))


@provokes("Nobody answers")
def _(image, served):
    (free,) = ports.free_ports((None,))
    url = f"{ports.HOST}:{free}"
    with httpclient.InferenceServerClient(url) as client:
        refused = raised(ConnectionRefusedError, client.is_server_live)
    with httpclient.InferenceServerClient(served.server.url, network_timeout=0.001) as client:
        tensor = httpclient.InferInput("INPUT_0", image.shape, "FP32").set_data_from_numpy(image)
        late = raised(TimeoutError, client.infer, served.name, [tensor])
    return [raised(ClientError, infer, image, url=url), refused, late]


@provokes("HTTP to the port of gRPC, or the other way")
def _(closed):
    with grpcclient.InferenceServerClient(closed.url) as client:
        over_grpc = raised(InferenceServerException, client.is_server_live)
    with httpclient.InferenceServerClient(closed.grpc_url) as client:
        over_http = raised(HTTPParseError, client.is_server_live)
    return [over_grpc, f"HTTPParseError: {over_http}"]


@provokes("The server refused")
def _(served, image):
    too_low = image[:, :, :32]
    return raised(ClientError, infer, too_low, model=served.name, url=served.server.url)


def wait_for_log(model, words):
    deadline = time.monotonic() + SECONDS
    while words not in model.server.log():
        assert time.monotonic() < deadline, words
        time.sleep(0.05)


@provokes("Stub process is not healthy")
def _(served, image):
    (worker,) = served.workers()
    stub = worker.parent()
    supervisor = psutil.Process(runs.supervisor_of(served.server.run_dir))
    supervisor.suspend()  # or it would mend it
    try:
        stub.kill()
        said = ask(served, image)
    finally:
        supervisor.resume()
    wait_for_log(served, f"supervisor: {served.name} is loaded again")
    return [said, served.server.log()]


@pytest.fixture(scope="module")
def poisonable(make_small_model):
    """A model that a request can end, and whose batches cannot be joined."""
    model = make_small_model()
    shutil.rmtree(model.folder / "1")
    export_version(Embedding().eval(), [np.array([[1, 2]])], model.folder / "1")
    settings = {"max_retries": "0", "batch_sizes": "2", "run_timeout_seconds": "2"}
    model.write_config(
        'backend: "oneflow"\nmax_batch_size: 2\n'
        + "".join(parameter(key, value) for key, value in settings.items())
    )
    model.load()
    return model


@provokes("Batches run row by row")
def _(poisonable):
    return poisonable.log()


@provokes("OneFlow's process died")
def _(poisonable):
    poisoned = ask(poisonable, np.array([[-1, 0]]), kind="INT64")
    good = np.array([[1, 2]])
    send(poisonable, good, kind="INT64")  # when it is answered, the next worker has loaded
    (worker,) = poisonable.workers()
    worker.suspend()
    return [poisonable.log(), poisoned, ask(poisonable, good, kind="INT64")]


@provokes("Triton does not change its log file")
def _(closed):
    said = []
    with httpclient.InferenceServerClient(closed.url) as client:
        for change, settings in (
            (client.update_log_settings, {"log_file": "/tmp/x"}),
            (lambda settings: client.update_trace_settings(settings=settings), {"trace_file": "x"}),
        ):
            said.append(raised(InferenceServerException, change, settings))
    return said


# --- Notebooks --------------------------------------------------------------------------------


@provokes("Not yet")
def _(capsys):
    exercises.check("99.1", None)
    return capsys.readouterr().out


@provokes("An earlier lesson is needed")
def _(tmp_path, monkeypatch):
    monkeypatch.setattr(lessons, "NOTEBOOKS", tmp_path)
    said = []
    for name, code in (("77_fail", "1 / 0"), ("78_do_nothing", "pass")):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
        nbformat.write(notebook, tmp_path / f"{name}.ipynb")
        said.append(raised(ServingKitError, lessons.made_by, name, tmp_path / "made"))
    return said


# --- Docker -----------------------------------------------------------------------------------


@provokes("Docker cannot be had")
def _(engine, monkeypatch):
    engine.set(info=docker_tests.DOWN)
    said = [choose().why, raised(ServerError, choose, "docker")]
    engine.script("docker", "#!/bin/sh\nexec sleep 5\n")
    with monkeypatch.context() as patch:
        patch.setattr(docker, "ASK_SECONDS", 0.1)
        said.append(choose().why)
    monkeypatch.setenv("PATH", "/nowhere")
    return [*said, choose().why]


@provokes("The image is not there")
def _(engine, empty):
    said = [refuse_start(empty, mode="docker")]
    engine.set(gpus=[docker_tests.T4], info=docker_tests.NVIDIA)
    answers = f"cat <<END\n{json.dumps(docker_tests.NVIDIA)}\nEND"
    engine.script("docker", f"#!/bin/sh\n[ $1 != pull ] || exit 1\n{answers}\n[ $1 != image ]\n")
    return [*said, refuse_start(empty, mode="docker", image="me/mine:1")]


@provokes("The image needs a GPU")
def _(engine):
    return raised(ServerError, choose, "docker", docker.ORIGINAL_IMAGE)


@provokes("A colon in the path")
def _(engine, tmp_path):
    engine.set(gpus=[docker_tests.T4], info=docker_tests.NVIDIA, images=[docker.ORIGINAL_IMAGE])
    (tmp_path / "a:b").mkdir()
    server = TritonServer(tmp_path / "a:b", mode="docker", image=docker.ORIGINAL_IMAGE)
    return raised(ServerError, server.command)


# --- Pictures, styles and the commands --------------------------------------------------------


@provokes("A picture cannot be read")
def _(tmp_path):
    import cv2

    _, floats = cv2.imencode(".tiff", np.ones((4, 4, 3), np.float32))
    _, png = cv2.imencode(".png", np.ones((4, 4, 3), np.uint8))
    header = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + png.tobytes()[24:29]
    huge = png.tobytes()[:12] + header + zlib.crc32(header).to_bytes(4, "big") + png.tobytes()[33:]
    (tmp_path / "text.jpg").write_text("no picture")
    command = (sys.executable, "-m", "serving_kit", "demo", "--image", tmp_path / "none.jpg")
    return [
        run(*command),
        raised(ImageError, read_image, tmp_path),
        raised(ImageError, read_image, tmp_path / "text.jpg"),
        raised(ImageError, decode_image, huge),
        raised(ImageError, decode_image, floats.tobytes()),
    ]


@provokes("A picture cannot be written")
def _(tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    paths = (tmp_path / "x.picture", tmp_path / "folder.jpg", tmp_path / "none" / "x.jpg")
    said = [raised(ImageError, check_writable, path) for path in paths]
    (tmp_path / "full.png").symlink_to("/dev/full")
    return [*said, raised(ImageError, write_image, tmp_path / "full.png", read_image(CAT))]


@provokes("A style that does not exist")
def _():
    return [raised(StyleError, style_index, style) for style in ("starry_nigt", 26)]
