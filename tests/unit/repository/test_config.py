"""Reading and writing config.pbtxt, and making the one of a saved graph."""

import random

import pytest
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from serving_kit.errors import ConfigError
from serving_kit.paths import MODEL_REPOSITORY
from serving_kit.repository import config_for, read_config, write_config, write_configs
from serving_kit.repository.config_text import field_lines, format_config, parse_config

COMMITTED = sorted(MODEL_REPOSITORY.rglob("*.pbtxt"))
FLOAT32, INT64 = 2, 6

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
WRITTEN = """\
name: "g"
backend: "oneflow"
input {
  name: "INPUT_0"
  data_type: TYPE_INT64
  dims: [5]
}
input {
  name: "INPUT_1"
  data_type: TYPE_FP32
  dims: [4, 6]
}
output {
  name: "OUTPUT_0"
  data_type: TYPE_FP32
  dims: [1]
}
instance_group {
  kind: KIND_CPU
  count: 1
}
max_batch_size: 0
"""


@pytest.mark.parametrize(
    "file", COMMITTED, ids=lambda file: str(file.relative_to(MODEL_REPOSITORY))
)
def test_what_is_committed_is_the_same_once_it_was_written(file, tmp_path):
    write_config(read_config(file), tmp_path / "written")
    assert read_config(tmp_path / "written") == read_config(file)


@pytest.mark.parametrize("text", [EVERYTHING, 'backend: "x"', "max_batch_size: -1"])
def test_what_is_written_says_the_same(text):
    config = parse_config(text, "x")
    written = format_config(config)
    assert parse_config(written, "y") == config
    assert format_config(parse_config(written, "y")) == written
    assert written.count("max_batch_size") == 1


def test_config_for_makes_what_is_committed(repository):
    picture = [(FLOAT32, (1, 3, 256, 256))]
    graph = repository.save_graph("fast_neural_style/1/model", picture, picture)
    committed = MODEL_REPOSITORY / "fast_neural_style"
    for file in write_configs(graph.parents[1]):
        other = committed / file.relative_to(repository / "fast_neural_style")
        assert read_config(file) == read_config(other)


def test_config_for_graphs_without_a_batch(repository, tmp_path):
    inputs, outputs = [(INT64, (5,)), (FLOAT32, (4, 6))], [(FLOAT32, (1,))]
    graph = repository.save_graph("g/1/model", inputs, outputs)
    config = config_for(graph, name="g", device="cpu")
    write_config(config, tmp_path / "config.pbtxt")
    assert (tmp_path / "config.pbtxt").read_text() == WRITTEN
    assert config.instance_group[0].kind == ModelInstanceGroup.KIND_CPU
    with pytest.raises(ConfigError, match="without a leading batch of 1; write max_batch_size: 0"):
        config_for(graph, name="g", max_batch_size=4)


def test_config_for_graphs_with_one_number_a_row(repository):
    graph = repository.save_graph("g/1/model", [(INT64, (1,))], [(FLOAT32, (1, 3)), (INT64, (1,))])
    config = config_for(graph, name="g", max_batch_size=4)
    for tensor in (config.input[0], config.output[1]):
        assert (list(tensor.dims), tensor.HasField("reshape")) == ([1], True)
        assert not tensor.reshape.shape
    assert not config.output[0].HasField("reshape")
    assert "dims: [1]\n  reshape {\n  }\n" in format_config(config)
    config = config_for(graph, name="g")
    assert (config.max_batch_size, list(config.output[1].dims)) == (0, [1])
    assert not config.output[1].HasField("reshape")
    graph = repository.save_graph("g/2/model", outputs=[(FLOAT32, ())])
    assert list(config_for(graph, name="g").output[0].dims) == [1]
    with pytest.raises(ConfigError, match="OUTPUT_0 is a single number in the graph, without a b"):
        config_for(graph, name="g", max_batch_size=4)


