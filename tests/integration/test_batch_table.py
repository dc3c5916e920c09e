"""The table of operators that may be batched, held against OneFlow's own list of operators."""

import ctypes
import re
from pathlib import Path

import oneflow
import pytest

from oneflow_backend.batch_table import MIX_ROWS, NOT_EXACT, NOT_THE_SAME, RULES, SOURCES

TABLES = [RULES.keys(), MIX_ROWS.keys(), NOT_THE_SAME.keys(), SOURCES]
#: What has no rule, so that rows are not joined through it, by what it is for.
WITHOUT_RULE = {
    "gradients": r"\w+_grad(_\w+)?|\w*gradient\w*|grad_\w+|\w+_backward\w*|\w+_diff_\w+",
    "optimizers": r"\w*_update(_\w+)?|\w+_loss_scale_schedule|adam_bias_correction_factor"
    r"|(local_)?multi_\w+|ssp_variable_proxy|acc(_ctrl_tick)?|(un)?pack|repeat|one_embedding_\w+",
    "several devices": r"_nccl_\w+|eager_\w+|\w*parallel_cast\w*|send|recv"
    r"|\w+_(device|global)_stage|distributed_\w+|batch_norm_\w+|copy_[dh]2[dh]|identity_buffer",
    "reading data": r"\w*(R|r)eader|\w+_decoder\w*|\w+_decode|image_\w+|object_\w+|\w+_data_loader"
    r"|\w*tensor_buffer\w*|crop_mirror_\w+|CategoricalOrdinalEncode",
    "large embeddings": r"embedding_(lookup|prefetch|put|shuffle)|id_shuffle\w*|indexed_slices_\w+"
    r"|unique\w*",
    "summaries and traces": r"\w*summary\w*|nvtx_\w+|throw_error|roc_auc_score",
    "compiled": r"mlir_jit|kernel_launch|cast_to_\w+|tuple_identity|tensor_constant|same_padding",
    "fused for GPUs": r"fused_\w+|cublas_\w+|cudnn_\w+|grouped_matmul_bias",
    "quantization": r"fake_quantization|quantization",
    "seldom in a served graph": r"combined_margin_loss|ctc_loss|in_top_k|softmax_cross_entropy"
    r"|sparse_\w+|split_like|stft|tf_prelu|unsorted_batch_segment_sum",
}


@pytest.fixture(scope="module")
def registered():
    """The names of all operators that the wheel has, from its registry.

    ``UserOpRegistryMgr`` begins with a ``std::unordered_map`` by name, whose nodes are a chain:
    the next one, then the name, as manylinux2014's libstdc++ has them.
    """
    (library,) = Path(oneflow.__file__).parents[1].glob("oneflow.libs/liboneflow-*.so")
    get = ctypes.CDLL(str(library))._ZN7oneflow7user_op17UserOpRegistryMgr3GetEv
    get.restype = ctypes.POINTER(ctypes.c_size_t)
    _, _, node, count = get()[:4]
    names = []
    while node:
        node, name = (ctypes.c_size_t * 2).from_address(node)
        names.append(ctypes.string_at(name).decode())
    assert len(names) == count > 600
    return set(names)


def test_the_tables_name_operators_that_there_are_and_each_once(registered):
    named = [name for table in TABLES for name in table]
    assert len(named) == len(set(named))
    assert not {*named} - registered
    assert {kind for kind, _ in NOT_EXACT} <= RULES.keys()


def test_every_operator_has_a_rule_or_a_reason_to_have_none(registered):
    left = registered - {name for table in TABLES for name in table}
    reasons = {name: [] for name in left}
    for name in left:
        reasons[name] = [why for why, names in WITHOUT_RULE.items() if re.fullmatch(names, name)]
    assert not [name for name, why in reasons.items() if not why]
    used = {why for found in reasons.values() for why in found}
    assert used == WITHOUT_RULE.keys()
