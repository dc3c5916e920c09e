"""What is wrong with an ensemble: each mistake by itself."""

import pytest

CONFIG = "chain/config.pbtxt"
SHAPE = "dims: [ 3, 8, 8 ]"


@pytest.mark.parametrize(
    ("old", "new", "code", "line", "sentence"),
    [
        ('platform: "ensemble"', 'backend: "ensemble"', "platform", 2, 'has platform: "ensemble"'),
        ('platform: "ensemble"\n', "", "platform", 5, "an ensemble has platform"),
        ('"net"', '"nett"', "model", 9, 'there is no model "nett" in the repository; write "net"'),
        ('"net"', '"chain"', "model", 9, 'the step "chain" is, or leads to, this ensemble again'),
        ('"net"\n      model_version: -1', '"net"', "version", 8, "wants version 0 of net"),
        ('"net"\n      model_version: -1', '"net"\n  model_version: 3', "version", 10, "version 3"),
        ("INPUT_0", "INPUT_1", "tensor", 11, 'net has no input "INPUT_1"; write "INPUT_0"'),
        ("OUTPUT_0", "OUTPUT_1", "tensor", 12, 'net has no output "OUTPUT_1"; write "OUTPUT_0"'),
        ('"X" value: "between"', '"X" value: "betwen"', "tensor", 17, '; write "between"'),
        ('"X" value: "between"', '"X" value: "IN"', "tensor", 12,
         'the tensor "between" is used by no step and is not an output'),
        ('value: "OUT"', 'value: "OUTT"', "tensor", 5, 'no step writes the output "OUT"; name it'),
        ('value: "OUT"', 'value: "between"', "tensor", 18,
         'the tensor "between" comes from step 1 already; give it another name'),
        ('value: "OUT"', 'value: "IN"', "tensor", 18,
         'the tensor "IN" comes from the ensemble\'s input already'),
        ('value: "IN"', 'value: "OUT"', "tensor", 4, 'no step reads the input "IN"'),
        ('value: "IN"', 'value: "OUT"', "tensor", 8,
         "the step net waits for what comes after it; break the cycle"),
        ('input_map { key: "INPUT_0" value: "IN" }', "", "step", 8, "step 1 has no input_map"),
        ('output_map { key: "OUTPUT_0" value: "between" }', "", "step", 8, "step 1 has no output_"),
        ('model_name: "net"', "", "step", 8, "step 1 has no model_name, which every step needs"),
        ('"IN" data_type: TYPE_FP32', '"IN" data_type: TYPE_UINT8', "fit", 11,
         '"IN" is TYPE_UINT8 [-1, 3, 8, 8] in chain, but TYPE_FP32 [-1, 3, 8, 8] in net'),
        (f'"OUT" data_type: TYPE_FP32 {SHAPE}', '"OUT" data_type: TYPE_FP32 dims: [ 8, 8 ]', "fit",
         18, 'the tensor "OUT" is TYPE_FP32'),
        ("max_batch_size: 1\n", "max_batch_size: 2\n", "batch", 3, "size is 2, but net takes"),
        ("max_batch_size: 1\n", "instance_group { kind: KIND_CPU }\n", "field", 3,
         "instance_group is not for an ensemble, which does not run on a device"),
    ],
)  # fmt: skip
def test_a_mistake(chain, old, new, code, line, sentence):
    chain.change(CONFIG, old, new)
    findings = chain.findings()
    assert {place.partition(":")[0] for _, place, _ in findings} == {CONFIG}
    assert any(
        (found, place) == (f"ensemble-{code}", f"{CONFIG}:{line}") and sentence in message
        for found, place, message in findings
    ), findings


def test_an_ensemble_without_steps(chain):
    text = (chain / CONFIG).read_text().partition("  step")[0] + "}\n"
    chain.write(CONFIG, text)
    chain.has_one("ensemble-step", f"{CONFIG}:6", "needs ensemble_scheduling { s")


def test_an_input_that_a_step_leaves_out(chain):
    extra = 'input [ { name: "Z" data_type: TYPE_FP32 dims: 1 },'
    chain.change("py/config.pbtxt", "input [", extra)
    chain.has_one(
        "ensemble-tensor",
        f"{CONFIG}:14",
        'leaves out the input "Z" of py; add input_map { key: "Z" value: "..." }',
    )
    chain.change("py/config.pbtxt", 'name: "Z"', 'name: "Z" optional: true')
    assert chain.findings() == []


@pytest.mark.parametrize(
    ("batch", "dims"), [(0, "[ 3, 8, 8 ]"), (0, "[ 1, 3, 8, 8 ]"), (1, "[ 3, -1, -1 ]")]
)
def test_shapes_that_triton_lets_pass(chain, batch, dims):
    chain.change(CONFIG, "max_batch_size: 1", f"max_batch_size: {batch}")
    chain.change(CONFIG, "[ 3, 8, 8 ]", dims)
    assert chain.findings() == []


@pytest.mark.parametrize("reshape", ["", "reshape { shape: [ ] }"])
def test_one_number_a_row_between_two_steps(chain, reshape):
    """Triton compares the steps' dims, and not what they are reshaped to."""
    number = "dims: 1 reshape { shape: [ ] }"
    chain.save_graph("net/1/model", [(2, (1, 3, 8, 8))], [(2, (1,))])
    chain.write("net/config.pbtxt", 'backend: "oneflow"\nmax_batch_size: 1\n')
    chain.change("py/config.pbtxt", SHAPE, number)
    chain.change(
        CONFIG, f'"OUT" data_type: TYPE_FP32 {SHAPE}', '"OUT" data_type: TYPE_FP32 dims: 1'
    )
    chain.change(CONFIG, "dims: 1", f"dims: 1 {reshape}")
    if reshape:
        chain.has_one("ensemble-fit", f"{CONFIG}:18", "leave its reshape out of the ensemble")
    else:
        assert chain.findings() == []


def test_an_ensemble_over_two_repositories(chain, tmp_path):
    (tmp_path / "other").mkdir()
    (chain / "py").rename(tmp_path / "other" / "py")
    assert chain.findings(tmp_path / "other") == []
    assert chain.findings()[0][0] == "ensemble-model"
