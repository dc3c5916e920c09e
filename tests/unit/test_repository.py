"""Reading, writing and checking a model repository, each mistake of a learner by itself."""

import json
import os
import random
import shutil
import subprocess
import sys

import numpy as np
import pytest
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from serving_kit.errors import ConfigError
from serving_kit.paths import MODEL_REPOSITORY, ROOT
from serving_kit.repository.checks import check, has_errors, to_json, to_text
from serving_kit.repository.config import (
    CONFIG,
    CPU_CONFIG,
    config_for,
    read_config,
    write_config,
    write_configs,
)
from serving_kit.repository.config_text import field_lines, format_config, parse_config

STYLE = MODEL_REPOSITORY / "fast_neural_style"

# Shortened from what OneFlow 0.9.0 writes.
LINE = '    %x = "oneflow.{0}"(%a) {{data_type = {1} : i32, op_name = "{2}", shape = [{3}]}} : ()'
FLOAT32, INT64 = 2, 6
PICTURE = (FLOAT32, (1, 3, 8, 8))

PYTHON_MODEL = "class TritonPythonModel:\n    def execute(self, requests):\n        pass\n"
PYTHON_CONFIG = """\
name: "py"
backend: "python"
max_batch_size: 1
input [ { name: "X" data_type: TYPE_FP32 dims: [ 3, 8, 8 ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ 3, 8, 8 ] } ]
"""
ENSEMBLE_CONFIG = """\
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


def save_graph(folder, inputs=(PICTURE,), outputs=(PICTURE,)):
    """Write what flow.save would: a graph's text, and one variable of two numbers."""
    lines = []
    for kind, tensors in (("input", inputs), ("output", outputs)):
        for i, (data_type, shape) in enumerate(tensors):
            sizes = ", ".join(f"{size} : si64" for size in shape)
            lines.append(LINE.format(kind, data_type, f"_G_0_{kind}.0.{i}_{i + 2}", sizes))
    lines.append(LINE.format("variable", FLOAT32, "w", "2 : si64"))
    (folder / "w").mkdir(parents=True)
    np.zeros(2, np.float32).tofile(folder / "w" / "out")
    text = "\n".join(["module {", *lines, "oneflow.return", "}"])
    (folder / "model.mlir").write_text(text)
    return folder


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A healthy repository: a graph, a python model, an ensemble of both; and no GPU."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    repository = tmp_path / "models"
    save_graph(repository / "net" / "1" / "model")
    write_configs(repository / "net")
    python = repository / "py"
    (python / "1").mkdir(parents=True)
    (python / "1" / "model.py").write_text(PYTHON_MODEL)
    (python / CONFIG).write_text(PYTHON_CONFIG)
    (repository / "chain" / "1").mkdir(parents=True)
    (repository / "chain" / CONFIG).write_text(ENSEMBLE_CONFIG)
    return repository


def put_gpus(tmp_path, *lines):
    """Put a stand-in for nvidia-smi on the PATH that the repository's fixture has set."""
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "nvidia-smi"
    script.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
    script.chmod(0o755)


