"""The messages about saved folders and configurations in docs/troubleshooting.md."""

import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import oneflow as flow
import pytest
from oneflow import nn
from provoking import edit, parameter, provokes, raised
from tritonclient.utils import InferenceServerException

from oneflow_backend import complaints
from oneflow_backend.example_inputs import kinds_of
from oneflow_backend.graph_folder import (
    GraphFolder,
    GraphFolderError,
    TensorSpec,
    read_graph_folder,
)
from oneflow_backend.verification import Verification
from serving_kit.errors import (
    ConfigError,
    ExportError,
)
from serving_kit.export import export_version
from serving_kit.repository import checks
from serving_kit.repository.config import as_triton_has_it, backend_config, config_for, read_config
from serving_kit.repository.config import write_config as write_config_file
from serving_kit.repository.config_text import parse_config
from serving_kit.stylenet.network import load_stylenet


def refuse_folder(folder):
    return raised(GraphFolderError, read_graph_folder, folder)


@provokes("There is no graph")
def test_there_is_no_graph(tmp_path):
    (tmp_path / "empty").mkdir()
    return [refuse_folder(tmp_path / "none"), refuse_folder(tmp_path / "empty")]


@provokes("The graph is in the wrong folder")
def test_the_graph_is_in_the_wrong_folder(saved):
    high, deep = saved.parent / "high", saved.parent / "deep" / "model"
    shutil.copytree(saved, high)
    shutil.copytree(saved, deep / "model")
    return [refuse_folder(high / "model"), refuse_folder(deep)]


@provokes("A state dict instead of a graph")
def test_a_state_dict_instead_of_a_graph(tmp_path):
    flow.save(load_stylenet().state_dict(), str(tmp_path / "model"))
    return refuse_folder(tmp_path / "model")


