"""Whatever is wrong with a saved graph's folder is told in one sentence, without OneFlow."""

import numpy as np
import pytest

from oneflow_backend.graph_folder import GraphFolderError, read_graph_folder

# Shortened from what OneFlow 0.9.0 writes; the second input comes first, as it may.
INPUT = '    %o{0} = "oneflow.input"(%arg{0}) {{data_type = {1} : i32, op_name = "_G_0_input.0.{0}_{2}", shape = [{3}]}} : ()'  # noqa: E501
VARIABLE = '    %v = "oneflow.variable"() {data_type = 5 : i32, op_name = "m.w", shape = [2 : si64, 3 : si64]} : ()'  # noqa: E501
READER = '    %x = "oneflow.broadcast_add"(%o0, %v) {op_name = "m-add-3"} : () -> tensor<i1>'
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


def escaped(name):
    """Return a name as MLIR writes it."""
    return "".join(
        chr(b) if 32 <= b < 127 and chr(b) not in '"\\' else "\\\\" if b == 92 else f"\\{b:02X}"
        for b in name.encode()
    )


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


def outputs(*names):
    """Return lines of outputs that have these places and keys, and are as long as they are early.

    The file has the last one first.
    """
    lines = [
        OUTPUT.replace("0.0_2", escaped(name)).replace("shape = []", f"shape = [{i} : si64]")
        for i, name in enumerate(names)
    ]
    return "\n".join(lines[::-1])


@pytest.mark.parametrize(
    "names",
    [
        ("0.0.0_stage_5", "0.0.1_stage_4", "0.0.2_stage_10"),
        ("0.0.0_left_1", "0.0.1_right_1"),
        ("0.0.0_b", "0.0.1_a"),
        ("0.0.0_.0.0.9_9", "0.0.1__G_0_output.0.0.0_0", "0.0.2_\n_1"),
        ("0.0.0.0_4", "0.0.0.1.0_6", "0.0.0.1.1.0_k", "0.0.0.1.1.1.0_10", "0.0.0.2_11", "0.0.1_9"),
        ("0.0_2", "1.0_z", "1.1_b"),
        tuple(f"0.0.{i}_{i + 3}" for i in range(113)),
    ],
)
def test_outputs_come_in_the_order_of_their_places(folder, names):
    change(folder, OUTPUT, outputs(*names))
    graph = read_graph_folder(folder)
    assert [spec.shape for spec in graph.outputs] == [(i,) for i in range(len(names))]
    assert [spec.name for spec in graph.outputs] == [f"_G_0_output.{name}" for name in names]


def test_keys_are_told_without_the_numbers_that_count(folder):
    change(folder, OUTPUT, outputs("0.0.0_4", "0.0.1_层 1", "0.0.2_a\nb"))
    keys = read_graph_folder(folder).keys()
    assert keys == ["OUTPUT_1 is '层 1'", r"OUTPUT_2 is 'a\\nb'"]


@pytest.mark.parametrize("name", ["m.层", 'm.a"b', r"m.a\22b", "m.a b", "m.a\nb", "m.\u2028"])
def test_a_variable_lies_under_its_real_name(folder, name):
    change(folder, '"m.w"', f'"{escaped(name)}"')
    (folder / "m.w").rename(folder / name)
    graph = read_graph_folder(folder)
    assert graph.read_variable(graph.variables[0]).shape == (2, 3)
    (folder / name / "out").unlink()
    assert "out is missing: the graph has a variable m." in refused(folder)


@pytest.mark.parametrize("name", ["../other/m.w", "/etc", "m/../../other/m.w", "..", "m\0w"])
def test_a_name_that_leads_out_of_the_folder(folder, name):
    (folder.parent / "other").mkdir()
    (folder / "m.w").rename(folder.parent / "other" / "m.w")
    change(folder, '"m.w"', f'"{escaped(name)}"')
    assert "would be read from outside the folder, which flow.save never writes" in refused(folder)


def test_a_name_that_no_file_can_have(folder):
    change(folder, '"m.w"', f'"{"w" * 300}"')
    assert "out is missing: the graph has a variable www" in refused(folder)


def test_a_graph_traced_in_training_mode_is_read_and_told(folder):
    assert read_graph_folder(folder).training == ()
    change(folder, OUTPUT, READER.replace("broadcast_add", "dropout") + "\n" + OUTPUT)
    assert read_graph_folder(folder).training == ("m (dropout)",)


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
    assert (
        "has 1,000,000,000,000 bytes, too many for the text of a graph; save it again"
        in refused(folder)
    )


@pytest.mark.parametrize("keep", [0.5, 0.9, 0.99])
def test_a_truncated_mlir(folder, keep):
    mlir = folder / "model.mlir"
    text = mlir.read_text()
    mlir.write_text(text[: int(len(text) * keep)])
    assert "ends too early (partly copied?)" in refused(folder)


def test_an_empty_or_strange_mlir(folder):
    (folder / "model.mlir").write_bytes(b"")
    assert "does not start with 'module': not a graph" in refused(folder)
    (folder / "model.mlir").write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in refused(folder)


def test_a_missing_variable(folder):
    (folder / "m.w" / "out").unlink()
    assert "m.w/out is missing: the graph has a variable m.w, int32 [2, 3]" in refused(folder)


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("FreeEagerTensor-2", "build() of the nn.Graph"),
        ("m.层-FreeEagerTensor-2", "forward() of the module m.层"),
    ],
)
def test_a_tensor_made_inside_build(folder, name, where):
    change(folder, '"m.w"', f'"{escaped(name)}"')
    change(folder, OUTPUT, READER + "\n" + OUTPUT)
    sentence = refused(folder)
    assert (
        f"{where} uses a tensor, int32 [2, 3], that is neither a parameter nor a buffer (in "
        "m-add-3)" in sentence
    )
    assert 'write self.register_buffer("name", tensor) in __init__ of ' in sentence
    assert "serving_kit.export.save_graph(graph, folder)" in sentence


def test_a_variable_of_the_wrong_size(folder):
    np.arange(5, dtype=np.int32).tofile(folder / "m.w" / "out")
    assert "m.w/out has 20 bytes, but int32 [2, 3] needs 24" in refused(folder)


def test_a_data_type_that_triton_does_not_have(folder):
    change(folder, "data_type = 12", "data_type = 10")
    assert "output _G_0_output.0.0_2 has OneFlow data type 10" in refused(folder)


def test_an_op_that_cannot_be_understood(folder):
    change(folder, 'op_name = "m.w"', "op_name = m.w")
    assert "the name, data type or shape of its variable" in refused(folder)


def test_no_output(folder):
    change(folder, OUTPUT, "")
    assert "has no output: build() of the nn.Graph must return a tensor" in refused(folder)
