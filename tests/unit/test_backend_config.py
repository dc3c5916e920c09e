"""config.pbtxt against the graph, and the backend's own parameters; as dicts, without Triton."""

from pathlib import Path

import pytest

from oneflow_backend.graph_folder import GraphFolder, GraphFolderError, TensorSpec
from oneflow_backend.model_config import Settings, check_config, complete, read_settings

FLOAT32, INT64 = 2, 6
FOLDER = GraphFolder(
    Path("model"),
    inputs=(TensorSpec("a", FLOAT32, (1, 3, 8)), TensorSpec("b", INT64, (1, 2))),
    outputs=(TensorSpec("y", FLOAT32, (1,)),),
    variables=(),
)


def make_config(max_batch_size=4, parameters=(), **changes):
    config = {"name": "m", "max_batch_size": max_batch_size, "input": [], "output": []}
    config |= complete(config, FOLDER)
    config["parameters"] = {key: {"string_value": value} for key, value in dict(parameters).items()}
    return config | changes


def refused(function, *arguments):
    with pytest.raises(GraphFolderError) as caught:
        function(*arguments)
    sentence = str(caught.value)
    assert sentence.startswith("config.pbtxt of m") and "\n" not in sentence
    return sentence


@pytest.mark.parametrize(("max_batch_size", "lead"), [(4, []), (0, [1])])
def test_a_completed_configuration_is_right(max_batch_size, lead):
    config = make_config(max_batch_size)
    assert [entry["name"] for entry in config["input"]] == ["INPUT_0", "INPUT_1"]
    assert [entry["data_type"] for entry in config["input"]] == ["TYPE_FP32", "TYPE_INT64"]
    assert [entry["dims"] for entry in config["input"]] == [[*lead, 3, 8], [*lead, 2]]
    one = {"dims": [1], "reshape": {"shape": []}} if lead == [] else {"dims": [1]}
    assert config["output"] == [{"name": "OUTPUT_0", "data_type": "TYPE_FP32"} | one]
    check_config(config, FOLDER)


def folder_of(*shapes):
    specs = tuple(TensorSpec(f"x_{i}", FLOAT32, shape) for i, shape in enumerate(shapes))
    return GraphFolder(Path("model"), specs, specs[:1], ())


def config_of(folder, max_batch_size, **tensor):
    """Return a configuration that says something of its own about the first tensor, in and out."""
    config = {"name": "m", "max_batch_size": max_batch_size}
    config |= complete(config, folder)
    for kind in ("input", "output"):
        config[kind][0] = {key: config[kind][0][key] for key in ("name", "data_type")} | tensor
    return config


NOTHING, ROW, SQUARE = (), (1,), (1, 2, 2)


@pytest.mark.parametrize(
    ("shape", "max_batch_size", "tensor"),
    [
        (NOTHING, 0, {"dims": [1]}),
        (NOTHING, 0, {"dims": [1, 1], "reshape": {"shape": [1]}}),
        (ROW, 0, {"dims": [1]}),
        (ROW, 4, {"dims": [1], "reshape": {"shape": []}}),
        (ROW, 4, {"dims": ["1"], "reshape": {}}),  # as protobuf's JSON has it
        (SQUARE, 4, {"dims": [4], "reshape": {"shape": [2, 2]}}),
        (SQUARE, 0, {"dims": [4], "reshape": {"shape": [1, 2, 2]}}),
    ],
)
def test_shapes_that_triton_and_the_graph_have_differently(shape, max_batch_size, tensor):
    folder = folder_of(shape)
    check_config(config_of(folder, max_batch_size, **tensor), folder)


@pytest.mark.parametrize(
    ("shape", "max_batch_size", "tensor", "expected"),
    [
        (ROW, 4, {"dims": [1]}, "dims [1], but the graph has one number per row (a batch"),
        (ROW, 4, {"dims": [3]}, "and nothing else); write dims: [ 1 ] reshape { shape: [ ] }"),
        (ROW, 4, {"dims": [1], "reshape": {"shape": [1]}},
         "has reshape { shape: [ 1 ] }, but the graph has [] (without the batch); write dims: [ 1"),
        (SQUARE, 4, {"dims": [4], "reshape": {"shape": [4]}},
         "{ shape: [ 4 ] }, but the graph has [2, 2] (without the batch); write dims: [ 2, 2 ]"),
        (SQUARE, 4, {"dims": [2, 2], "reshape": {"shape": [1, 2, 2]}}, "the graph has [2, 2] ("),
        (SQUARE, 0, {"dims": [4], "reshape": {"shape": [2, 2]}}, "but the graph has [1, 2, 2] (w"),
        (NOTHING, 0, {"dims": [2]}, "has dims [2], but the graph has [1] (with every dimension"),
        (NOTHING, 4, {"dims": [1], "reshape": {"shape": []}},
         "is a single number in the graph, without a batch; write max_batch_size: 0, or have bui"),
        ((1, 0), 4, {"dims": [1]}, "has the shape [1, 0] in the graph, so it has no elements"),
        (ROW, 0, {"dims": [1], "optional": True}, "is optional, but a graph needs all of its"),
    ],
)  # fmt: skip
def test_a_wrong_shape_is_told_with_what_to_write(shape, max_batch_size, tensor, expected):
    folder = folder_of(shape)
    config = config_of(folder, max_batch_size, **tensor)
    assert expected in refused(check_config, config, folder)


