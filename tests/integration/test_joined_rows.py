"""Rows are joined where operators treat them independently, and nowhere else.

``batch_mixing`` has graphs that mix rows, ``batch_independent`` graphs that look as if they did.
"""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from batch_cases import rows
from batch_independent import INDEPENDENT
from batch_mixing import MIXING
from batch_operators import OPERATORS
from join_rows import graph_of

PROGRAM = Path(__file__).with_name("join_rows.py")
SECONDS = 300
TRIES = 3
#: What the backend logs when it does without a plan that it was to have.
NO_PLAN = "batches run row by row"
DIED = "OneFlow's process died"
#: Those that give something else each time.
RANDOM = ("dropout", "noise")
#: Of each value, when other shapes make kernels sum in another order.
TOLERANCE = 1e-4
#: In the default tier: one for each way to mix rows.
SOME_MIXING = [
    "softmax_of_log", "sort", "roll_takes_-1_for_all", "minibatch_deviation",
    "bn_without_statistics", "class_and_noise_bn_train", "masked_logits_bn_train", "dropout",
    "noise", "tokens_cumsum", "tokens_attention", "tokens_conv", "tokens_gather",
    "transposed_sum", "gram_matrix", "equal_ids", "first_row_by_number", "int32_sum",
]  # fmt: skip
#: In the default tier: one graph of many ways to look like that.
SOME_INDEPENDENT = [
    "argmax_as_id+bn_of_tokens+instance_norm+position_table+class_token+masked_attention+gru"
    "+transposed_and_back+windows+chosen_features+cumsum_of_tokens+part_of_channels"
    "+scatter_features+integers+scaled_by_label+unit_length",
]
#: Graphs of several, as loading a model takes seconds.
TOGETHER = [
    "+".join([*cases][i : i + 10])
    for cases in (INDEPENDENT, OPERATORS)
    for i in range(0, len(cases), 10)
]


def join(folder, names):
    """Save these graphs, and join rows, in processes of their own.

    OneFlow may end such a process at any graph: it traces short ones by the engine that crashes
    (docs/backend.md). Another one then goes on where that was; a graph has three tries.
    """
    for kind in ("mixing", "independent"):
        (folder / kind).mkdir()
    found, deaths = {}, Counter()
    while left := [name for name in names if name not in found]:
        done = subprocess.run(
            [sys.executable, PROGRAM, folder, *left],
            env={**os.environ, "GLOG_minloglevel": "3"},
            capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        found |= map(json.loads, done.stdout.splitlines())
        if len(found) < len(names):
            name = next(name for name in names if name not in found)
            deaths[name] += 1
            assert done.returncode < 0 and deaths[name] < TRIES, (name, done.stderr[-2000:])
            for kind in ("mixing", "independent"):
                shutil.rmtree(folder / kind / name, ignore_errors=True)
    return {
        "mixing": {name: found[name] for name in names if name in MIXING},
        "independent": {name: found[name] for name in names if name not in MIXING},
    }


@pytest.fixture(scope="module")
def some(tmp_path_factory):
    return join(tmp_path_factory.mktemp("some"), SOME_MIXING + SOME_INDEPENDENT)


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """All graphs, and their folder."""
    folder = tmp_path_factory.mktemp("all")
    return folder, join(folder, [*MIXING, *INDEPENDENT, *TOGETHER])


def check(found):
    """Operators in the way are named, and rows that were joined give what they give alone."""
    for name, reason in found["mixing"].items():
        assert reason.startswith(f"{MIXING[name][0]} '"), (name, reason)
    for name, difference in found["independent"].items():
        assert isinstance(difference, float) and difference <= TOLERANCE, (name, difference)


def test_some_graphs(some):
    assert len(some["mixing"]) == len(SOME_MIXING)
    assert len(some["independent"]) == len(SOME_INDEPENDENT)
    check(some)


def test_training_mode_is_named_with_what_to_do(some):
    for name in ("class_and_noise_bn_train", "masked_logits_bn_train", "dropout"):
        reason = some["mixing"][name]
        assert reason.endswith("it was traced in training mode; call eval() before tracing")
    assert "no running statistics" in some["mixing"]["bn_without_statistics"]


@pytest.mark.long
def test_all_graphs(everything):
    _, found = everything
    assert len(found["mixing"]) >= 40 and len(found["independent"]) >= 40
    check(found)


@pytest.fixture
def served(everything, model_called, wait_until):
    """Serves a saved graph with plans for 2, 3 and 4 rows.

    Gives the model, and what the log said of its last load: OneFlow's engine for graphs may crash
    on a short graph while a plan is tried, which costs the plan; it is then loaded again.
    """

    def serve(name, kind):
        folder, _ = everything
        model = model_called("_".join(name.split("+")[:2]))
        (model.folder / "1").mkdir(parents=True)
        (folder / kind / name).rename(model.folder / "1" / "model")
        model.write_config(
            'backend: "oneflow"\nmax_batch_size: 4\n'
            'parameters { key: "batch_sizes" value: { string_value: "2, 3, 4" } }\n'
        )
        for _ in range(TRIES):
            said = len(model.log())
            model.load()
            log = model.log()[said:]
            if not (kind == "independent" and NO_PLAN in log and DIED in log):
                break
            model.unload()
        if kind == "mixing":  # what a stub says is in Triton's log a moment later
            wait_until(lambda: NO_PLAN in model.log()[said:])
        return model, model.log()[said:]

    return serve


@pytest.mark.long
@pytest.mark.parametrize("name", [*MIXING, *TOGETHER])
def test_served_rows_are_as_alone(served, name):
    model, log = served(name, "mixing" if name in MIXING else "independent")
    _, *inputs = graph_of(name)
    for n in () if name in RANDOM else (2, 3, 4):
        arrays = [rows(array, n) for array in inputs]
        alone = [model.send(*(array[i : i + 1] for array in arrays)) for i in range(n)]
        for output, found in model.send(*arrays).items():
            expected = np.concatenate([each[output] for each in alone])
            if found.dtype.kind == "f":
                assert np.allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE)
            else:
                assert np.array_equal(found, expected)
    assert (NO_PLAN in log) == (name in MIXING), log
