"""The rules by which a plan for several rows is compared with its rows alone."""

from pathlib import Path

import numpy as np
import pytest

from oneflow_backend.comparison import differs, tell_apart, tolerances
from oneflow_backend.example_inputs import kinds_of
from oneflow_backend.graph_folder import GraphFolder, TensorSpec
from oneflow_backend.verification import POISON, Verification, plan_trial

DATA_TYPES = {"float32": 2, "float64": 3, "int64": 6, "uint8": 7, "float16": 9, "bool": 12}


def folder_of(inputs, outputs=("float32",)):
    return GraphFolder(
        Path("model"),
        inputs=tuple(
            TensorSpec(f"x{i}", DATA_TYPES[each], (1, 6)) for i, each in enumerate(inputs)
        ),
        outputs=tuple(
            TensorSpec(f"y{i}", DATA_TYPES[each], (1, 6)) for i, each in enumerate(outputs)
        ),
        variables=(),
    )


def verify(function, inputs=("float32",), outputs=1, sizes=(2, 4), ranges=None, tried=None):
    """Return why plans are refused, for a stand-in of a graph: a function of arrays."""
    folder = folder_of(inputs, ("float32",) * outputs)
    ranges = ranges or [None] * len(inputs)

    def run(what, *arrays):
        if tried is not None:
            tried.append((what, len(arrays[0])))
        with np.errstate(all="ignore"):
            result = function(*arrays)
        return result if isinstance(result, tuple) else (result,)

    verification = Verification(run, folder, ranges, sizes)
    return verification.run(kinds_of(folder, ranges, []), poison=True)


def standardised(x):
    """What BatchNorm does in training; one row alone becomes zeros."""
    return (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-5)


TABLE = np.random.default_rng(0).standard_normal((10, 6)).astype(np.float32)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * 2 + 1,
        lambda x: np.exp(x) / np.exp(x).sum(axis=1, keepdims=True),
        lambda x: np.log(x),  # NaN for half of the inputs
        lambda x: np.maximum(x, 0),
        lambda x: x > 0.5,
        lambda x: x.argmax(axis=1),
        lambda x: np.where(x > 0, x, np.float32(-1e9)),
        lambda x: x.sum(axis=1),
        lambda x: (x > 0).any(axis=1),
        lambda x: np.isnan(x),
        lambda x: np.isfinite(x).all(axis=1),
    ],
)
def test_rows_that_are_treated_alike_are_verified(function):
    assert verify(function) == {}


MIXES = {
    "BatchNorm in training": standardised,
    "the same of a logarithm": lambda x: standardised(np.log(x)),
    "where every row alone gives the same": lambda x: standardised(x) + 1,
    "masked logits": lambda x: np.where(x > 0.5, standardised(x) + x, np.float32(-1e9)),
    "softmax along the batch": lambda x: x * (np.exp(x) / np.exp(x).sum(axis=0)),
    "only numbers above 100": lambda x: np.maximum(x.max(axis=0), 100) - np.maximum(x, 100) + x,
    "the next row": lambda x: np.roll(x, 1, axis=0),
    "the next row's class": lambda x: np.roll(x.argmax(axis=1), 1, axis=0),
    "which are numbers": lambda x: np.roll(np.isnan(x), 1, axis=0),
    "whether any number is large, of the next row but one": lambda x: np.roll(
        (x > 2).any(axis=1), 2, axis=0
    ),
    "NaN": lambda x: x + 0 * x.sum(axis=0),
}  # fmt: skip


@pytest.mark.parametrize("name", MIXES)
def test_rows_that_are_mixed_are_refused(name):
    refused = verify(MIXES[name])
    assert set(refused) == ({4} if "but one" in name else {2, 4})
    assert not any("could not be verified" in reason for reason in refused.values())


def test_ids_are_drawn_from_all_that_the_graph_allows():
    mixed = lambda ids: standardised(TABLE[ids].mean(axis=1))  # noqa: E731
    assert verify(mixed, ["int64"], ranges=[(0, 10)]).keys() == {2, 4}
    assert verify(lambda ids: TABLE[ids].mean(axis=1), ["int64"], ranges=[(0, 10)]) == {}