def test_an_empty_reshape_is_left_out_without_a_batch():
    folder = folder_of(NOTHING, SQUARE)
    config = config_of(folder, 0, dims=[1], reshape={"shape": []})
    completed = complete(config, folder)
    assert [entry["dims"] for entry in completed["input"]] == [[1], [1, 2, 2]]
    assert not any("reshape" in entry for entry in completed["input"] + completed["output"])
    check_config(config | completed, folder)
    assert "reshape" in config["input"][0]  # what was given is not changed


def test_what_is_written_is_not_completed():
    config = make_config()
    assert complete(config, FOLDER) == {}
    assert list(complete(config | {"output": []}, FOLDER)) == ["output"]


def test_names_types_dims_and_batch_are_checked():
    config = make_config()
    config["input"][1]["name"] = "INPUT_2"
    assert "names the inputs INPUT_0, INPUT_2, but the graph has INPUT_0, INPUT_1" in refused(
        check_config, config, FOLDER
    )
    config = make_config()
    config["output"][0]["data_type"] = "TYPE_FP16"
    assert "OUTPUT_0 is TYPE_FP16, but the graph has TYPE_FP32" in refused(
        check_config, config, FOLDER
    )
    config = make_config()
    config["input"][0]["dims"] = [8, 3]
    assert "INPUT_0 has dims [8, 3], but the graph has [3, 8] (without the b" in refused(
        check_config, config, FOLDER
    )
    config["input"][0]["dims"] = [1, 3, 8]
    assert "has dims [1, 3, 8], but the graph has [3, 8] (without the batch, which Tr" in refused(
        check_config, config, FOLDER
    )
    config = make_config(max_batch_size=0)
    config["input"][0]["dims"] = [3, 8]
    assert "has dims [3, 8], but the graph has [1, 3, 8] (with every dimension" in refused(
        check_config, config, FOLDER
    )
    folder = GraphFolder(FOLDER.path, FOLDER.inputs, (TensorSpec("y", FLOAT32, (3,)),), ())
    assert "OUTPUT_0 has the shape [3] in the graph, without a leading batch of 1" in refused(
        check_config, make_config(), folder
    )


def test_defaults():
    assert read_settings(make_config()) == Settings(None, 30.0, 3, False)


def test_parameters_are_read():
    config = make_config(
        parameters={
            "batch_sizes": "4, 2",
            "run_timeout_seconds": "2.5",
            "max_retries": "0",
            "reject_non_finite": "True",
            "EXECUTION_ENV_PATH": "somewhere",
        }
    )
    assert read_settings(config) == Settings((2, 4), 2.5, 0, True)


def test_no_batches_at_all():
    config = make_config(parameters={"batch_sizes": ""})
    assert read_settings(config).batch_sizes == ()
    sentence = refused(read_settings, make_config(1, parameters={"batch_sizes": "2"}))
    assert 'is "2", but must be left out while max_batch_size is 1; raise that, or l' in sentence


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        (
            "batch_sizes",
            "8",
            'is "8", but must be numbers from 2 to max_batch_size (4), such as "2, 4"',
        ),
        ("batch_sizes", "1", "must be numbers from 2 to max_batch_size"),
        ("batch_sizes", "two", "must be numbers from 2 to max_batch_size"),
        ("run_timeout_seconds", "0", 'must be a number of seconds above 0, such as "2.5"'),
        ("run_timeout_seconds", "nan", "must be a number of seconds above 0"),
        ("run_timeout_seconds", "soon", "must be a number of seconds above 0"),
        ("max_retries", "-1", 'must be a whole number, 0 or more, such as "3"'),
        ("reject_non_finite", "maybe", 'must be "true" or "false"'),
        ("max_retrys", "3", "parameter max_retrys is unknown; the backend has: batch_sizes, run_"),
    ],
)
def test_a_wrong_parameter_is_told(key, value, expected):
    assert expected in refused(read_settings, make_config(parameters={key: value}))