def change(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def cpu_only(repository):
    """Leave one configuration of "net", so that a mistake in it is told once."""
    model = repository / "net"
    shutil.move(model / CPU_CONFIG, model / CONFIG)
    (model / "configs").rmdir()
    return model / CONFIG


def found(repository, *more, severity="error"):
    """Check, and return the findings as (code, file below the repository:line, message)."""
    findings = [f for f in check(repository, *more) if f.severity == severity]
    for finding in findings:
        assert "\n" not in str(finding)
    return [
        (
            finding.code,
            os.path.relpath(finding.file, repository) + f":{finding.line}" * bool(finding.line),
            finding.message,
        )
        for finding in findings
    ]


def only(findings, code, place, *words):
    """Assert that there is one finding, and what it says."""
    assert [finding[:2] for finding in findings] == [(code, place)]
    for word in words:
        assert word in findings[0][2]


# --- reading and writing ------------------------------------------------------------------------


@pytest.mark.parametrize("variant", [CONFIG, CPU_CONFIG])
def test_the_committed_configurations_are_in_the_house_style(variant, tmp_path):
    write_config(read_config(STYLE / variant), tmp_path / "written")
    assert (tmp_path / "written").read_bytes() == (STYLE / variant).read_bytes()


def test_config_for_writes_what_is_committed(tmp_path):
    graph = save_graph(
        tmp_path / "fast_neural_style" / "1" / "model",
        inputs=[(FLOAT32, (1, 3, 256, 256))],
        outputs=[(FLOAT32, (1, 3, 256, 256))],
    )
    gpu, cpu = write_configs(graph.parents[1])
    assert gpu.read_bytes() == (STYLE / CONFIG).read_bytes()
    assert cpu.read_bytes() == (STYLE / CPU_CONFIG).read_bytes()


def test_config_for_graphs_without_a_batch(tmp_path):
    graph = save_graph(tmp_path / "g", [(INT64, (5,)), (FLOAT32, (4, 6))], [(FLOAT32, (1,))])
    config = config_for(graph, name="g", device="cpu")
    assert config.max_batch_size == 0
    assert [list(tensor.dims) for tensor in config.input] == [[5], [4, 6]]
    assert [tensor.name for tensor in config.input] == ["INPUT_0", "INPUT_1"]
    assert [list(tensor.dims) for tensor in config.output] == [[1]]
    assert config.instance_group[0].kind == ModelInstanceGroup.KIND_CPU
    with pytest.raises(ConfigError, match="without a batch of 1 in front; write max_batch_size: 0"):
        config_for(graph, name="g", max_batch_size=4)


def test_config_for_a_graph_without_dims(tmp_path):
    graph = save_graph(tmp_path / "g", outputs=[(FLOAT32, (1,))])
    with pytest.raises(ConfigError, match="OUTPUT_0 has no dims beside the batch, which Triton re"):
        config_for(graph, name="g", max_batch_size=4)


def test_config_for_a_folder_that_is_no_graph(tmp_path):
    with pytest.raises(ConfigError, match="is not a folder: expected the graph there; save it ag"):
        config_for(tmp_path / "nowhere", name="g")


EVERYTHING = """\
name: "e"
platform: "p"
max_batch_size: 0
version_policy { specific { versions: [ 1, 2 ] } }
input { name: "a \\"quoted\\" # no comment" dims: 1 dims: -1 reshape { } }
input < name: 'b' data_type: TYPE_STRING dims: [ 2 ] >
parameters [ { key: "z" value { string_value: "1" } }, { key: "a" value: { } } ]
parameters { key: "é" value { string_value: "2" } }
dynamic_batching { priority_queue_policy { key: 1 value { timeout_action: DELAY } } }
optimization { cuda { graphs: true graph_spec [ { batch_size: 1 }, { batch_size: 2 } ] } }
model_warmup { name: "w" inputs { key: "I" value { dims: 1 zero_data: false } } }
instance_group { rate_limiter { resources [ { name: "r" count: 4 } ] priority: 2 } }
"""


@pytest.mark.parametrize("text", [EVERYTHING, ENSEMBLE_CONFIG, PYTHON_CONFIG, 'backend: "x"'])
def test_what_is_written_says_the_same(text):
    config = parse_config(text, "x")
    written = format_config(config)
    assert parse_config(written, "y") == config
    assert format_config(parse_config(written, "y")) == written
    assert max(map(len, written.splitlines())) <= 100


def test_small_messages_are_written_on_one_line():
    text = format_config(parse_config(EVERYTHING, "x"))
    assert "\nversion_policy { specific { versions: [ 1, 2 ] } }\n" in text
    assert '\nparameters { key: "z" value: { string_value: "1" } }\n' in text
    assert format_config(parse_config(ENSEMBLE_CONFIG, "x")).endswith(
        '      input_map { key: "X" value: "between" }\n'
        '      output_map { key: "Y" value: "OUT" }\n    }\n  ]\n}\n'
    )


def test_comments_above_the_first_field_are_kept(tmp_path):
    file = tmp_path / CONFIG
    file.write_text("# mine\n\n# since May\n\nname: 'a'\n")
    write_config(ModelConfig(name="b"), file)
    assert file.read_text() == '# mine\n\n# since May\n\nname: "b"\nmax_batch_size: 0\n'


def test_a_file_with_other_comments_is_left_as_it_is(tmp_path):
    file = tmp_path / CONFIG
    file.write_text('name: "a # b"\nbackend: "x"  # because\n')
    with pytest.raises(ConfigError, match=r"config.pbtxt:2: has a comment here, which would be lo"):
        write_config(ModelConfig(name="b"), file)
    assert file.read_text() == 'name: "a # b"\nbackend: "x"  # because\n'


def test_writing_keeps_a_link_and_the_files_mode(tmp_path):
    (tmp_path / "real").write_text("")
    (tmp_path / "real").chmod(0o600)
    (tmp_path / CONFIG).symlink_to("real")
    write_config(ModelConfig(name="b"), tmp_path / CONFIG)
    assert (tmp_path / CONFIG).is_symlink()
    assert read_config(tmp_path / "real").name == "b"
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o600
    assert len(list(tmp_path.iterdir())) == 2


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot be written \(File exists\)"):
        write_config(ModelConfig(), tmp_path / "file" / CONFIG)
    (tmp_path / CONFIG).mkdir()
    with pytest.raises(ConfigError, match="this is not a file"):
        write_config(ModelConfig(), tmp_path / CONFIG)


@pytest.mark.parametrize(
    ("text", "line", "sentence"),
    [
        ('\nnam: "x"', 2, 'there is no field "nam" here; write "name"'),
        ("max_batchsize: 1", 1, 'there is no field "max_batchsize" here; write "max_batch_size"'),
        ("input [ {\n dim: [ 3 ] } ]", 2, 'there is no field "dim" here; write "dims"'),
        ("dims: [ 3 ]", 1, "it belongs inside of input or output: is a closing bracket too many"),
        ("input [ { output [", 1, "it belongs outside of all brackets: is a closing one missing"),
        ('parameters { key: "a" val: { } }', 1, 'write "value"'),
        ("input { data_type: TYPE_FLOAT32 }", 1, 'TYPE_FLOAT32 is no value of this field; write '),
        ("input { data_type: FP32 }", 1, 'write "TYPE_FP32"'),
        ("input { data_type: double }", 1, 'write "TYPE_FP64"'),
        ("instance_group { kind: gpu }", 1, 'write "KIND_GPU"'),
        ('name: "a"\nname: "b"', 2, "name is here for the second time; leave one of them"),
        ("dynamic_batching { }\nsequence_batching { }", 2, "and dynamic_batching exclude each oth"),
        ("input {\n  dims: [ 3, 256 256 ]\n}", 2, 'at column 18 (Expected ","); look here'),
        ("name: x", 1, "Expected string but found: 'x'"),
        ("max_batch_size: 99999999999", 1, "Value out of range"),
        ("input [ {", 1, 'Expected "}"'),
        ("\x00\x01", 1, "cannot be understood at column 1"),
    ],
)  # fmt: skip
def test_a_text_that_is_wrong(tmp_path, text, line, sentence):
    (tmp_path / CONFIG).write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_config(tmp_path / CONFIG)
    assert str(caught.value).startswith(f"{tmp_path / CONFIG}:{line}: ")
    assert caught.value.line == line
    assert sentence in caught.value.sentence
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text(tmp_path):
    file = tmp_path / CONFIG
    for data, sentence in (
        (b"\xef\xbb\xbfname", "starts with a byte-order mark, which Triton refuses"),
        ('name: "a"\n'.encode("utf-16"), "is not text in UTF-8; save it as UTF-8"),
        (bytes(2_000_000), "this has 2,000,000 bytes, far more than a configuration"),
    ):
        file.write_bytes(data)
        with pytest.raises(ConfigError, match=sentence):
            read_config(file)
    with pytest.raises(ConfigError, match=r"cannot be read \(No such file or directory\)"):
        read_config(tmp_path / "nowhere")


def test_the_line_of_every_field_is_known():
    lines = field_lines(EVERYTHING.replace(" } }\nmodel_warmup", " }\n}\nmodel_warmup"))
    assert lines["name", 0] == 1
    assert lines["input", 0, "dims", 1] == 5
    assert lines["input", 1, "data_type", 0] == 6
    assert lines["parameters", "a"] == 7
    assert lines["parameters", "é"] == 8
    assert lines["optimization", 0, "cuda", 0, "graph_spec", 1, "batch_size", 0] == 10
    assert lines["model_warmup", 0] == 12


def test_the_lines_of_a_text_that_parses_are_always_found():
    rng = random.Random(0)
    parsed = 0
    for _ in range(3000):
        text = list(rng.choice([EVERYTHING, ENSEMBLE_CONFIG]))
        for _ in range(rng.randint(1, 3)):
            text[rng.randrange(len(text))] = rng.choice(['"', "{", "}", "[", "]", ":", "#", " "])
        try:
            parse_config("".join(text), "x")
        except ConfigError:
            continue
        parsed += 1
        field_lines("".join(text))
    assert parsed > 100


# --- what is healthy ----------------------------------------------------------------------------


def test_a_healthy_repository_has_no_error(repository):
    assert found(repository) == []
    only(
        found(repository, severity="advice"),
        "kind-gpu",
        ".",
        "no GPU for net, so serve configs/cpu.pbtxt of each, with tritonserver --model-config-name",
    )


def test_on_a_machine_with_a_gpu_there_is_nothing_to_say(repository, tmp_path):
    put_gpus(tmp_path, "0, NVIDIA A10, 8.6")
    assert check(repository) == []


def test_the_committed_repository_is_healthy():
    assert [f for f in check(MODEL_REPOSITORY) if f.code not in ("no-version", "kind-gpu")] == []


@pytest.mark.parametrize(
    "harmless",
    ["configs", "warmup", "initial_state", ".1.partial-abc", "2"],
)
def test_folders_that_belong_there(repository, harmless):
    if harmless == "2":
        save_graph(repository / "net" / "2" / "model")
    else:
        (repository / "net" / harmless).mkdir(exist_ok=True)
    (repository / "README.md").write_text("a file beside the models does no harm")
    (repository / ".net.partial-abc").mkdir()
    assert found(repository) == []
    assert len(check(repository)) == 1


def test_what_triton_completes_may_be_left_out(repository):
    shutil.rmtree(repository / "net" / "configs")
    (repository / "net" / CONFIG).write_text('backend: "oneflow"\nmax_batch_size: 1\n')
    (repository / "py" / CONFIG).unlink()
    shutil.rmtree(repository / "chain")
    shutil.copytree(repository / "net", repository / "other.oneflow")
    (repository / "other.oneflow" / CONFIG).unlink()
    assert check(repository) == []


# --- one mistake each ---------------------------------------------------------------------------


def test_name_and_folder_differ(repository):
    (repository / "py").rename(repository / "python_model")
    change(repository / "chain" / CONFIG, '"py"', '"python_model"')
    only(
        found(repository),
        "name",
        "python_model/config.pbtxt:1",
        'the name is "py", but the folder is called "python_model", and both must be the same',
    )


def test_an_unknown_field(repository):
    change(repository / "py" / CONFIG, "max_batch_size", "max_batchsize")
    only(
        found(repository),
        "config-unreadable",
        "py/config.pbtxt:3",
        'there is no field "max_batchsize" here; write "max_batch_size"',
    )


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('backend: "oneflow"\n', "", 'the backend is missing (there is none); for a saved OneFlow'),
        ('"oneflow"', '"onflow"', 'which have oneflow and python; write "oneflow"'),
        ('"oneflow"', '"OneFlow"', 'no backend "OneFlow" in the kit\'s servers'),
        ('"oneflow"', '"onnxruntime"', "write one of oneflow, python"),
        ("backend:", "platform:", 'missing (platform: "oneflow" names none)'),
    ],
)  # fmt: skip
def test_a_backend_that_is_missing_or_wrong(repository, old, new, sentence):
    shutil.rmtree(repository / "chain")
    change(cpu_only(repository), old, new)
    line = ":2" * ('oneflow"\n' not in old)
    only(found(repository), "backend", f"net/config.pbtxt{line}", sentence)


