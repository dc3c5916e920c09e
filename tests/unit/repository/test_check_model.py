"""What is wrong with one model's configuration, graph or source: each mistake by itself."""

import shutil

import pytest

FLOAT32, INT64 = 2, 6
PICTURE = (FLOAT32, (1, 3, 8, 8))
HINT = 'for a saved OneFlow graph, write backend: "oneflow"'


@pytest.mark.parametrize(
    ("old", "new", "code", "line", "sentence"),
    [
        ('name: "net"', 'name: "nett"', "name", 1,
         'the name is "nett", but the folder is called "net", and they must match; change o'),
        ("max_batch_size", "max_batchsize", "config-unreadable", 3,
         'there is no field "max_batchsize" here; write "max_batch_size"'),
        ("max_batch_size: 1", "max_batch_size: -1", "max-batch-size", 3, "write 0 for no batches"),
        ('backend: "oneflow"\n', "", "backend", 0, f"is missing; {HINT}"),
        ("backend:", "platform:", "backend", 2, f'(platform: "oneflow" names none); {HINT}'),
        ('"oneflow"', '"onflow"', "backend", 2, 'which have oneflow and python; write "oneflow"'),
        ('"oneflow"', '"OneFlow"', "backend", 2, 'no backend "OneFlow" in the kit\'s servers'),
        ('"oneflow"', '"onnxruntime"', "backend", 2, "write one of oneflow, python"),
        ("INPUT_0", "input_0", "tensor-name", 7,
         "names the inputs input_0, but the graph has INPUT_0; use the graph's names"),
        ("FP32", "UINT8", "tensor-data-type", 8, "is TYPE_UINT8, but the graph has TYPE_FP32"),
        ("    data_type: TYPE_FP32\n", "", "tensor-data-type", 6, "INPUT_0 has no data_type"),
        ("[ 3, 8", "[ 1, 3, 8", "tensor-batch", 9,
         "INPUT_0 has dims [1, 3, 8, 8], but the graph has [3, 8, 8] (without the batch, which"),
        ("8, 8 ]", "8, 9 ]", "tensor-dims", 9, "dims [3, 8, 9], but the graph has [3, 8, 8]"),
        ("8, 8 ]", "-1, -1 ]", "tensor-dims", 9, "has dims [3, -1, -1], but the graph has"),
        ("8, 8 ]", "0, 8 ]", "tensor-dims", 9, "[3, 0, 8], but each must be 1 or more, or -1"),
        ("    dims: [ 3, 8, 8 ]\n", "", "tensor-dims", 6, "INPUT_0 has no dims; write its shape"),
    ],
)  # fmt: skip
def test_a_configuration_of_a_graph(repository, old, new, code, line, sentence):
    repository.change("net/config.pbtxt", old, new, count=1)
    repository.has_one(code, f"net/config.pbtxt{f':{line}' if line else ''}", sentence)


@pytest.mark.parametrize(
    ("inputs", "outputs", "code", "line", "sentence"),
    [
        ([(FLOAT32, (2, 3, 8, 8))], [PICTURE], "tensor-batch", "", "without a leading batch of 1"),
        ([PICTURE], [(FLOAT32, (1, 0))], "tensor-size", "", "so it has no elements"),
        ([], [PICTURE], "tensor-batch", "", "no input with a batch dimension; write max_batch"),
    ],
)
def test_a_graph_that_does_not_fit_a_batch(repository, inputs, outputs, code, line, sentence):
    repository.save_graph("net/1/model", inputs, outputs)
    repository.write("net/config.pbtxt", 'backend: "oneflow"\nmax_batch_size: 1')
    repository.has_one(code, f"net/config.pbtxt{line}", sentence)


@pytest.mark.parametrize(
    ("reshape", "code", "sentence"),
    [
        ("", "tensor-dims", "OUTPUT_0 has dims [1], but the graph has one number per row (a batch"),
        ("reshape { shape: [ ] }", None, None),
        ("reshape { shape: [ 1 ] }", "tensor-reshape", "write dims: [ 1 ] reshape { shape: [ ] }"),
    ],
)
def test_one_number_a_row(repository, reshape, code, sentence):
    repository.save_graph("net/1/model", [PICTURE], [(FLOAT32, (1,))])
    output = f'output {{ name: "OUTPUT_0" data_type: TYPE_FP32 dims: 1 {reshape} }}'
    text = (repository / "net/config.pbtxt").read_text()
    repository.write("net/config.pbtxt", text.partition("output")[0] + output)
    if code:
        repository.has_one(code, "net/config.pbtxt:12", sentence)
    else:
        assert repository.findings() == []


