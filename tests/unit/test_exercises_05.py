"""The checks of lesson 05's exercises: right answers pass, usual mistakes get their hint."""

import re
import shutil

import pytest

from oneflow_backend.graph_folder import GraphFolder
from serving_kit.exercises import lesson_05
from serving_kit.repository.config import (
    CONFIG,
    CPU_CONFIG,
    as_triton_has_it,
    backend_config,
    read_config,
    write_config,
)
from serving_kit.repository.config_text import parse_config

POSTER = """
name: "poster"
backend: "oneflow"
max_batch_size: 1
input { name: "INPUT_0" data_type: TYPE_FP32 dims: [ 3, 128, 128 ] }
output { name: "OUTPUT_0" data_type: TYPE_FP32 dims: [ 3, 128, 128 ] }
instance_group { count: 1 kind: KIND_CPU }
"""

BLEND = """
name: "blend"
backend: "oneflow"
max_batch_size: 4
input [
  { name: "INPUT_0" data_type: TYPE_FP32 dims: [ 3, 64, 64 ] },
  { name: "INPUT_1" data_type: TYPE_FP32 dims: [ 3, 64, 64 ] },
  { name: "INPUT_2" data_type: TYPE_FP32 dims: [ 1 ] }
]
output [
  { name: "OUTPUT_0" data_type: TYPE_FP32 dims: [ 3, 64, 64 ] },
  { name: "OUTPUT_1" data_type: TYPE_INT64 dims: [ 256 ] }
]
instance_group [ { count: 2 kind: KIND_CPU } ]
"""


# 05.1


def test_a_configuration_that_was_repaired(verdict):
    assert verdict("05.1", POSTER).startswith("Right! All four are repaired.")


@pytest.mark.parametrize(
    ("old", "new", "hint"),
    [
        ("max_batch_size", "max_batchsize", 'line 4: there is no field "max_batchsize" here'),
        ("TYPE_FP32 dims", "TYPE_FLOAT32 dims", "TYPE_FLOAT32 is not a value of this field; write"),
        ("[ 3, 128", "[ 1, 3, 128", "has dims [1, 3, 128, 128]: who puts the batch in front"),
        ("KIND_CPU", "KIND_GPU gpus: [ 0 ]", "is there an instance that is not on the CPU?"),
        ("KIND_CPU", "KIND_CPU gpus: [ 0 ]", "gpus has no place in a group of KIND_CPU"),
        ("max_batch_size: 1", "", "max_batch_size is 0; how many may one run take?"),
    ],
)
def test_each_mistake_that_is_left_is_named(verdict, old, new, hint):
    assert old in POSTER
    assert hint in verdict("05.1", POSTER.replace(old, new))


# 05.2


@pytest.mark.parametrize(
    "text",
    [
        BLEND,
        BLEND.replace("count: 2 kind: KIND_CPU", "kind: KIND_CPU }, { kind: KIND_CPU"),
        re.sub(r"\s+", " ", BLEND),
        BLEND + "dynamic_batching { }",
    ],
)
def test_a_whole_configuration(verdict, text):
    assert verdict("05.2", text).startswith("Right!")


def test_the_backend_takes_what_the_check_takes():
    config = as_triton_has_it(parse_config(BLEND, CONFIG))
    graph = GraphFolder(None, lesson_05.BLEND.input, lesson_05.BLEND.output, ())
    assert not list(backend_config.mismatches(config, graph))