def test_names_that_the_graph_does_not_have(repository):
    shutil.rmtree(repository / "chain")
    change(cpu_only(repository), "INPUT_0", "input_0")
    only(
        found(repository),
        "tensor-name",
        "net/config.pbtxt:7",
        "names the inputs input_0, but the graph has INPUT_0; write these names",
    )


def test_names_in_the_wrong_order(repository):
    other = (INT64, (1, 5))
    shutil.rmtree(repository / "net")
    save_graph(repository / "net" / "1" / "model", inputs=[PICTURE, other])
    write_configs(repository / "net")
    config = cpu_only(repository)
    for old, new in (("INPUT_0", "INPUT_x"), ("INPUT_1", "INPUT_0"), ("INPUT_x", "INPUT_1")):
        change(config, old, new)
    shutil.rmtree(repository / "chain")
    only(
        found(repository),
        "tensor-order",
        "net/config.pbtxt:12",
        "INPUT_0 and INPUT_1 have each other's type and dims; inputs are numbered in the graph's",
    )


def test_the_batch_in_dims(repository):
    shutil.rmtree(repository / "chain")
    config = cpu_only(repository)
    text = config.read_text().replace("[ 3, 8, 8 ]", "[ 1, 3, 8, 8 ]", 1)
    config.write_text(text)
    only(
        found(repository),
        "tensor-batch",
        "net/config.pbtxt:9",
        "INPUT_0 has dims [1, 3, 8, 8], but the graph has [3, 8, 8] (without the batch, which Tri",
    )