@provokes("model.mlir is damaged")
def test_model_mlir_is_damaged(saved):
    mlir = saved / "model.mlir"
    text, said = mlir.read_text(), []
    for content in (text[: len(text) // 2].encode(), b"version https://git-lfs", b"module \xff"):
        mlir.write_bytes(content)
        said.append(refuse_folder(saved))
    os.truncate(mlir, 300_000_000)  # no byte of which is on the disk
    return [*said, refuse_folder(saved)]


@provokes("model.mlir was written by another OneFlow")
def test_model_mlir_was_written_by_another_oneflow(saved):
    edit(saved / "model.mlir", "data_type = ", "dtype = ")
    return refuse_folder(saved)


class Silent(nn.Module):
    """A module whose forward forgot its return."""

    def forward(self, x):
        flow.relu(x)


@provokes("A graph has no output")
def test_a_graph_has_no_output(saved, tmp_path):
    edit(saved / "model.mlir", '"oneflow.output"', '"oneflow.outlet"')
    image = np.zeros((1, 64), np.float32)
    return [
        refuse_folder(saved),
        raised(ExportError, export_version, Silent(), [image], tmp_path / "1"),
    ]


@provokes("Triton does not have the data type")
def test_triton_does_not_have_the_data_type(saved):
    edit(saved / "model.mlir", "data_type = 2 : i32", "data_type = 20 : i32")
    return refuse_folder(saved)


@provokes("Weights are missing or cut off")
def test_weights_are_missing_or_cut_off(saved):
    weights = saved / "module.paint.conv.weight" / "out"
    os.truncate(weights, 100)
    short = refuse_folder(saved)
    weights.unlink()
    return [short, refuse_folder(saved)]


@provokes("A variable's name points outside the folder")
def test_a_variables_name_points_outside_the_folder(saved):
    edit(saved / "model.mlir", "module.paint.conv.weight", "../paint.conv.weight")
    return refuse_folder(saved)


@provokes("A graph traced in training mode")
def test_a_graph_traced_in_training_mode(small_repository):
    dropout = '%x = "oneflow.dropout"(%a) {op_name = "m.drop-dropout-0", rate = 0.5 : f32} : ()'
    edit(small_repository / "small" / MLIR, "oneflow.return", f"{dropout}\n    oneflow.return")
    return checks.to_text(checks.check(small_repository))


CONFIG = """\
name: "small"
backend: "oneflow"
max_batch_size: 1
input [ { name: "INPUT_0" data_type: TYPE_FP32 dims: [ 3, 64, 64 ] } ]
output [ { name: "OUTPUT_0" data_type: TYPE_FP32 dims: [ 3, 64, 64 ] } ]
instance_group [ { count: 1 kind: KIND_CPU } ]
"""
MLIR = "1/model/model.mlir"


def changed(old, new):
    assert old in CONFIG
    return CONFIG.replace(old, new, 1)


@provokes("A line of make check")
def test_a_line_of_make_check(small_repository):
    edit(small_repository / "small" / "config.pbtxt", 'name: "small"', 'name: "other"')
    return checks.to_text(checks.check(small_repository))


@provokes("A field does not exist")
def test_a_field_does_not_exist(refuse_load):
    texts = (
        changed("max_batch_size", "max_batchsize"),
        changed("TYPE_FP32", "TYPE_FLOAT32"),
        changed("max_batch_size: 1", "max_batch_size: 1 max_batch_size: 2"),
        changed("3, 64", "3 64"),
    )
    return [raised(ConfigError, parse_config, text, "config.pbtxt") for text in texts] + [
        refuse_load(misspell)[1]
    ]


@provokes("config.pbtxt cannot be read")
def test_config_pbtxt_cannot_be_read(tmp_path):
    files = {"none": None, "large": b"#" * 2_000_000, "mark": b"\xef\xbb\xbf", "odd": b"\n\xff"}
    for name, content in files.items():
        if content:
            (tmp_path / name).write_bytes(content)
    return [raised(ConfigError, read_config, tmp_path / name) for name in (*files, ".")]


@provokes("The kit does not write config.pbtxt")
def test_the_kit_does_not_write_config_pbtxt(tmp_path):
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
def test_names_types_and_dims_do_not_fit_the_graph(small_version, two_inputs):
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
    no_input = replace(graph, inputs=())
    return [
        refuse(changed("INPUT_0", "image")),
        refuse(changed("TYPE_FP32", "TYPE_FP64")),
        refuse(changed("3, 64, 64", "3, 64, 65")),
        refuse(changed("3, 64, 64", "1, 3, 64, 64")),
        refuse(changed("max_batch_size: 1", "max_batch_size: 0")),
        refuse(second(5, 3), both),
        refuse(second(3, 5), unbatched),
        refuse(CONFIG, no_input),
        raised(ConfigError, config_for, two_inputs, name="small", max_batch_size=1),
    ]


@provokes("One number per row, and other shapes that Triton represents differently")
def test_one_number_per_row_and_other_shapes_that_triton_represents_differently(saved, refuse_load):
    mlir = saved / "model.mlir"
    (line,) = [text for text in mlir.read_text().splitlines() if '"oneflow.output"' in text]

    def refuse(text, shape="1 : si64"):
        shaped = re.sub(r"shape = \[[^\]]*\]", f"shape = [{shape}]", line)
        mlir.write_text(mlir.read_text().replace(line, shaped))
        config = as_triton_has_it(parse_config(text, "config.pbtxt"))
        graph = read_graph_folder(saved)
        edit(mlir, shaped, line)
        return raised(GraphFolderError, backend_config.check_config, config, graph)

    def output(shape):
        return re.sub(r"(OUTPUT_0.*) dims: \[.*?\]", rf"\1 {shape}", CONFIG)

    def without_completion(model):
        (model.folder / "1" / "model.py").write_text("class TritonPythonModel: pass\n")
        text = output("dims: [ 1 ] reshape { }").replace("max_batch_size: 1", "")
        model.write_config(text.replace('"oneflow"', '"python"').replace('name: "small"', ""))

    return [
        refuse(output("dims: [ 1 ]")),
        refuse(output("dims: [ 1 ] reshape { shape: [ 1 ] }")),
        refuse(output("dims: [ 1 ]"), ""),
        refuse(output("dims: [ 1 ]"), "1 : si64, 0 : si64"),
        refuse(changed("dims", "optional: true dims")),
        refuse_load(without_completion)[0],
    ]


@provokes("A parameter of the backend is wrong")
def test_a_parameter_of_the_backend_is_wrong():
    said = []
    for key, value in (("max_retrys", "1"), ("max_retries", "many")):
        config = parse_config(CONFIG + parameter(key, value), "config.pbtxt")
        read = backend_config.read_settings
        said.append(raised(GraphFolderError, read, as_triton_has_it(config)))
    return said


@pytest.fixture
def refuse_load(small_model):
    """Spoils a model; returns what the client says when it is loaded, and what the log does."""

    def refuse_load(spoil):
        spoil(small_model)
        return [raised(InferenceServerException, small_model.load), small_model.server.log()]

    return refuse_load


def configured(old, new):
    """Have a model called as its folder is, with something in its configuration replaced."""
    text = changed(old, new).replace('name: "small"\n', "")
    return lambda model: model.write_config(text)


misspell = configured("max_batch_size", "max_batchsize")


@provokes("Triton says only that loading failed")
def test_triton_says_only_that_loading_failed(refuse_load, small_model):
    unread = refuse_load(misspell)[0]
    small_model.write_config('backend: "oneflow"')
    return [unread, refuse_load(lambda model: (model.folder / MLIR).unlink())[0]]


@provokes("A step of an ensemble is missing")
def test_a_step_of_an_ensemble_is_missing(refuse_load):
    tensors = CONFIG.partition("max_batch_size: 1")[2].partition("instance_group")[0]
    text = (
        f'platform: "ensemble" max_batch_size: 1 {tensors}'
        'ensemble_scheduling { step [ { model_name: "nobody" model_version: -1'
        ' input_map { key: "INPUT_0" value: "INPUT_0" }'
        ' output_map { key: "OUTPUT_0" value: "OUTPUT_0" } } ] }'
    )
    return refuse_load(lambda model: model.write_config(text))[0]


@provokes("No version to serve")
def test_no_version_to_serve(refuse_load):
    return refuse_load(lambda model: shutil.rmtree(model.folder / "1"))


@provokes("The GPU does not exist")
def test_the_gpu_does_not_exist(refuse_load):
    return refuse_load(configured("KIND_CPU", "KIND_GPU gpus: [ 0 ]"))


@provokes("OneFlow will not load the graph")
def test_oneflow_will_not_load_the_graph(refuse_load):
    def spoil(model):
        edit(model.folder / MLIR, '"oneflow.sigmoid"', '"oneflow.sigmoidal"')

    why, _ = complaints.explain(*CANNOT_LOAD, running=False)
    return [
        refuse_load(spoil)[0],
        f"OneFlow's process died while it loaded the graph: {why}",
        f"OneFlow cannot load x: {complaints.explain_error(RuntimeError(NO_KERNEL))[0]}",
    ]


#: How OneFlow 0.9.0 ends over a graph with isclose, and what it raises for float16 on a CPU.
CANNOT_LOAD = (
    -6,
    "F20260101 04:52:58.151422  3567 UserOpConversion.cpp:302] Check failed: "
    "op_def.IsAttrName(attr_name) equal_nan not a attr name for op: broadcast_isclose_neq_nan",
)
NO_KERNEL = """\
Cannot find the kernel matching Current OperatorConf.  The Info of OperatorConf are
 op_name: matmul1
 op_type_name: matmul
 DeviceType_Name: kCPU
 DataType_Name of a_0: kFloat16
Error Type: oneflow.ErrorProto.op_kernel_not_found_error"""


@provokes("A plan for several rows is not verified")
def test_a_plan_for_several_rows_is_not_verified():
    folder = GraphFolder(
        Path("model"), (TensorSpec("x", 2, (1, 3)),), (TensorSpec("y", 2, (1, 3)),), ()
    )
    random = np.random.default_rng(0)

    def refuse(graph):
        verification = Verification(lambda what, x: (graph(x),), folder, [None], [2])
        return verification.run(kinds_of(folder, [None], []), poison=True)[2]

    return [
        refuse(lambda x: x - x.mean(axis=0)),
        refuse(lambda x: np.where(np.isnan(x).any(), np.float32(np.nan), x)),
        refuse(lambda x: random.random(x.shape, np.float32)),
        refuse(np.zeros_like),
    ]