@pytest.mark.parametrize(
    ("old", "new", "hint"),
    [
        ("max_batch_size", "max_batchsize", 'in line 4: there is no field "max_batchsize" here'),
        ("[ 256 ]", "[ 256", "Triton could not read this in line 12"),
        ('name: "blend"', "", 'the name is "", but the model\'s folder is called blend'),
        ("oneflow", "python", 'the backend is "python"'),
        ("max_batch_size: 4", "", "max_batch_size is 0; how many may one run take?"),
        (
            ',\n  { name: "INPUT_2" data_type: TYPE_FP32 dims: [ 1 ] }',
            "",
            "has 3 inputs, and the configuration 2",
        ),
        ('"INPUT_2"', '"share"', "the inputs are called INPUT_0, INPUT_1, share"),
        ('"INPUT_1"', '"INPUT_0"', "how does the backend number them?"),
        ("TYPE_INT64", "TYPE_INT32", "the data_type of OUTPUT_1 is not what Triton calls int64"),
        ("TYPE_INT64", "99", "the data_type of OUTPUT_1 is not what Triton calls int64"),
        ("[ 3, 64", "[ 1, 3, 64", "INPUT_0 has dims [1, 3, 64, 64]: who puts the batch in front"),
        ("[ 1 ]", "[ 1, 1 ]", "INPUT_2 has dims [1, 1]: who puts the batch"),
        ("dims: [ 1 ]", "", "INPUT_2 has dims [], but was traced as 1 x 1"),
        ("instance_group [ { count: 2 kind: KIND_CPU } ]", "", "where does the model run"),
        ("KIND_CPU", "KIND_GPU", "is there an instance that is not on the CPU?"),
        ("KIND_CPU", "KIND_CPU gpus: [ 0 ]", "gpus has no place in a group of KIND_CPU"),
        ("count: 2", "", "but this makes 1 of the model"),
    ],
)
def test_hints_on_a_configuration(verdict, old, new, hint):
    assert old in BLEND
    assert hint in verdict("05.2", BLEND.replace(old, new))


# 05.3


def versions_of(model, key=int):
    return sorted((p.name for p in model.iterdir() if p.name.isdecimal()), key=key)


def roll_back(model, *, key=int, variants=(CONFIG, CPU_CONFIG), change=lambda config: None):
    for variant in variants:
        config = read_config(model / variant)
        config.version_policy.specific.versions[:] = [int(versions_of(model, key)[-2])]
        change(config)
        write_config(config, model / variant)


def append_the_text(model):
    for variant in (CONFIG, CPU_CONFIG):
        with (model / variant).open("a") as file:
            file.write("version_policy { specific { versions: [ 5 ] } }\n")


def test_going_back_a_version(verdict):
    assert verdict("05.3", roll_back).startswith("Right!")


@pytest.mark.parametrize(
    ("mistake", "hint"),
    [
        ({"key": str}, "config.pbtxt now serves 2; expected the newest but one, by number"),
        ({"variants": [CONFIG]}, "configs/cpu.pbtxt now serves 10"),
        ({"change": lambda c: c.ClearField("instance_group")}, "but other fields changed, too"),
        (
            {"change": lambda c: c.version_policy.specific.versions.append(10)},
            "config.pbtxt now serves 10, 5",
        ),
        (
            {"change": lambda c: c.version_policy.specific.versions.__setitem__(0, 7)},
            "config.pbtxt now serves none",
        ),
    ],
)
def test_hints_on_going_back(verdict, mistake, hint):
    assert hint in verdict("05.3", lambda model: roll_back(model, **mistake))


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda model: shutil.rmtree(model / "10"), "blend/10/model/model.mlir is gone"),
        (lambda model: (model / "10").rename(model / "0"), "is gone; leave every file in its pl"),
        (
            lambda model: (model / "10/model/model.mlir").write_text("version 5\n"),
            "blend/10/model/model.mlir has changed",
        ),
        (lambda model: (model / "configs/5.pbtxt").touch(), "blend/configs/5.pbtxt is new"),
        (lambda model: None, "config.pbtxt now serves 10"),
        (append_the_text, "a model with version_policy { all { } }: Triton could not read"),
        (lambda model: (model / "latest").read_text(), "No such file or directory: 'blend/latest'"),
    ],
)
def test_hints_on_other_ways_back(verdict, answer, hint):
    told = verdict("05.3", answer)
    assert hint in told
    assert "/tmp" not in told
