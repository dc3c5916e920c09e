"""What the check calls an error, the real Triton refuses; what it lets pass, Triton serves."""

import shutil

import numpy as np
import pytest
import tritonclient.http as httpclient
from tritonclient.utils import InferenceServerException

from serving_kit.client.inference import infer
from serving_kit.errors import ServerError
from serving_kit.paths import MODEL_REPOSITORY
from serving_kit.repository import check, config_for, has_errors, write_configs
from serving_kit.repository.config import CONFIG, CPU_CONFIG
from serving_kit.repository.config_text import parse_config
from serving_kit.server.triton import TritonServer

PYTHON_MODEL = """\
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        inputs = [pb_utils.get_input_tensor_by_name(request, "X") for request in requests]
        outputs = [pb_utils.Tensor("Y", tensor.as_numpy() + 1) for tensor in inputs]
        return [pb_utils.InferenceResponse([tensor]) for tensor in outputs]
"""
PYTHON_CONFIG = """\
backend: "python"
max_batch_size: 1
input [ { name: "X" data_type: TYPE_FP32 dims: [ 3, 64, 64 ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ 3, 64, 64 ] } ]
"""
ENSEMBLE_CONFIG = """\
platform: "ensemble"
max_batch_size: 1
input [ { name: "IN" data_type: TYPE_FP32 dims: [ 3, 64, 64 ] } ]
output [ { name: "OUT" data_type: TYPE_FP32 dims: [ 3, 64, 64 ] } ]
ensemble_scheduling { step [
  { model_name: "first" model_version: -1
    input_map { key: "X" value: "IN" } output_map { key: "Y" value: "between" } },
  { model_name: "first" model_version: -1
    input_map { key: "X" value: "between" } output_map { key: "Y" value: "OUT" } }
] }
"""

#: Changes to the configuration of a saved graph: what is replaced, by what, and what check says.
GRAPH_MISTAKES = {
    "other_name": ('name: "small"', 'name: "other"', "name"),
    "mistyped_field": ("max_batch_size", "max_batchsize", "config-unreadable"),
    "mistyped_type": ("TYPE_FP32", "TYPE_FLOAT32", "config-unreadable"),
    "missing_comma": ("3, 64, 64", "3, 64 64", "config-unreadable"),
    "no_backend": ('backend: "oneflow"', "", "backend"),
    "mistyped_backend": ('"oneflow"', '"OneFlow"', "backend"),
    "platform_for_backend": ("backend:", "platform:", "backend"),
    "negative_batch": ("max_batch_size: 1", "max_batch_size: -1", "max-batch-size"),
    "wrong_names": ("INPUT_0", "input_0", "tensor-name"),
    "batch_in_dims": ("[ 3, 64", "[ 1, 3, 64", "tensor-batch"),
    "wrong_type": ("TYPE_FP32", "TYPE_UINT8", "tensor-data-type"),
    "other_reshape": (
        "[ 3, 64, 64 ]",
        "[ 3, 64, 64 ] reshape { shape: [ 3, 4096 ] }",
        "tensor-reshape",
    ),
    "optional": ('"INPUT_0"', '"INPUT_0" optional: true', "tensor-optional"),
    "gpu": ("KIND_CPU", "KIND_GPU\n    gpus: [ 0 ]", "kind-gpu"),
    "gpus_of_a_cpu": ("KIND_CPU", "KIND_CPU\n    gpus: [ 0 ]", "gpus"),
    "bad_parameter": (
        'backend: "oneflow"',
        'backend: "oneflow"\nparameters { key: "max_retrys" value: { string_value: "1" } }',
        "parameter",
    ),
}  # fmt: skip
NUMBER_IN = '"IN" data_type: TYPE_INT64 dims: 1'
ONE_NUMBER = '"X" data_type: TYPE_INT64 dims: 1 reshape { shape: [ ] }'
ENSEMBLE_MISTAKES = {
    "no_such_model": ('"first"', '"frist"', "ensemble-model"),
    "itself": ('"first"', '"itself"', "ensemble-model"),
    "no_such_version": (
        '"first" model_version: -1',
        '"first" model_version: 7',
        "ensemble-version",
    ),
    "version_left_out": ('"first" model_version: -1', '"first"', "ensemble-version"),
    "no_such_input": ('key: "X" value: "IN"', 'key: "Z" value: "IN"', "ensemble-tensor"),
    "no_such_output": ('key: "Y" value: "OUT"', 'key: "Z" value: "OUT"', "ensemble-tensor"),
    "not_connected": ('key: "X" value: "between"', 'key: "X" value: "betwen"', "ensemble-tensor"),
    "not_used": ('key: "X" value: "between"', 'key: "X" value: "IN"', "ensemble-tensor"),
    "not_written": ('value: "OUT"', 'value: "OUTT"', "ensemble-tensor"),
    "written_twice": ('value: "OUT"', 'value: "between"', "ensemble-tensor"),
    "other_type": ('"IN" data_type: TYPE_FP32', '"IN" data_type: TYPE_INT8', "ensemble-fit"),
    "other_dims": (
        '"OUT" data_type: TYPE_FP32 dims: [ 3, 64, 64 ]',
        '"OUT" data_type: TYPE_FP32 dims: [ 64, 64 ]',
        "ensemble-fit",
    ),
    "reshaped": (
        '"OUT" data_type: TYPE_FP32 dims: [ 3, 64, 64 ]',
        '"OUT" data_type: TYPE_FP32 dims: [ 3, 64, 64 ] reshape { shape: [ 3, 4096 ] }',
        "ensemble-fit",
    ),
    "larger_batch": ("max_batch_size: 1", "max_batch_size: 2", "ensemble-batch"),
    "on_a_cpu": ("ensemble_sch", "instance_group { }\nensemble_sch", "ensemble-field"),
    "a_backend": ('platform: "ensemble"', 'backend: "ensemble"', "ensemble-platform"),
}  # fmt: skip