def test_a_second_input_does_not_hide_the_first():
    refused = verify(
        lambda ids, x: x + standardised(TABLE[ids].mean(axis=1)),
        ["int64", "float32"], ranges=[(0, 10), None],
    )  # fmt: skip
    assert refused.keys() == {2, 4}


def test_large_integers_that_only_a_batch_rounds_are_refused():
    rounded = lambda a, b: a + b if len(a) == 1 else (a.astype(float) + b).astype(int)  # noqa: E731
    assert verify(rounded, ["int64", "int64"]).keys() == {2, 4}


def test_results_that_never_differ_verify_nothing():
    (reason, _) = verify(lambda x: np.zeros_like(x)).values()
    assert reason.startswith("OUTPUT_0 could not be verified for 2 rows together, because none")
    assert verify(lambda x: (x, x[:, :0]), outputs=2) == {}  # nothing could be wrong in no element


def test_a_reason_is_given_for_the_plans_concerned_only():
    refused = verify(lambda x: x if len(x) < 4 else np.roll(x, 1, axis=0), sizes=(2, 4, 8))
    assert set(refused) == {4, 8}
    assert refused[4].startswith("OUTPUT_0 of 4 rows together differs from the rows run alone, by ")
    assert refused[4].endswith("on numbers from 0 to 1")


def test_a_graph_that_draws_random_numbers_is_refused():
    random = np.random.default_rng(0)
    refused = verify(lambda x: x * random.integers(0, 2, x.shape))
    assert refused[2] == "OUTPUT_0 of the same row differs from run to run"


def test_inputs_that_the_graph_does_not_take_do_not_count():
    def positive(x):
        if (x <= 0).any():
            raise ValueError("Check failed")
        return np.sqrt(x)

    assert verify(positive) == {}


def test_what_rounding_alone_explains_is_accepted():
    """Large inputs: the sine of a sum that another order of adding changes by some units."""

    def sine(x):
        total = x.sum(axis=1) if len(x) == 1 else x[:, ::-1].cumsum(axis=1)[:, -1]
        return np.sin(1e3 * total)[:, None] + x

    assert verify(sine) == {}


def test_large_plans_need_few_runs():
    tried = []
    assert verify(lambda x: x * 2, sizes=(2, 64), tried=tried) == {}
    assert sum(rows == 1 for _, rows in tried) <= 8 * len({what for what, _ in tried}) + 1
    assert {rows for what, rows in tried if what == plan_trial(64)} == {64}
    assert {rows for what, rows in tried if what == POISON} == {2, 64}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_tolerance_is_relative_to_what_stands_beside_an_element(dtype):
    relative = {"float16": 1e-2, "float32": 1e-5, "float64": 1e-12}[dtype]
    row = np.array([[3, 1e-4, 0, -2]], dtype)
    assert np.allclose(tolerances(row), 3 * relative)
    pixels = np.array([[255, 0, 17, 3]], dtype)
    assert np.allclose(tolerances(pixels), 255 * relative)


@pytest.mark.parametrize("fill", [-1e4, -1e9, -3.4e38, -np.inf])
def test_values_that_fill_places_hide_nothing(fill):
    alone = np.float32([[fill, 0.5, 1, fill], [2, fill, fill, 0.1]])
    assert tolerances(alone)[1, 3] == pytest.approx(2e-5)
    found = alone.copy()
    found[1, 3] += 1e-3
    assert differs(found[1], alone[1], tolerances(alone)[1])
    assert tell_apart(alone)[0, 1] == np.isfinite(fill)


def test_integers_are_exact_and_nan_is_equal_to_nan_only():
    none = np.zeros(2)
    assert not differs(np.array([1, 2]), np.array([1, 2]), none)
    assert differs(np.array([1, 2]), np.array([1, 3]), none)
    nan, inf = np.float32([np.nan, np.inf]), np.float32([0, np.inf])
    assert not differs(nan, nan, none)
    assert differs(nan, inf, none) and differs(inf, -inf, none)