def test_a_graph_without_a_batch_and_max_batch_size(repository):
    shutil.rmtree(repository / "net")
    save_graph(repository / "net" / "1" / "model", inputs=[(FLOAT32, (2, 3, 8, 8))])
    (repository / "net" / CONFIG).write_text('backend: "oneflow"\nmax_batch_size: 1')
    shutil.rmtree(repository / "chain")
    only(found(repository), "tensor-batch", "net/config.pbtxt", "without a batch of 1 in front")


@pytest.mark.parametrize(
    ("old", "new", "code", "line", "sentence"),
    [
        ("FP32", "UINT8", "tensor-data-type", 8, "is TYPE_UINT8, but the graph has TYPE_FP32"),
        ("3, 8, 8", "3, 8, 9", "tensor-dims", 9, "has dims [3, 8, 9], but the graph has [3, 8, 8]"),
        ("3, 8, 8", "3, -1, -1", "tensor-dims", 9, "has dims [3, -1, -1], but the graph has"),
        ("3, 8, 8", "3, 0, 8", "tensor-dims", 9, "[3, 0, 8], but each must be 1 or more, or -1"),
        ("    dims: [ 3, 8, 8 ]\n", "", "tensor-dims", 6, "INPUT_0 has no dims; write its shape"),
        ("    data_type: TYPE_FP32\n", "", "tensor-data-type", 6, "INPUT_0 has no data_type"),
    ],
)  # fmt: skip
def test_types_and_dims_that_differ_from_the_graph(repository, old, new, code, line, sentence):
    shutil.rmtree(repository / "chain")
    config = cpu_only(repository)
    config.write_text(config.read_text().replace(old, new, 1))
    only(found(repository), code, f"net/config.pbtxt:{line}", sentence)


def test_dims_that_triton_does_not_have(repository):
    shutil.rmtree(repository / "net")
    save_graph(repository / "net" / "1" / "model", outputs=[(FLOAT32, (1,))])
    (repository / "net" / CONFIG).write_text('backend: "oneflow"\nmax_batch_size: 1')
    shutil.rmtree(repository / "chain")
    only(found(repository), "tensor-dims", "net/config.pbtxt:2", "OUTPUT_0 has no dims beside the")


def test_a_tensor_twice_or_without_a_name(repository):
    config = repository / "py" / CONFIG
    change(config, "input [", 'input [ { name: "X" data_type: TYPE_FP32 dims: [ 3, 8, 8 ] },')
    only(found(repository, severity="advice")[:1], "tensor-name", "py/config.pbtxt:4", "X is here")
    change(config, 'input [ { name: "X"', "input [ {")
    only(found(repository), "tensor-name", "py/config.pbtxt:4", "this input has no name; give it")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("v1", "a version's folder is called by a number without leading zeros, as 1, but here is"),
        ("01", "but here is 01; rename it"),
        ("latest", "but here is latest"),
    ],
)
def test_a_version_that_is_no_number(repository, name, sentence):
    (repository / "py" / "1").rename(repository / "py" / name)
    only(found(repository), "no-version", "py", sentence)


def test_a_version_beside_another_that_is_no_number(repository):
    shutil.copytree(repository / "py" / "1", repository / "py" / "best")
    assert found(repository) == []
    only(
        found(repository, severity="advice")[:1],
        "version-name",
        "py/best",
        'is "best" meant to be one?',
    )


@pytest.mark.parametrize("name", ["1.0", "1_old", "+1", "-1"])
def test_a_version_that_only_begins_with_a_number(repository, name):
    (repository / "py" / "1").rename(repository / "py" / name)
    only(found(repository), "version-name", f"py/{name}", "takes the folder", "call it 1, or move")


def test_a_copy_that_triton_takes_for_the_newest_version(repository):
    shutil.copytree(repository / "py" / "1", repository / "py" / "2_old")
    only(found(repository), "version-name", "py/2_old", "for version 2, by the number at its begin")


def test_a_version_beyond_64_bits(repository):
    (repository / "py" / str(2**63)).mkdir()
    only(found(repository), "version-name", f"py/{2**63}", "which ends Triton itself; rename the")


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("net", "the saved graph belongs into 1/model; export it (make models)"),
        ("py", "expected a folder 1 with the model in it"),
        (
            "chain",
            "an ensemble needs a version folder too, though an empty one; make 1/ with a fil",
        ),
    ],
)
def test_no_version(repository, model, sentence):
    shutil.rmtree(repository / model / "1")
    only(found(repository), "no-version", model, sentence)


def test_a_version_that_is_a_file(repository):
    shutil.rmtree(repository / "py" / "1")
    (repository / "py" / "1").write_text("")
    only(found(repository), "no-version", "py", "1 is a file, but a version is a folder")