def make_python_model(model, version="1", config=PYTHON_CONFIG, source=PYTHON_MODEL):
    (model / version).mkdir(parents=True)
    (model / version / "model.py").write_text(source)
    (model / CONFIG).write_text(config)
    return model


def make_ensemble(model, config=ENSEMBLE_CONFIG):
    (model / "1").mkdir(parents=True)
    (model / CONFIG).write_text(config)


def replaced(text, old, new, count=-1):
    assert old in text
    return text.replace(old, new, count)


def make_graph_models(models, small):
    """Make a copy of the model "small" with each mistake; return what check is to say of them."""
    text = (small / CONFIG).read_text()
    expected = {}
    for name, (old, new, code) in GRAPH_MISTAKES.items():
        (models / name / "1").mkdir(parents=True)
        (models / name / "1" / "model").symlink_to(small / "1" / "model")
        changed = replaced(text, old, new).replace('name: "small"', f'name: "{name}"')
        (models / name / CONFIG).write_text(changed)
        expected[name] = code
    for name in ("half_copied", "nested"):
        shutil.copytree(small / "1", models / name / "1")
        (models / name / CONFIG).write_text(text.replace('"small"', f'"{name}"'))
        expected[name] = "graph-folder"
    out = next((models / "half_copied" / "1" / "model").glob("*/out"))
    out.write_bytes(out.read_bytes()[:-4])
    (models / "nested" / "1" / "model").rename(models / "nested" / "1" / "inner")
    (models / "nested" / "1" / "model").mkdir()
    (models / "nested" / "1" / "inner").rename(models / "nested" / "1" / "model" / "model")
    return expected


def make_other_models(models):
    """Make models that are wrong in other ways; return what check is to say of them."""
    make_python_model(models / "version_v1", "v1")
    make_python_model(models / "version_01", "01")
    make_python_model(models / "version_1.0", "1.0").rename(models / "version_file")
    shutil.rmtree(models / "version_file" / "1.0")
    (models / "version_file" / "1").write_text("")
    make_python_model(
        models / "policy", config=PYTHON_CONFIG + "version_policy { specific { versions: 2 } }"
    )
    make_python_model(models / "not_python", source="def execute(:\n")
    make_python_model(models / "no_class", source="class Model: pass\n")
    make_python_model(models / "byte_order_mark", config="\ufeff" + PYTHON_CONFIG)
    make_python_model(models / "broken_link")
    (models / "broken_link" / "lost").symlink_to("nowhere")
    make_python_model(
        models / "preferred_size",
        config=PYTHON_CONFIG + "dynamic_batching { preferred_batch_size: [ 8 ] }",
    )
    make_python_model(
        models / "labels", config=PYTHON_CONFIG.replace('"Y"', '"Y" label_filename: "l.txt"')
    )
    for name, old, new in (
        ("unequal_reshape", "[ 3, 64, 64 ]", "[ 3, 64, 64 ] reshape { shape: [ 3, 64 ] }"),
        ("empty_reshape", "max_batch_size: 1", ""),
    ):
        text = PYTHON_CONFIG.replace('"X" data_type: TYPE_FP32 dims: [ 3, 64, 64 ]', ONE_NUMBER)
        make_python_model(models / name, config=replaced(text, old, new))
    (models / "misspelt" / "1").mkdir(parents=True)
    (models / "misspelt" / "config.pbtx").write_text('backend: "python"\n')
    (models / "notes").mkdir()
    (models / ".git").mkdir()
    make_ensemble(models / "ensemble_without_version")
    (models / "ensemble_without_version" / "1").rmdir()
    for name, (old, new, _) in ENSEMBLE_MISTAKES.items():
        make_ensemble(models / name, replaced(ENSEMBLE_CONFIG, old, new, count=1))
    return {name: code for name, (_, _, code) in ENSEMBLE_MISTAKES.items()} | {
        "version_v1": "no-version",
        "version_01": "no-version",
        "version_file": "no-version",
        "policy": "version-policy",
        "not_python": "python-model",
        "no_class": "python-model",
        "byte_order_mark": "config-unreadable",
        "broken_link": "broken-link",
        "preferred_size": "preferred-batch-size",
        "labels": "label-file",
        "unequal_reshape": "tensor-reshape",
        "empty_reshape": "tensor-reshape",
        "misspelt": "config-misspelt",
        "notes": "no-model",
        ".git": "no-model",
        "ensemble_without_version": "no-version",
    }