def test_an_empty_reshape_without_a_batch(repository):
    repository.save_graph("net/1/model", [PICTURE], [(FLOAT32, ())])
    output = 'output { name: "OUTPUT_0" data_type: TYPE_FP32 dims: 1 reshape { } }'
    repository.write("net/config.pbtxt", f'backend: "oneflow"\n{output}')
    place = "net/config.pbtxt:2"
    sentence = "OUTPUT_0 has dims [1] and reshape { shape: [] }, but Triton takes an empty reshape"
    repository.has_one("tensor-reshape", place, sentence, severity="warning")
    assert repository.findings() == []  # the backend leaves it out, but for a model of Python:
    repository.write("py/config.pbtxt", f'backend: "python"\n{output}')
    repository.has_one("tensor-reshape", "py/config.pbtxt:2", sentence)


def test_names_in_the_wrong_order(repository):
    repository.save_graph("net/1/model", [PICTURE, (INT64, (1, 5))])
    second = '  { name: "INPUT_0" data_type: TYPE_INT64 dims: 5 },\n  {\n    name: "INPUT_1"'
    repository.change("net/config.pbtxt", '  {\n    name: "INPUT_0"', second)
    repository.has_one(
        "tensor-order",
        "net/config.pbtxt:6",
        "INPUT_0 and INPUT_1 have each other's type and dims; inputs are numbered in the graph's",
    )


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("batch_sizes", "8", '"8", but must be left out while max_batch_size is 1; raise'),
        ("max_retrys", "2", "parameter max_retrys is unknown; the backend has: batch_sizes, "),
        ("run_timeout_seconds", "soon", "must be a number of seconds above 0"),
    ],
)
def test_parameters_of_the_backend(repository, key, value, sentence):
    for name, setting in (("max_retries", "1"), (key, value)):
        line = f'parameters {{ key: "{name}" value: {{ string_value: "{setting}" }} }}\n'
        repository.append("net/config.pbtxt", line)
    repository.has_one("parameter", "net/config.pbtxt:22", sentence)


@pytest.mark.parametrize(
    ("old", "new", "severity", "code", "line", "sentence"),
    [
        ("input [", 'input [ { name: "X" data_type: TYPE_FP32 dims: [ 3, 8, 8 ] },',
         "warning", "tensor-name", 4, "X is given twice"),
        ("input [", "input [ { data_type: TYPE_FP32 dims: [ 3, 8, 8 ] },",
         "error", "tensor-name", 4, "this input has no name; give it"),
        ('"X" data_type: TYPE_FP32', '"X" data_type: 99',
         "warning", "tensor-data-type", 4, "X has the data_type 99; write one, as TYPE_FP32"),
        ("max_batch_size: 1", "max_batch_size: 4 dynamic_batching { preferred_batch_size: [ 8 ] }",
         "error", "preferred-batch-size", 3, "8 must be from 1 to max_batch_size, which is 4"),
        ("max_batch_size: 1", "max_batch_size: 1 dynamic_batching { }",
         "warning", "dynamic-batching", 3, "joins nothing while max_batch_size is 1"),
        ('"Y" data_type: TYPE_FP32', '"Y" data_type: TYPE_FP32 reshape { shape: [ 3, 8 ] }',
         "error", "tensor-reshape", 5, "reshape { shape: [3, 8] }, but the two do not have the"),
        ('"Y" data_type: TYPE_FP32', '"Y" data_type: TYPE_FP32 reshape { shape: [ 0, 8 ] }',
         "error", "tensor-reshape", 5, "but each size must be 1 or more, or -1 for any; correct"),
        ('"X" data_type: TYPE_FP32 dims: [ 3, 8, 8 ]',
         '"X" data_type: TYPE_FP32 dims: [ 4, -1, 3 ] reshape { shape: [ -1, 12 ] }',
         "error", "tensor-reshape", 4, "the two do not have the same number of elements; correct"),
        ('name: "Y"', 'name: "Y" label_filename: "labels.txt"',
         "error", "label-file", 5, "Y has its labels in labels.txt, which is not"),
    ],
)  # fmt: skip
def test_what_triton_itself_expects(repository, old, new, severity, code, line, sentence):
    repository.change("py/config.pbtxt", old, new)
    repository.has_one(code, f"py/config.pbtxt:{line}", sentence, severity=severity)


