"""The text of a graph is read as MLIR means it, whatever names it holds."""

import pytest

from oneflow_backend.mlir import operators
from oneflow_backend.training_mode import traced_in_training, training_warning

#: Shortened from what OneFlow 0.9.0 writes.
ADD = '    %5 = "oneflow.broadcast_add"(%4, %output_2) {device_name = ["@0:0"], op_name = "m.a-b-broadcast_add-4", scope = 23 : i64, alpha = 5.0E-1 : f64} : (tensor<1x3xf32>, tensor<3xf32>) -> tensor<1x3xf32>'  # noqa: E501
NORM = '    %y, %mean, %inv_variance = "oneflow.{0}"(%output, %output_1, %output_2, %output_3) {{axis = 1 : si32, op_name = "{1}-{0}-1", operand_segment_sizes = dense<[{2}]> : vector<6xi32>, training = {3}}} : (tensor<1x6xf32>)'  # noqa: E501
DROPOUT = '    %out, %mask = "oneflow.dropout"(%o) {{op_name = "{0}dropout-0", rate = 5.0E-01 : f32}} : (tensor<1x6xf32>) -> (tensor<1x6xf32>, tensor<1x6xsi8>)'  # noqa: E501


def test_an_operator_and_what_it_reads():
    (op,) = operators(f"module {{\n{ADD}\n  oneflow.return %5 : tensor<1x3xf32>\n}}")
    assert (op.kind, op.name, op.module) == ("broadcast_add", "m.a-b-broadcast_add-4", "m.a-b")
    assert (op.results, op.operands) == (("%5",), ("%4", "%output_2"))
    assert op.attributes == {"scope": "23", "alpha": "5.0E-1"}


@pytest.mark.parametrize(
    ("written", "name"),
    [
        (r"m.\E5\B1\82", "m.层"),
        (r"m.gr\C3\B6\C3\9Fe", "m.größe"),
        (r"a\22b", 'a"b'),
        (r"a\\b", r"a\b"),
        (r"a\\22b", r"a\22b"),
        (r"a\0A\E2\80\A8b", "a\n\u2028b"),
        (r"op_name = ", "op_name = "),
        (r"shape = [9 : si64]} : ()", "shape = [9 : si64]} : ()"),
        (r"data_type = 5 : i32, shape = []", "data_type = 5 : i32, shape = []"),
        (r"a\FFb", "a\udcffb"),
    ],
)
def test_a_name_is_decoded_and_nothing_in_it_is_read(written, name):
    line = f'%v = "oneflow.variable"() {{data_type = 2 : i32, loc = "{written}", op_name = "{written}", shape = [3 : si64]}} : ()'  # noqa: E501
    (op,) = operators(line)
    assert op.name == name
    assert op.attributes == {"data_type": "2", "shape": "3 : si64"}


def test_what_was_traced_in_training_mode_is_named_once():
    lines = [
        NORM.format("normalization", "m.b", "1, 1, 1, 1, 1, 0", "true"),
        NORM.format("normalization_add_relu", "m.f", "1, 0, 1, 1, 1, 1", "true"),
        DROPOUT.format("m.drop-"),
        DROPOUT.format("m.drop-"),
        DROPOUT.format(""),
    ]
    found = traced_in_training(operators("\n".join(lines)))
    assert found == (
        "m.b (BatchNorm)", "m.f (BatchNorm)", "m.drop (dropout)", "build() (dropout)",
    )  # fmt: skip
    assert "(m.b (BatchNorm), m.f (BatchNorm), m.drop (dropout), build() (dropout)), so its" in (
        training_warning(found)
    )
    assert "m.4 (dropout) and 3 more), so" in training_warning(
        tuple(f"m.{i} (dropout)" for i in range(8))
    )


def test_what_does_the_same_in_evaluation_is_no_training():
    """BatchNorm without running statistics normalizes by the batch in evaluation, too."""
    lines = [
        NORM.format("normalization", "m.b", "1, 0, 0, 1, 1, 0", "true"),
        NORM.format("normalization_add_relu", "m.f", "1, 1, 0, 0, 1, 1", "true"),
        NORM.format("normalization", "m.b", "1, 1, 1, 1, 1, 0", "false"),
        ADD,
    ]
    assert traced_in_training(operators("\n".join(lines))) == ()