@pytest.mark.parametrize(
    ("policy", "severity", "sentence"),
    [
        ("specific { versions: [ 2 ] }", "error", "names version 2, but the model's folder has 1"),
        ("specific { versions: [ 1, 3 ] }", "advice", "names version 3, but the model's folder"),
        ("latest { num_versions: 0 }", "error", "serves no version, but the model's folder has 1"),
    ],
)
def test_a_version_policy_without_its_versions(repository, policy, severity, sentence):
    with (repository / "py" / CONFIG).open("a") as file:
        file.write(f"version_policy {{ {policy} }}\n")
    findings = found(repository, severity=severity)[:1]
    only(findings, "version-policy", "py/config.pbtxt:6", sentence)


def damage_missing(graph):
    shutil.rmtree(graph)


def damage_nested(graph):
    graph.rename(graph.parent / "inner")
    graph.mkdir()
    (graph.parent / "inner").rename(graph / "model")


def damage_too_high(graph):
    for entry in graph.iterdir():
        entry.rename(graph.parent / entry.name)
    graph.rmdir()


def damage_half_copied(graph):
    (graph / "w" / "out").write_bytes(b"1234")


def damage_weights_missing(graph):
    (graph / "w" / "out").unlink()


def damage_mlir_cut_off(graph):
    text = (graph / "model.mlir").read_text()
    (graph / "model.mlir").write_text(text[:-20])


def damage_mlir_huge(graph):
    with (graph / "model.mlir").open("ab") as file:
        file.truncate(10**12)  # takes no room on the disk


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (
            damage_missing,
            "is not a folder: expected the graph there; save it again with flow.save(",
        ),
        (damage_nested, "the graph was saved one folder too deep; move it up"),
        (damage_too_high, "the graph was saved one folder too high; save it with flow.save(graph,"),
        (damage_half_copied, "w/out has 4 bytes, but float32 [2] needs 8; copy the folder again"),
        (damage_weights_missing, "w/out is missing: the graph has a variable w, float32 [2]; copy"),
        (damage_mlir_cut_off, "ends too early (half copied?); copy or save it again"),
        (damage_mlir_huge, "has 1,000,000,000,000 bytes, which no graph's text has; save it again"),
    ],
)
def test_a_graph_that_is_not_whole(repository, damage, sentence):
    damage(repository / "net" / "1" / "model")
    only(found(repository), "graph-folder", "net/1/model", sentence)


def test_a_graph_that_is_not_whole_but_not_served_either(repository):
    save_graph(repository / "net" / "2" / "model")
    damage_half_copied(repository / "net" / "1" / "model")
    assert found(repository) == []
    only(found(repository, severity="advice")[:1], "graph-folder", "net/1/model", "has 4 bytes")


@pytest.mark.parametrize(
    "left",
    [
        ".ipynb_checkpoints/",
        "1/.ipynb_checkpoints/",
        "configs/.ipynb_checkpoints/",
        "config.pbtxt~",
        "config.pbtxt.bak",
        ".config.pbtxt.swp",
        "config.pbtxt.orig",
        "config (copy).pbtxt",
        "configs/cpu.pbtxt~",
        "configs/cpu-checkpoint.pbtxt",
        "config - Copy.pbtxt",
        "#config.pbtxt#",
        "1/model~",
    ],
)
def test_what_editors_leave(repository, left):
    place = repository / "net" / left
    if left.endswith("/"):
        place.mkdir()
    else:
        place.write_text("whatever")
    assert found(repository) == []
    findings = found(repository, severity="advice")[:1]
    only(findings, "left-over", f"net/{left.rstrip('/')}", "Triton does not need", left.rstrip("/"))


def test_many_left_overs_are_one_advice(repository):
    for i in range(20):
        (repository / "net" / f"{i}.bak").write_text("")
    findings = found(repository, severity="advice")
    only(findings[:1], "left-over", "net/0.bak", "need 0.bak, 1.bak, 10.bak and 17 more, which")
    assert len(findings) == 2


@pytest.mark.parametrize("name", [".ipynb_checkpoints", ".git", "notes"])
def test_a_folder_that_triton_takes_for_a_model(repository, name):
    (repository / name).mkdir()
    ((finding),) = found(repository)
    assert finding[0] in ("left-over", "no-model")
    assert finding[1] == name
    assert "for a model" in finding[2]


def test_kind_gpu_without_a_gpu(repository):
    (repository / "net" / CPU_CONFIG).unlink()
    only(
        found(repository),
        "kind-gpu",
        "net/config.pbtxt:23",
        "kind: KIND_GPU, but this machine has no GPU (nvidia-smi lists none); write kind: KIND_CPU",
    )


def test_kind_gpu_in_the_configuration_for_the_cpu(repository):
    shutil.copy(repository / "net" / CONFIG, repository / "net" / CPU_CONFIG)
    assert [finding[1] for finding in found(repository)] == [
        "net/config.pbtxt:23",
        "net/configs/cpu.pbtxt:23",
    ]


def test_kind_gpu_on_a_gpu_that_oneflow_has_no_kernels_for(repository, tmp_path):
    put_gpus(tmp_path, "0, NVIDIA H100, 9.0")
    (repository / "net" / CPU_CONFIG).unlink()
    (finding,) = found(repository)
    assert (
        "OneFlow 0.9.0 has no kernels for GPU 0 (NVIDIA H100, compute capability 9.0)" in finding[2]
    )
    with (repository / "py" / CONFIG).open("a") as file:
        file.write("instance_group { kind: KIND_GPU }\n")
    assert found(repository) == [finding]  # Python runs beside any GPU


def test_a_gpu_that_does_not_exist(repository, tmp_path):
    put_gpus(tmp_path, "0, NVIDIA A10, 8.6", "1, NVIDIA H100, 9.0")
    for index, sentence in (
        (5, "there is no GPU 5 here"),
        (1, "no GPU 1 here that the backend on"),
    ):
        change(repository / "net" / CONFIG, "gpus: [ 0 ]", f"gpus: [ {index} ]")
        (finding,) = found(repository)
        assert finding[:2] == ("gpus", "net/config.pbtxt:24")
        assert sentence in finding[2]
        assert "GPU 0 (NVIDIA A10, compute capability 8.6); write gpus: [ 0 ]" in finding[2]
        change(repository / "net" / CONFIG, f"gpus: [ {index} ]", "gpus: [ 0 ]")