@pytest.mark.parametrize(
    ("source", "line", "sentence"),
    [
        (None, "", "is missing, and Triton's python backend waits forever without it"),
        ("def f(:\n", ":1", "is not Python: invalid syntax; fix this line"),
        ("class Model: pass\n", "", "has no class TritonPythonModel, which Triton looks for"),
        ("\0", "", "is not Python (source code string cannot contain null bytes)"),
        ("(" * 10_000, ":1", "is not Python"),
    ],
)
def test_the_source_of_a_python_model(repository, source, line, sentence):
    file = repository / "py/1/model.py"
    if source is None:
        file.unlink()
    else:
        file.write_text(source)
    repository.has_one("python-model", f"py/1/model.py{line}", sentence)


def halve(graph):
    (graph / "w" / "out").write_bytes(b"1234")


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (shutil.rmtree, "is not a folder: expected the graph there; save it again with flow.save("),
        (halve, "w/out has 4 bytes, but float32 [2] needs 8; copy the whole folder again"),
    ],
)
def test_a_graph_that_is_not_whole(repository, damage, sentence):
    """What else may be wrong with it, tests/unit/test_graph_folder.py has."""
    damage(repository / "net/1/model")
    repository.has_one("graph-folder", "net/1/model", sentence)
    repository.save_graph("net/2/model")  # now version 1 is not served any more
    assert repository.findings() == []
    repository.has_one("graph-folder", "net/1/model", sentence, severity="warning")


def test_a_graph_that_was_traced_in_training_mode(repository):
    dropout = '%x = "oneflow.dropout"(%a) {op_name = "m.drop-dropout-0", rate = 0.5 : f32} : ()'
    repository.change("net/1/model/model.mlir", "oneflow.return", f"{dropout}\noneflow.return")
    repository.has_one(
        "training-mode",
        "net/1/model",
        "traced in training mode (m.drop (dropout)), so its outputs",
        "call eval() on the module",
        severity="warning",
    )
    assert repository.findings() == []
    repository.save_graph("net/2/model")  # now version 1 is not served any more
    assert repository.findings(severity="warning") == []


@pytest.mark.parametrize(
    ("group", "code", "sentence"),
    [
        ("kind: 99", "kind", "no kind 99; write KIND_CPU or KIND_GPU"),
        (
            "kind: KIND_GPU",
            "kind-gpu",
            "kind: KIND_GPU, but this machine has no GPU (nvidia-smi li",
        ),
        ("kind: KIND_CPU gpus: 0", "gpus", "gpus: [0] is only for kind: KIND_GPU, and this is KIN"),
        ("kind: KIND_MODEL gpus: 0", "gpus", "and this is KIND_MODEL; leave gpus out"),
        ("count: 1 gpus: 0", "gpus", "this is KIND_CPU on a machine without a usable GPU"),
        ("kind: KIND_GPU gpus: -1", "gpus", "GPUs are counted from 0; write gpus: [ 0 ]"),
    ],
)
def test_where_a_model_is_told_to_run(repository, group, code, sentence):
    repository.append("py/config.pbtxt", f"instance_group {{ {group} }}\n")
    repository.has_one(code, "py/config.pbtxt:6", sentence)


@pytest.mark.parametrize(
    ("gpu", "code", "sentence"),
    [
        (0, None, None),
        (5, "gpus", "there is no GPU 5 here that the backend oneflow runs on, but GPU 0 (NVIDIA A10"
         ", compute capability 8.6); write gpus: [ 0 ]"),
        (1, "gpus", "there is no GPU 1 here that the backend oneflow runs on, but GPU 0 (NVIDIA A10"
         ", compute capability 8.6); write gpus: [ 0 ]"),
    ],
)  # fmt: skip
def test_a_gpu_by_its_number(repository, put_gpus, gpu, code, sentence):
    put_gpus("0, NVIDIA A10, 8.6", "1, NVIDIA H100, 9.0")
    repository.change("net/config.pbtxt", "KIND_CPU", f"KIND_GPU\n gpus: [ {gpu} ]")
    if code:
        repository.has_one(code, "net/config.pbtxt:21", sentence)
    else:
        assert repository.findings() == []


def test_a_gpu_that_oneflow_has_no_kernels_for(repository, put_gpus):
    put_gpus("0, NVIDIA H100, 9.0")
    repository.append("py/config.pbtxt", "instance_group { kind: KIND_GPU }\n")
    assert repository.findings() == []  # Python runs beside any GPU
    repository.change("net/config.pbtxt", "KIND_CPU", "KIND_GPU")
    repository.has_one(
        "kind-gpu",
        "net/config.pbtxt:20",
        "OneFlow 0.9.0 has no kernels for GPU 0 (NVIDIA H100, compute capability 9.0)",
    )
