"""A small model repository of a test's own, to be broken."""

import os
from pathlib import Path

import numpy as np
import pytest

from serving_kit.repository import check

#: One operator, shortened from what OneFlow 0.9.0 writes.
LINE = '    %x = "oneflow.{0}"(%a) {{data_type = {1} : i32, op_name = "{2}", shape = [{3}]}} : ()'
FLOAT32 = 2
PICTURE = (FLOAT32, (1, 3, 8, 8))

NET = """\
name: "net"
backend: "oneflow"
max_batch_size: 1

input [
  {
    name: "INPUT_0"
    data_type: TYPE_FP32
    dims: [ 3, 8, 8 ]
  }
]
output [
  {
    name: "OUTPUT_0"
    data_type: TYPE_FP32
    dims: [ 3, 8, 8 ]
  }
]

instance_group [ { kind: KIND_CPU } ]
"""
PY = """\
name: "py"
backend: "python"
max_batch_size: 1
input [ { name: "X" data_type: TYPE_FP32 dims: [ 3, 8, 8 ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ 3, 8, 8 ] } ]
"""
PY_SOURCE = "class TritonPythonModel:\n    def execute(self, requests):\n        pass\n"
CHAIN = """\
name: "chain"
platform: "ensemble"
max_batch_size: 1
input [ { name: "IN" data_type: TYPE_FP32 dims: [ 3, 8, 8 ] } ]
output [ { name: "OUT" data_type: TYPE_FP32 dims: [ 3, 8, 8 ] } ]
ensemble_scheduling {
  step [
    {
      model_name: "net"
      model_version: -1
      input_map { key: "INPUT_0" value: "IN" }
      output_map { key: "OUTPUT_0" value: "between" }
    },
    {
      model_name: "py"
      model_version: -1
      input_map { key: "X" value: "between" }
      output_map { key: "Y" value: "OUT" }
    }
  ]
}
"""


class Repository:
    """A model repository: ``repository / "net/1"`` is a path in it."""

    def __init__(self, path: Path):
        self.path = path

    def __truediv__(self, name):
        return self.path / name

    def write(self, name, text):
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def change(self, name, old, new, count=-1):
        file = self.path / name
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, count))

    def append(self, name, text):
        with (self.path / name).open("a") as file:
            file.write(text)

    def save_graph(self, name, inputs=(PICTURE,), outputs=(PICTURE,)):
        """Write what flow.save would: a graph's text, and one variable of two numbers."""
        lines = []
        for kind, tensors in (("input", inputs), ("output", outputs)):
            for i, (data_type, shape) in enumerate(tensors):
                sizes = ", ".join(f"{size} : si64" for size in shape)
                operator = f"_G_0_{kind}.0.{i}_{i + 2}"
                lines.append(LINE.format(kind, data_type, operator, sizes))
        lines.append(LINE.format("variable", FLOAT32, "w", "2 : si64"))
        self.write(f"{name}/model.mlir", "\n".join(["module {", *lines, "oneflow.return", "}"]))
        (self / name / "w").mkdir(exist_ok=True)
        np.zeros(2, np.float32).tofile(self / name / "w" / "out")
        return self / name

    def findings(self, *more, below="", severity="error"):
        """Check; return the findings as (code, file below the repository:line, message)."""
        findings = [f for f in check(self / below, *more) if f.severity == severity]
        assert not any("\n" in str(finding) for finding in findings)
        return [
            (
                finding.code,
                os.path.relpath(finding.file, self.path) + f":{finding.line}" * bool(finding.line),
                finding.message,
            )
            for finding in findings
        ]

    def has_one(self, code, place, *words, **options):
        """Assert that there is one finding, and what it says."""
        findings = self.findings(**options)
        assert [finding[:2] for finding in findings] == [(code, place)]
        assert all(word in findings[0][2] for word in words), findings[0][2]


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A healthy repository: a saved graph, and a python model. This machine has no GPU."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    repository = Repository(tmp_path / "models")
    repository.save_graph("net/1/model")
    repository.write("net/config.pbtxt", NET)
    repository.write("py/1/model.py", PY_SOURCE)
    repository.write("py/config.pbtxt", PY)
    return repository


@pytest.fixture
def chain(repository):
    """The repository with an ensemble of both its models."""
    repository.write("chain/config.pbtxt", CHAIN)
    (repository / "chain/1").mkdir()
    return repository


@pytest.fixture
def put_gpus(tmp_path):
    """Put a stand-in for nvidia-smi on the PATH that the repository's fixture has set."""

    def put_gpus(*lines):
        script = tmp_path / "bin" / "nvidia-smi"
        script.parent.mkdir()
        script.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
        script.chmod(0o755)

    return put_gpus