@pytest.mark.parametrize(
    ("group", "sentence"),
    [
        (
            "kind: KIND_CPU\n gpus: [ 0 ]",
            "gpus: [0] is only for kind: KIND_GPU, and this is KIND_C",
        ),
        ("kind: KIND_MODEL\n gpus: [ 0 ]", "and this is KIND_MODEL; leave gpus out"),
        ("count: 1\n gpus: [ 0 ]", "this is KIND_CPU on a machine without a usable GPU"),
        ("kind: KIND_GPU\n gpus: [ -1 ]", "GPUs are counted from 0; write gpus: [ 0 ]"),
    ],
)
def test_gpus_that_do_not_fit_the_kind(repository, group, sentence):
    with (repository / "py" / CONFIG).open("a") as file:
        file.write(f"instance_group {{ {group} }}\n")
    only(found(repository), "gpus", "py/config.pbtxt:7", sentence)


def test_numbers_that_stand_for_no_name(repository):
    config = repository / "py" / CONFIG
    with config.open("a") as file:
        file.write("instance_group { kind: 99 }\n")
    only(found(repository), "kind", "py/config.pbtxt:6", "no kind 99; write KIND_CPU or KIND_GPU")
    config.write_text(PYTHON_CONFIG.replace("TYPE_FP32", "99"))
    advice = found(repository, severity="advice")
    assert advice[0][0] == "tensor-data-type" and "X has the data_type 99" in advice[0][2]


def test_an_empty_version_policy_serves_all_versions(repository):
    with (repository / "py" / CONFIG).open("a") as file:
        file.write("version_policy { }\n")
    (repository / "py" / "2").mkdir()
    only(found(repository), "python-model", "py/2/model.py", "is missing")
    shutil.copytree(repository / "py" / "1", repository / "py" / "3")
    only(found(repository), "python-model", "py/2/model.py", "is missing")


def test_batches(repository):
    config = repository / "py" / CONFIG
    with config.open("a") as file:
        file.write("dynamic_batching { preferred_batch_size: [ 1, 4 ] }\n")
    place = "py/config.pbtxt:6"
    only(found(repository), "preferred-batch-size", place, "4 must be from 1 to max_batch_size, wh")
    only(found(repository, severity="advice")[:1], "dynamic-batching", place, "joins nothing while")
    change(config, "max_batch_size: 1", "max_batch_size: -1")
    only(found(repository)[:1], "max-batch-size", "py/config.pbtxt:3", "write 0 for no batches")


def test_labels_that_are_missing(repository):
    change(repository / "py" / CONFIG, 'name: "Y"', 'name: "Y" label_filename: "labels.txt"')
    only(found(repository), "label-file", "py/config.pbtxt:5", "labels in labels.txt, which is not")


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        (
            "batch_sizes",
            "8",
            'batch_sizes is "8", but must be numbers from 2 to max_batch_size (1)',
        ),
        ("max_retrys", "2", "parameter max_retrys is unknown; the backend has: max_retries"),
        ("run_timeout_seconds", "soon", "must be a number of seconds above 0"),
    ],
)
def test_parameters_of_the_backend(repository, key, value, sentence):
    with cpu_only(repository).open("a") as file:
        file.write(
            'parameters { key: "max_retries" value: { string_value: "1" } }\n'
            f'parameters {{ key: "{key}" value: {{ string_value: "{value}" }} }}\n'
        )
    only(found(repository), "parameter", "net/config.pbtxt:27", sentence)


def test_configurations_of_one_model_that_differ(repository):
    change(repository / "net" / CPU_CONFIG, "max_batch_size: 1", "max_batch_size: 2")
    assert found(repository) == []
    only(
        found(repository, severity="advice")[:1],
        "variants-differ",
        "net/configs/cpu.pbtxt:3",
        "max_batch_size differ from config.pbtxt, so the model is another one with configs/cpu.pb",
    )


@pytest.mark.parametrize(
    "name", ["Config.pbtxt", "config.pbtx", "config.pbtxt.txt", "conf.pbtxt", "config (copy).pbtxt"]
)
def test_a_misspelt_config(repository, name):
    (repository / "net" / CONFIG).rename(repository / "net" / name)
    shutil.rmtree(repository / "net" / "configs")
    shutil.rmtree(repository / "chain")
    only(
        found(repository),
        "config-misspelt",
        f"net/{name}",
        f"Triton reads config.pbtxt, which is not there, and not {name}; rename it",
    )


def test_a_missing_config(repository):
    (repository / "net" / CONFIG).unlink()
    place = "net/config.pbtxt"
    only(found(repository), "config-missing", place, "serves only where --model-config-name=cpu")
    shutil.rmtree(repository / "net" / "configs")
    shutil.rmtree(repository / "chain")
    only(found(repository), "config-missing", place, 'a file with one line, backend: "oneflow"')


def test_no_repository(repository):
    only(found(repository / "nowhere"), "no-repository", ".", "is not a folder; expected a model")
    (repository.parent / "empty").mkdir()
    only(
        found(repository.parent / "empty"), "no-model", ".", "has no model in it; expected <model>"
    )


def test_a_folder_too_low_or_too_high(repository):
    only(
        found(repository / "net"),
        "repository-is-model",
        ".",
        f'and Triton wants the folder around it; give it "{repository}"',
    )
    only(found(repository.parent), "repository-inside", "models", "is a model repository itself")


