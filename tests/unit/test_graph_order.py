"""The operators of a saved graph come in the order of the program, in whichever they were saved."""

import random

import pytest

from serving_kit.export.order import in_order

HEAD = """\
module {
  oneflow.job @Graph_0(%arg0: tensor<1xf32>) -> tensor<1xf32> {
    %output = "oneflow.input"(%arg0) {op_name = "_Graph_0_input.0.0_2"} : (tensor<1xf32>) -> t
    %output_0 = "oneflow.variable"() {op_name = "module.weight"} : () -> tensor<1xf32>
"""
TAIL = """\
    oneflow.return %output_1 : tensor<1xf32>
  }
}
"""
#: name, operation, what it takes; in the order of the program.
PROGRAM = [
    ("module-negative-0", "negative", ["output"]),
    ("module-split-1", "split", ["module-negative-0"]),
    ("module-add-2", "add", ["module-split-1#0", "output_0"]),
    ("module-relu-9", "relu", ["output_0"]),
    ("module-mul-10", "mul", ["module-add-2", "module-relu-9"]),
    ("module-mul-11", "mul", ["module-split-1#1", "module-mul-10"]),
]
LAST = '    %output_1 = "oneflow.output"(%{}) {{op_name = "_Graph_0_output.0.0_2"}} : (t) -> t\n'


def text_of(program):
    """Write a program as OneFlow does: values are numbered as they come."""
    numbers, lines = {"output": "output", "output_0": "output_0"}, []
    for number, (name, _, _) in enumerate(program):
        numbers[name] = str(number)
    for name, operation, takes in program:
        values = []
        for value in takes:
            maker, _, part = value.partition("#")
            values.append(f"%{numbers[maker]}{'#' + part if part else ''}")
        many = ":2" if operation == "split" else ""
        attributes = f'{{note = "5% of it", op_name = "{name}"}}'
        lines.append(
            f'    %{numbers[name]}{many} = "oneflow.{operation}"({", ".join(values)}) {attributes}'
            " : (t) -> t\n"
        )
    return HEAD + "".join(lines) + LAST.format(numbers["module-mul-11"]) + TAIL


def shuffled(seed):
    """The program in another order in which each operator follows what it takes."""
    left, done, order = list(PROGRAM), {"output", "output_0"}, []
    chance = random.Random(seed)
    while left:
        ready = [step for step in left if all(v.partition("#")[0] in done for v in step[2])]
        step = chance.choice(ready)
        left.remove(step)
        done.add(step[0])
        order.append(step)
    return order


@pytest.mark.parametrize("seed", range(20))
def test_every_order_becomes_that_of_the_program(seed):
    # The output has no number that tells its place; it comes when what it takes is there.
    assert in_order(text_of(shuffled(seed))) == text_of(PROGRAM)


def test_the_shuffled_ones_differ():
    assert len({text_of(shuffled(seed)) for seed in range(20)}) > 2


def test_something_else_than_operators_is_left_alone():
    text = text_of(PROGRAM).replace('    %3 = "oneflow.relu"', "    %3 = other.relu")
    assert in_order(text) == text
