"""What OneFlow 0.9.0 writes when it gives up, as it was seen, and what the backend says."""

import pytest

from oneflow_backend.complaints import by_chance, explain, explain_error

SEEN = {
    "inv_kernels.cpp:58] (Batch element 0): the inversion could not be completed because the input "
    "matrix is singular.": "a matrix cannot be inverted, because it is singular (operator inverse)",
    "gather_kernel_util.cpp:81] Check failed: indices[i] >= 0 (-1 vs. 0) ": (
        "an id or index is outside the table that it is looked up in: -1 is negative"
    ),
    "dim_gather_kernel_util.h:61] Check failed: x <= dim_length (5 vs. 3) RuntimeError: index 5 is "
    "out of bounds for dimension 1 with size 3": "looked up in: 5, where dimension 1 has 3 entries",
    "nd_index_slice_util.h:103] Check failed: nd_index[i] < dense_shape[i] && nd_index[i] >= "
    "-dense_shape[i] IndexError: index 9 is out of bounds for dimension 0 with size 3": (
        "looked up in: 9, where dimension 0 has 3 entries"
    ),
    "dim_scatter_scalar_kernel_util.h:140] UNIMPLEMENTEDThe index element 5 is out of bounds for "
    "dimension 1 with size 3.": "looked up in: 5, where dimension 1 has 3 entries",
    "embedding_kernel_util.cpp:54] Check failed: indice >= 0 && indice < emb_size ": (
        "outside the table that it is looked up in (operator embedding); check the ids before you"
    ),
    "one_hot_kernel.cpp:51] Check failed: idx < depth (5 vs. 3) ": "a class is out of range: 5",
    "bernoulli_kernel.cpp:64] Check failed: prob >= 0.0 && prob <= 1.0 ": (
        "a probability is not between 0 and 1 (operator bernoulli)"
    ),
    "binary_cross_entropy_kernel.cpp:32] Check failed: input_val <= 1.0 (2 vs. 1) ": (
        "a probability is not between 0 and 1 (operator binary_cross_entropy)"
    ),
    "some_kernel_util.cpp:7] Check failed: x == y ": (
        "an internal check of OneFlow failed (some); check whether the inputs contain "
    ),
}
FATAL = "F20260101 04:33:47.949875 17984 "


@pytest.mark.parametrize("line", SEEN)
def test_a_check_that_fails_in_a_run(line):
    text = (
        f"libibverbs not available\n{FATAL}{line}\n*** Check failure stack trace: ***\n    @ 0x7f\n"
    )
    sentence, words = explain(-6, text, running=True)
    assert SEEN[line] in sentence
    assert "Check failed" not in sentence and "signal" not in sentence
    assert words == f"{FATAL}{line}".strip()


@pytest.mark.parametrize(
    ("code", "text", "begins"),
    [
        (-6, "terminate called after throwing an instance of 'oneflow::RuntimeException'\n"
         "  what():  \x1b[1mError\x1b[0m: allocate failed\n",
         "there is not enough memory for the graph's results; free memory"),
        (-9, "", "it was killed from outside (SIGKILL), as the kernel does when memory runs"),
        (-8, "", "a whole number was divided by zero (SIGFPE); check the divisors"),
        (-11, "", "OneFlow itself crashed (SIGSEGV), which occasionally happens with short graphs"),
        (-6, "double free or corruption (out)\n", "OneFlow itself crashed, which occasionally"),
        (-6, "", "OneFlow ended its process (signal 6), and its message does"),
        (3, "Traceback:\nValueError: no\n", "OneFlow ended its process (exit code 3), and its"),
    ],
)  # fmt: skip
def test_how_a_process_ends(code, text, begins):
    assert explain(code, text, running=True)[0].startswith(begins)


def test_which_ends_may_be_chance():
    assert by_chance(-11, "") and by_chance(-6, "free(): invalid pointer\n")
    assert not by_chance(-6, f"{FATAL}one_hot_kernel.cpp:51] Check failed") and not by_chance(
        -9, ""
    )


@pytest.mark.parametrize(
    ("code", "line", "begins"),
    [
        (1, "loc(\"m/model.mlir\":5:10): error: unregistered operation 'oneflow.sigmoidal'",
         "OneFlow 0.9.0 does not know the operator sigmoidal"),
        (-6, FATAL + "UserOpConversion.cpp:302] Check failed: op_def.IsAttrName(attr_name) "
         "equal_nan not a attr name for op: broadcast_isclose_neq_nan",
         "OneFlow 0.9.0 saves the operator isclose in a form that it cannot load; write (x - y)"),
        (-6, FATAL + "UserOpConversion.cpp:302] Check failed: op_def.IsAttrName(attr_name) a not a "
         "attr name for op: b", "OneFlow 0.9.0 saves the operator b in a form that it cannot load"),
        (-6, FATAL + "x.cpp:1] Check failed: y", "OneFlow cannot run this graph: an internal"),
    ],
)  # fmt: skip
def test_how_loading_ends(code, line, begins):
    sentence, words = explain(code, line, running=False)
    assert sentence.startswith(begins)
    assert words == line


def test_a_kernel_that_is_missing():
    text = (
        "Cannot find the kernel matching Current OperatorConf.  The Info of OperatorConf are \n"
        " op_name: matmul1\n op_type_name: matmul\n DeviceType_Name: kCPU\n"
        " DataType_Name of a_0: kFloat16\n DataType_Name of b_0: kFloat16\n"
        " DataType_Name of out_0: kFloat16\nError Type: op_kernel_not_found_error"
    )
    sentence, words = explain_error(RuntimeError(text))
    assert sentence == (
        "OneFlow 0.9.0 has no kernel for the operator matmul with float16 on a CPU; cast its "
        "inputs to float32 inside the graph, and save it again"
    )
    assert "op_kernel_not_found" in words


def test_other_errors_keep_their_first_line():
    assert explain_error(ValueError("\x1b[1m\n too short\n more")) == (
        "too short",
        "too short\n more",
    )
    assert explain_error(ValueError("too short")) == ("too short", "")
    assert explain_error(ValueError()) == ("ValueError", "")
    assert explain_error(MemoryError())[0].startswith("there is not enough memory")