def test_two_models_of_one_name(repository, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(repository / "py", other / "py")
    findings = found(repository, other)
    only(
        findings, "name-twice", "../other/py", f"{repository}/py has the same name, and Triton ser"
    )


def test_a_space_in_a_name(repository):
    (repository / "py").rename(repository / "py two")
    change(repository / "py two" / CONFIG, '"py"', '"py two"')
    change(repository / "chain" / CONFIG, '"py"', '"py two"')
    only(found(repository), "space-in-name", "py two", "waits for ever", 'to "py_two" for example')


def test_broken_links(repository):
    (repository / "lost").symlink_to("nowhere")
    only(found(repository), "broken-link", "lost", "refuses a whole repository with such a link")
    (repository / "lost").rename(repository / "py" / "lost")
    only(found(repository), "broken-link", "py/lost", "Triton refuses a model with such a link")


@pytest.mark.parametrize(
    ("source", "place", "sentence"),
    [
        (None, "py/1/model.py", "is missing, over which Triton's python backend waits for ever"),
        ("def f(:\n", "py/1/model.py:1", "is not Python: invalid syntax; mend this line"),
        ("class Model: pass\n", "py/1/model.py", "has no class TritonPythonModel, which Triton lo"),
        ("\0", "py/1/model.py", "is not Python (source code string cannot contain null bytes)"),
        ("(" * 10_000, "py/1/model.py:1", "is not Python"),
    ],
)
def test_a_python_model(repository, source, place, sentence):
    if source is None:
        (repository / "py" / "1" / "model.py").unlink()
    else:
        (repository / "py" / "1" / "model.py").write_text(source)
    only(found(repository), "python-model", place, sentence)


# --- ensembles ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "code", "line", "sentence"),
    [
        ('platform: "ensemble"', 'backend: "ensemble"', "platform", 2, 'has platform: "ensem'),
        ('platform: "ensemble"\n', "", "platform", 5, "an ensemble has platform"),
        ('"net"', '"nett"', "model", 9, 'there is no model "nett" in the repository; write "net"'),
        ('"net"', '"chain"', "model", 9, 'the step "chain" is, or leads to, this ensemble again'),
        ('"net"\n      model_version: -1', '"net"', "version", 8, "wants version 0 of net"),
        ('"net"\n      model_version: -1', '"net"\n  model_version: 3', "version", 10, "version 3"),
        ("INPUT_0", "INPUT_1", "tensor", 11, 'net has no input "INPUT_1"; write "INPUT_0"'),
        ("OUTPUT_0", "OUTPUT_1", "tensor", 12, 'net has no output "OUTPUT_1"; write "OUTPUT_0"'),
        ('"X" value: "between"', '"X" value: "betwen"', "tensor", 17, '; write "between"'),
        ('value: "OUT"', 'value: "OUTT"', "tensor", 5, 'no step writes the output "OUT"; name it'),
        ('value: "IN"', 'value: "OUT"', "tensor", None, 'no step reads the input "IN"'),
        ('input_map { key: "INPUT_0" value: "IN" }', "", "step", 8, "step 1 has no input_map"),
        ('output_map { key: "OUTPUT_0" value: "between" }', "", "step", 8, "step 1 has no output_"),
        ('model_name: "net"', "", "step", 8, "step 1 has no model_name, which every step needs"),
        ('"IN" data_type: TYPE_FP32', '"IN" data_type: TYPE_UINT8', "fit", 11,
         '"IN" is TYPE_UINT8 [-1, 3, 8, 8] in chain, but TYPE_FP32 [-1, 3, 8, 8] in net'),
        ('"OUT" data_type: TYPE_FP32 dims: [ 3, 8, 8 ]',
         '"OUT" data_type: TYPE_FP32 dims: [ 8, 8 ]', "fit", 18, 'the tensor "OUT" is TYPE_FP32'),
        ("max_batch_size: 1\n", "max_batch_size: 2\n", "batch", 3, "size is 2, but net takes"),
        ("max_batch_size: 1\n", "instance_group { kind: KIND_CPU }\n", "field", 3,
         "instance_group is not for an ensemble, which runs nowhere itself"),
    ],
)  # fmt: skip
def test_an_ensemble(repository, old, new, code, line, sentence):
    change(repository / "chain" / CONFIG, old, new)
    findings = found(repository)
    assert findings[0][0] == f"ensemble-{code}"
    assert line is None or findings[0][1] == f"chain/config.pbtxt:{line}"
    assert sentence in findings[0][2]


def test_an_ensemble_without_steps(repository):
    text = ENSEMBLE_CONFIG[: ENSEMBLE_CONFIG.index("  step")] + "}\n"
    (repository / "chain" / CONFIG).write_text(text)
    only(
        found(repository), "ensemble-step", "chain/config.pbtxt:6", "needs ensemble_scheduling { s"
    )


def test_a_tensor_of_an_ensemble_that_is_written_twice_or_not_used(repository):
    config = repository / "chain" / CONFIG
    change(config, 'key: "Y" value: "OUT"', 'key: "Y" value: "between"')
    assert 'the tensor "between" comes from step 1 already' in found(repository)[0][2]
    config.write_text(ENSEMBLE_CONFIG.replace('"X" value: "between"', '"X" value: "IN"'))
    only(
        found(repository),
        "ensemble-tensor",
        "chain/config.pbtxt:12",
        'the tensor "between" is used by no step and is no output of the ensemble',
    )


def test_steps_that_wait_for_each_other(repository):
    config = repository / "chain" / CONFIG
    change(
        config,
        'input_map { key: "INPUT_0" value: "IN" }',
        'input_map { key: "INPUT_0" value: "OUT" }',
    )
    assert "the step net waits for what comes after it; break the circle" in found(repository)[1][2]


