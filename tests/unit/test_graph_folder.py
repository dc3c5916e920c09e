"""Whatever is wrong with a saved graph's folder is told in one sentence, without OneFlow."""

import numpy as np
import pytest

from oneflow_backend.graph_folder import GraphFolderError, read_graph_folder

# Shortened from what OneFlow 0.9.0 writes; the second input comes first, as it may.
INPUT = '    %o{0} = "oneflow.input"(%arg{0}) {{data_type = {1} : i32, op_name = "_G_0_input.0.{0}_{2}", shape = [{3}]}} : ()'  # noqa: E501
VARIABLE = '    %v = "oneflow.variable"() {data_type = 5 : i32, op_name = "m.w", shape = [2 : si64, 3 : si64]} : ()'  # noqa: E501
OUTPUT = '    %y = "oneflow.output"(%x) {data_type = 12 : i32, op_name = "_G_0_output.0.0_2", shape = []} : ()'  # noqa: E501


@pytest.fixture
def folder(tmp_path):
    lines = [
        "module {",
        "  oneflow.job @G_0() {",
        INPUT.format(1, 6, 3, "7 : si64"),
        INPUT.format(0, 2, 2, "1 : si64, 3 : si64, 0 : si64"),
        VARIABLE,
        OUTPUT,
        "    oneflow.return %y : tensor<i1>",
        "  }",
        "}",
    ]
    folder = tmp_path / "model"
    (folder / "m.w").mkdir(parents=True)
    (folder / "model.mlir").write_text("\n".join(lines))
    np.arange(6, dtype=np.int32).tofile(folder / "m.w" / "out")
    (folder / "m.w" / "meta").touch()
    return folder


def change(folder, old, new):
    mlir = folder / "model.mlir"
    text = mlir.read_text()
    assert old in text
    mlir.write_text(text.replace(old, new))


def refused(folder):
    with pytest.raises(GraphFolderError) as caught:
        read_graph_folder(folder)
    sentence = str(caught.value)
    assert str(folder) in sentence and "\n" not in sentence
    return sentence


def test_inputs_and_outputs_come_in_the_order_of_their_numbers(folder):
    graph = read_graph_folder(folder)
    assert [str(spec) for spec in graph.inputs] == ["float32 [1, 3, 0]", "int64 [7]"]
    assert [(str(spec), spec.triton_type) for spec in graph.outputs] == [("bool []", "TYPE_BOOL")]


def test_a_variable_is_read_with_its_own_type(folder):
    graph = read_graph_folder(folder)
    (variable,) = graph.variables
    assert graph.read_variable(variable).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_no_folder(tmp_path):
    assert "is not a folder: expected the graph there; save it" in refused(tmp_path / "model")


def test_no_mlir(folder):
    (folder / "model.mlir").unlink()
    assert "this folder holds a state dict" in refused(folder)
    for file in folder.glob("m.w/*"):
        file.unlink()
    assert "model.mlir is missing; save it again with flow.save(graph, folder)" in refused(folder)


def test_saved_one_folder_too_deep(folder):
    inner = folder / "model"
    inner.mkdir()
    (folder / "model.mlir").rename(inner / "model.mlir")
    assert "saved one folder too deep; move it up" in refused(folder)


def test_saved_one_folder_too_high(folder):
    sentence = refused(folder / "model")
    assert "the graph was saved one folder too high; save it with flow.save(graph, " in sentence


def test_an_mlir_that_is_too_large(folder):
    with (folder / "model.mlir").open("ab") as file:
        file.truncate(10**12)  # takes no room on the disk
    assert "has 1,000,000,000,000 bytes, which no graph's text has; save it again" in refused(
        folder
    )


@pytest.mark.parametrize("keep", [0.5, 0.9, 0.99])
def test_a_truncated_mlir(folder, keep):
    mlir = folder / "model.mlir"
    text = mlir.read_text()
    mlir.write_text(text[: int(len(text) * keep)])
    assert "ends too early (half copied?)" in refused(folder)


def test_an_empty_or_strange_mlir(folder):
    (folder / "model.mlir").write_bytes(b"")
    assert "does not start with 'module': not a graph" in refused(folder)
    (folder / "model.mlir").write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in refused(folder)


def test_a_missing_variable(folder):
    (folder / "m.w" / "out").unlink()
    assert "m.w/out is missing: the graph has a variable m.w, int32 [2, 3]" in refused(folder)


@pytest.mark.parametrize("name", ["FreeEagerTensor-2", "module-FreeEagerTensor-2"])
def test_a_tensor_made_inside_build(folder, name):
    change(folder, '"m.w"', f'"{name}"')
    assert "int32 [2, 3], was made inside build(), and OneFlow 0.9.0 does not" in refused(folder)


def test_a_variable_of_the_wrong_size(folder):
    np.arange(5, dtype=np.int32).tofile(folder / "m.w" / "out")
    assert "m.w/out has 20 bytes, but int32 [2, 3] needs 24" in refused(folder)


def test_a_data_type_that_triton_does_not_have(folder):
    change(folder, "data_type = 12", "data_type = 10")
    assert "output _G_0_output.0.0_2 has OneFlow data type 10" in refused(folder)


def test_an_op_that_cannot_be_understood(folder):
    change(folder, 'op_name = "m.w"', "op_name = m.w")
    assert "no name, data type or shape of its variable" in refused(folder)


def test_no_output(folder):
    change(folder, OUTPUT, "")
    assert "has no output: build() of the nn.Graph must return a tensor" in refused(folder)