def make_healthy_models(models):
    """Make what looks odd, but is legal; return the names."""
    first = make_python_model(models / "first")
    (first / "config.pbtxt~").write_text("whatever")
    for left_over in ("best", ".ipynb_checkpoints", ".2.partial-abc"):
        (first / left_over).mkdir()
    make_ensemble(models / "chain")
    without_batch = ENSEMBLE_CONFIG.replace("max_batch_size: 1", "")
    make_ensemble(models / "chain_without_batch", without_batch)
    make_ensemble(models / "chain_with_batch_in_dims", without_batch.replace("[ 3,", "[ 1, 3,"))
    one_number = replaced(PYTHON_CONFIG, '"X" data_type: TYPE_FP32 dims: [ 3, 64, 64 ]', ONE_NUMBER)
    make_python_model(models / "one_number_a_row", config=one_number)
    tensors = ENSEMBLE_CONFIG.partition("ensemble_scheduling")[0]
    make_ensemble(
        models / "chain_of_numbers",
        replaced(tensors, '"IN" data_type: TYPE_FP32 dims: [ 3, 64, 64 ]', NUMBER_IN)
        + 'ensemble_scheduling { step { model_name: "one_number_a_row" model_version: -1 '
        'input_map { key: "X" value: "IN" } output_map { key: "Y" value: "OUT" } } }',
    )
    make_python_model(models / "without_config")
    (models / "without_config" / CONFIG).unlink()
    return [
        "first",
        "chain",
        "chain_without_batch",
        "chain_with_batch_in_dims",
        "one_number_a_row",
        "chain_of_numbers",
        "without_config",
    ]


def load(client, model):
    """Have Triton load one model; return why it did not, or nothing."""
    try:
        client.load_model(model)
    except InferenceServerException as error:
        return error.message()
    return ""


@pytest.mark.long
def test_what_check_calls_an_error_triton_refuses(small_repository, tmp_path):
    models = tmp_path / "broken"
    models.mkdir()
    expected = make_graph_models(models, small_repository / "small")
    expected |= make_other_models(models)
    healthy = make_healthy_models(models)

    said = {}
    for finding in check(models):
        if finding.severity == "error":
            said.setdefault(finding.model, set()).add(finding.code)
    assert said == {name: {code} for name, code in expected.items()}

    with (
        TritonServer(models, options=["--model-control-mode=explicit"]) as server,
        httpclient.InferenceServerClient(server.url, network_timeout=120) as client,
    ):
        said = {name: load(client, name) for name in [*healthy, *expected]}
        assert [name for name, reason in said.items() if not reason] == healthy
        assert "dims [1, 3, 64, 64], but the graph has [3, 64, 64]" in said["batch_in_dims"]

        mended = "batch_in_dims", "no_such_model"
        write_configs(models / "batch_in_dims")
        file = models / "no_such_model" / CONFIG
        file.write_text(replaced(file.read_text(), '"frist"', '"first"'))
        assert not [f for f in check(models) if f.model in mended and f.severity == "error"]
        assert [load(client, name) for name in mended] == ["", ""]
        image = np.zeros((1, 3, 64, 64), np.float32)
        assert infer(image, model="batch_in_dims", url=server.url).shape == image.shape


def test_what_keeps_a_whole_server_from_starting(tmp_path):
    make_python_model(tmp_path / "models" / "py")
    make_python_model(tmp_path / "other" / "py")
    assert [f.code for f in check(tmp_path / "models", tmp_path / "other")] == ["name-twice"]
    options = [f"--model-repository={tmp_path / 'other'}"]
    with pytest.raises(ServerError, match="not unique across all model repositories"):
        TritonServer(tmp_path / "models", options=options).start()

    (tmp_path / "jupyter" / ".ipynb_checkpoints").mkdir(parents=True)
    assert [f.code for f in check(tmp_path / "jupyter")] == ["left-over"]
    with pytest.raises(ServerError, match=r"failed to load.* '.ipynb_checkpoints'"):
        TritonServer(tmp_path / "jupyter").start()

    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "lost").symlink_to("nowhere")
    assert "broken-link" in [f.code for f in check(tmp_path / "link")]
    with pytest.raises(ServerError, match="failed to stat file"):
        TritonServer(tmp_path / "link").start()


def test_config_for_is_what_is_committed_for_an_exported_model(small_repository):
    """The real export, with the dims that OneFlow wrote; but for its size."""
    for variant, device in ((CONFIG, "gpu"), (CPU_CONFIG, "cpu")):
        text = (MODEL_REPOSITORY / "fast_neural_style" / variant).read_text()
        text = replaced(replaced(text, "fast_neural_style", "small"), "256, 256", "64, 64")
        found = config_for(small_repository / "small/1/model", name="small", device=device)
        assert found == parse_config(text, variant)
    assert not has_errors(check(small_repository))