def test_what_config_for_cannot_describe(repository, tmp_path):
    graph = repository.save_graph("g/1/model", outputs=[(FLOAT32, (1, 0))])
    with pytest.raises(ConfigError, match=r"OUTPUT_0 has the shape \[1, 0\] in the graph, so it"):
        config_for(graph, name="g")
    with pytest.raises(ConfigError, match="is not a folder: expected the graph there; save it ag"):
        config_for(tmp_path / "nowhere", name="g")


def test_comments_above_the_first_field_are_kept(tmp_path):
    file = tmp_path / "config.pbtxt"
    file.write_text("# mine\n\n# since May\n\nname: 'a'\n")
    write_config(ModelConfig(name="b"), file)
    assert file.read_text() == '# mine\n\n# since May\n\nname: "b"\nmax_batch_size: 0\n'


def test_a_file_with_other_comments_is_left_as_it_is(tmp_path):
    file = tmp_path / "config.pbtxt"
    file.write_text('name: "a # b"\nbackend: "x"  # because\n')
    with pytest.raises(ConfigError, match=r"config.pbtxt:2: has a comment here, which would be lo"):
        write_config(ModelConfig(name="b"), file)
    assert file.read_text() == 'name: "a # b"\nbackend: "x"  # because\n'


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot be written \(File exists\)"):
        write_config(ModelConfig(), tmp_path / "file" / "config.pbtxt")
    (tmp_path / "config.pbtxt").mkdir()
    with pytest.raises(ConfigError, match="this is not a file"):
        write_config(ModelConfig(), tmp_path / "config.pbtxt")


@pytest.mark.parametrize(
    ("text", "line", "sentence"),
    [
        ('\nnam: "x"', 2, 'there is no field "nam" here; write "name"'),
        ("max_batchsize: 1", 1, 'there is no field "max_batchsize" here; write "max_batch_size"'),
        ("input [ {\n dim: [ 3 ] } ]", 2, 'there is no field "dim" here; write "dims"'),
        ("dims: [ 3 ]", 1, "it belongs inside of input or output: is a closing bracket too many"),
        ("input [ { output [", 1, "it belongs outside of all brackets: is a closing one missing"),
        ('parameters { key: "a" val: { } }', 1, 'write "value"'),
        (
            "input { data_type: TYPE_FLOAT32 }",
            1,
            "TYPE_FLOAT32 is not a value of this field; write ",
        ),
        ("input { data_type: FP32 }", 1, 'write "TYPE_FP32"'),
        ("input { data_type: double }", 1, 'write "TYPE_FP64"'),
        ("input { format: NCHV }", 1, 'write "FORMAT_NCHW"'),
        ("instance_group { kind: gpu }", 1, 'write "KIND_GPU"'),
        ("dynamic_batching { default_queue_policy { timeout_action: DELAYED } }", 1, '"DELAY"'),
        ('name: "a"\nname: "b"', 2, "name is given twice; keep one of them"),
        (
            "dynamic_batching { }\nsequence_batching { }",
            2,
            "and dynamic_batching cannot be used to",
        ),
        ("input {\n  dims: [ 3, 256 256 ]\n}", 2, 'at column 18 (Expected ","); look here'),
        ("name: x", 1, "Expected string but found: 'x'"),
        ("max_batch_size: 99999999999", 1, "Value out of range"),
        ("input [ {", 1, 'Expected "}"'),
        ("\x00\x01", 1, "cannot be understood at column 1"),
    ],
)
def test_a_text_that_is_wrong(tmp_path, text, line, sentence):
    file = tmp_path / "config.pbtxt"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_config(file)
    assert str(caught.value).startswith(f"{file}:{line}: ")
    assert caught.value.line == line
    assert sentence in caught.value.sentence
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text(tmp_path):
    file = tmp_path / "config.pbtxt"
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
    for _ in range(1000):
        text = list(EVERYTHING)
        for _ in range(rng.randint(1, 2)):
            text[rng.randrange(len(text))] = rng.choice(['"', "{", "}", "[", "]", ":", "#", " "])
        try:
            parse_config("".join(text), "x")
        except ConfigError:
            continue
        parsed += 1
        field_lines("".join(text))
    assert parsed > 50
