"""One order for the operators of a saved graph, so that the same export gives the same bytes.

OneFlow 0.9.0 goes through an operator's successors in the order of their addresses in memory, so
``flow.save`` writes those that do not depend on each other in a different order every time. The
order has no meaning: any order in which each operator follows its inputs is the same graph. Here
it is the order in which the module's ``forward`` called them, which OneFlow keeps in their names.
"""

import re

from oneflow_backend import topological

#: A line of ``model.mlir`` with one operator: what it gives, what it takes, its name.
OPERATOR = re.compile(r' *(%[\w#:]+) = "oneflow\.(\w+)"\(([^)]*)\) \{.*\bop_name = "([^"]+)"')
VALUE = re.compile(r"%[\w]+")
#: Values without a name of their own are numbered from the top.
NUMBERED = re.compile(r"%(\d+)")
#: What takes nothing, and comes first, in the order that it already has.
SOURCES = ("input", "variable")


def in_order(mlir: str) -> str:
    """Return the text of a graph with its operators in the order of the program.

    A text with anything other than one operator per line is returned unchanged.
    """
    lines = mlir.splitlines()
    found = [OPERATOR.match(line) for line in lines]
    places = [i for i, match in enumerate(found) if match and match[2] not in SOURCES]
    if not places or places != list(range(places[0], places[-1] + 1)):
        return mlir
    operators = [found[i] for i in places]
    made_by = {VALUE.match(match[1])[0]: k for k, match in enumerate(operators)}
    needs = [{made_by[v] for v in VALUE.findall(match[3]) if v in made_by} for match in operators]
    order = topological.in_order(needs, [_call(match[4]) for match in operators])
    lines[places[0] : places[-1] + 1] = _renumbered([lines[places[k]] for k in order])
    return "\n".join(lines) + "\n"


def _call(name: str) -> tuple[int, str]:
    """Return the place of an operator in the program: the number that ends its name."""
    number = re.search(r"\d+$", name)
    return int(number[0]) if number else 0, name


def _renumbered(lines: list[str]) -> list[str]:
    """Number the values without a name from 0 on, in the order in which they are made."""
    numbers: dict[str, int] = {}

    def renumber(match: re.Match) -> str:
        return f"%{numbers.setdefault(match[1], len(numbers))}"

    heads_and_tails = (line.partition(") {") for line in lines)
    return [NUMBERED.sub(renumber, head) + brace + tail for head, brace, tail in heads_and_tails]
