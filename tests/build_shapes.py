"""Functions that take and return tensors in every way that OneFlow 0.9.0 allows for ``build``."""

from collections import OrderedDict

import numpy as np
import oneflow as flow

ROWS = 3
#: What ``build`` gets, by the name of the graph: positional and keyword arguments, and in place of
#: a tensor the number that tells it from the others.
ARGUMENTS, BUILDS = {}, {}


def graph(*positional, **keywords):
    def note(build):
        ARGUMENTS[build.__name__], BUILDS[build.__name__] = (positional, keywords), build
        return build

    return note


@graph(1, 2)
def two_and_two(_, a, b):
    return a - b, a * 2


@graph(1, z=2, b=3)
def keywords_only(_, x, *, b, z):
    return x - 2 * b + z


@graph(1, z=2, b_0=3, a_9=4)
def any_keywords(_, x, **others):
    return x - others["b_0"] * others["z"] + 3 * others["a_9"]


@graph(b=2, a=1)
def positional_by_keyword(_, a, b):
    return a - 2 * b


@graph({"z_1": 1, "b_0": 2, "plain": 3, "_7": 4})
def takes_a_dict(_, d):
    return d["z_1"] - 2 * d["b_0"] + 4 * d["plain"] - 8 * d["_7"]


@graph(1)
def stages(_, x):
    return {"stage_5": x + 1, "stage_4": x * 2, "stage_10": x - 3}


@graph(1)
def same_numbers(_, x):
    return {"left_1": x + 1, "right_1": x * 2}


@graph(1)
def keys_without_numbers(_, x):
    return {"b": x + 1, "a": x * 2}


@graph(1)
def keys_like_places(_, x):
    return {"Gr_0_output.0.9_9": x + 1, ".0.0.0_1": x * 2, "_output.0.0.0.0_0": x - 3}


@graph({'"': 1, "\\": 2, "层": 3, "a b": 4, "\n": 5, "\u2028": 6, "op_name = ": 7, "\\22": 8})
def strange_keys(_, d):
    total = sum(tensor * 2**i for i, tensor in enumerate(d.values()))
    return {key: total + i for i, key in enumerate(d)}


@graph(1)
def ordered_dict(_, x):
    return OrderedDict([("q", x + 1), ("c", x * 2)])


@graph(1)
def nested(_, x):
    return [x + 1, (x + 2, {"k": x + 3, "a": [x + 4]}), x + 5], {"y_0": x + 6}, x + 7


@graph(1, [2, (3, {"k_1": 4, "a_0": [5]}), 6], more={"y": [7], "x": 8})
def takes_nested(_, x, given, more):
    first, (second, third), last = given
    total = x - 2 * first + 4 * second - 8 * third["k_1"] + 16 * third["a_0"][0] - 32 * last
    return total + 64 * more["y"][0] - 128 * more["x"]


@graph(1)
def one_in_a_list(_, x):
    return [x + 1]


@graph(1)
def one_in_a_tuple(_, x):
    return (x + 1,)


@graph(1)
def one_in_lists(_, x):
    return [[x + 1]]


@graph([1])
def takes_a_list(_, given):
    return given[0] + 1


@graph(1)
def nothing_beside(_, x):
    return [], x + 1, {}, None, x * 2


@graph(1, None, 2)
def takes_none(_, x, nothing, y):
    return x - 2 * y


@graph(1)
def same_tensor_twice(_, x):
    y = x + 1
    return y, x * 2, y


@graph(1)
def the_input(_, x):
    return x


@graph(1, 2)
def inputs_among_outputs(_, x, y):
    return y, x + 1, x, y


@graph(1)
def a_constant(_, x):
    return x + 1, flow.ones(1, 3) * 2


@graph(1)
def a_constant_alone(_, x):
    return flow.ones(1, 3) * 2


@graph(1, 2)
def an_input_that_is_not_used(_, x, y):
    return y * 3


@graph(1)
def thirteen_out(_, x):
    return [x + i for i in range(13)]


@graph(1)
def thirteen_by_key(_, x):
    return {f"k{i}": x + i for i in range(13)}


@graph(*range(13))
def thirteen_in(_, *tensors):
    return sum(tensor * 2**i for i, tensor in enumerate(tensors))


@graph(*range(113))
def many_in(_, *tensors):
    return [tensors[i] - 2 * tensors[i - 1] for i in range(1, len(tensors), 30)]


def tensor_of(number):
    values = np.random.default_rng(number).integers(-40, 40, (ROWS, 3))
    return (values + number / 128).astype(np.float32)  # sums of such numbers are exact


def mapped(value, change):
    """Return a value with each number or tensor in it changed."""
    if isinstance(value, dict):
        return type(value)((key, mapped(each, change)) for key, each in value.items())
    if isinstance(value, list | tuple):
        return type(value)(mapped(each, change) for each in value)
    return None if value is None else change(value)


def walk(value):
    """Return the tensors in a value, in their order."""
    found = []
    mapped(value, found.append)
    return found


def arguments_of(name, row):
    """Return the positional and the keyword arguments of a build, with one row of each tensor."""
    return mapped(ARGUMENTS[name], lambda number: flow.tensor(tensor_of(number)[row : row + 1]))