def test_an_input_that_a_step_leaves_out(repository):
    change(
        repository / "py" / CONFIG, "input [", 'input [ { name: "Z" data_type: TYPE_FP32 dims: 1 },'
    )
    only(
        found(repository),
        "ensemble-tensor",
        "chain/config.pbtxt:14",
        'leaves out the input "Z" of py; add input_map { key: "Z" value: "..." }',
    )
    change(repository / "py" / CONFIG, 'name: "Z"', 'name: "Z" optional: true')
    assert found(repository) == []


@pytest.mark.parametrize(
    "dims", [("max_batch_size: 0", "[ 3, 8, 8 ]"), ("max_batch_size: 0", "[ 1, 3, 8, 8 ]"),
             ("max_batch_size: 1", "[ 3, -1, -1 ]")]
)  # fmt: skip
def test_shapes_that_triton_lets_pass(repository, dims):
    text = ENSEMBLE_CONFIG.replace("max_batch_size: 1", dims[0]).replace("[ 3, 8, 8 ]", dims[1])
    (repository / "chain" / CONFIG).write_text(text)
    assert found(repository) == []


def test_an_ensemble_over_two_repositories(repository, tmp_path):
    (tmp_path / "other").mkdir()
    (repository / "py").rename(tmp_path / "other" / "py")
    assert not has_errors(check(repository, tmp_path / "other"))
    assert has_errors(check(repository))


# --- hostile trees ------------------------------------------------------------------------------


def make_fifo(place):
    os.mkfifo(place)


def make_folder(place):
    place.mkdir()


def make_garbage(place):
    place.write_bytes(random.Random(0).randbytes(100_000))


def make_huge(place):
    with place.open("wb") as file:
        file.truncate(10**12)


def make_link_loop(place):
    place.symlink_to(place.name)


def make_link_to_itself(place):
    place.symlink_to(place.parent, target_is_directory=True)


def make_endless(place):
    place.symlink_to("/dev/zero")


def make_unreadable(place):
    place.symlink_to("/proc/self/mem")  # reading it fails, for root too


@pytest.mark.parametrize(
    "make",
    [
        make_fifo,
        make_folder,
        make_garbage,
        make_huge,
        make_link_loop,
        make_link_to_itself,
        make_endless,
        make_unreadable,
    ],
)
@pytest.mark.parametrize(
    "place",
    [
        "strange",
        "net",
        "net/config.pbtxt",
        "net/configs",
        "net/configs/cpu.pbtxt",
        "net/1",
        "net/1/model",
        "net/1/model/model.mlir",
        "net/1/model/w/out",
        "py/1/model.py",
    ],
)
def test_strange_things_are_found_and_never_raise(repository, make, place):
    place = repository / place
    if place.is_dir():
        shutil.rmtree(place)
    elif place.exists():
        place.unlink()
    make(place)
    findings = check(repository)
    json.loads(to_json(findings))
    to_text(findings).encode()
    harmless = place.name == "strange" and make in (make_fifo, make_garbage, make_huge)
    harmless |= place.name == "strange" and make in (make_endless, make_unreadable)
    harmless |= place.name == "configs"
    assert harmless or has_errors(findings)


def test_names_that_cannot_be_printed(repository):
    strange = os.fsdecode(bytes(repository) + b"/\xff\n\x1b[31m")
    os.mkdir(strange)  # noqa: PTH102
    text = to_text(check(repository))
    text.encode()
    assert r"\udcff\n\x1b[31m" in text
    assert len(text.splitlines()) == 4  # two errors, one advice, their number


def test_folders_that_may_not_be_read(repository, tmp_path):
    """Root may read everything, so the check runs as another user there."""
    for folder in (repository / "net", repository / "py" / "1"):
        folder.chmod(0)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_mode & 0o077 == 0:
            folder.chmod(0o755)
    me = os.geteuid()
    if me == 0:
        os.seteuid(65534)
    try:
        findings = check(repository)
    finally:
        if me == 0:
            os.seteuid(0)
        for folder in (repository / "net", repository / "py" / "1"):
            folder.chmod(0o755)
    assert {f.file.name for f in findings if "Permission denied" in f.message} == {
        "net",
        "1",
    }


def test_a_deep_and_a_wide_tree(repository):
    deep = repository / "net" / "1" / "model"
    for _ in range(300):
        deep = deep / "d"
    deep.mkdir(parents=True)
    wide = repository / "py" / "1"
    for i in range(12_000):
        (wide / f"{i}").touch()
    assert found(repository) == []


# --- how findings are shown ---------------------------------------------------------------------


def test_findings_as_text_and_json(repository, monkeypatch):
    change(repository / "py" / CONFIG, "max_batch_size", "max_batchsize")
    monkeypatch.chdir(repository.parent)
    findings = check("models")
    assert to_text(findings).splitlines() == [
        'error   models/py/config.pbtxt:3  there is no field "max_batchsize" here; write '
        '"max_batch_size"',
        "advice  models  this machine has no GPU for net, so serve configs/cpu.pbtxt of each, with "
        "tritonserver --model-config-name=cpu (make serve does it)",
        "1 error, 1 piece of advice",
    ]
    answer = json.loads(to_json(findings))
    assert (answer["errors"], answer["advice"]) == (1, 1)
    assert answer["findings"][0] == {
        "severity": "error",
        "code": "config-unreadable",
        "file": "models/py/config.pbtxt",
        "line": 3,
        "message": 'there is no field "max_batchsize" here; write "max_batch_size"',
        "model": "py",
    }
    assert to_text([]) == "no mistakes found"


def test_the_check_does_not_import_oneflow():
    script = (
        "import sys; from serving_kit.repository.checks import check; check('model_repository'); "
        "sys.exit('oneflow' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, timeout=60)
