"""Where a graph's inputs and outputs stand among what ``build`` takes and returns.

OneFlow 0.9.0 names them ``_<graph>_input.<places>_<key>`` (``ArgsTree`` in its nn/graph/util.py).
The places lead through tuples, lists and dictionaries to the tensor: ``0.1.0`` is the first tensor
in the second positional argument, ``1.0`` the first keyword argument of the call that traced the
graph. The key is that of a dictionary or keyword, which may end in a number, too; without one it is
a number that counts.
"""

import re

_NAME = re.compile(r"_[^.]*_(?:input|output)((?:\.\d{1,9})+)_(.*)", re.DOTALL)


def has_place(name: str) -> bool:
    """Return whether a name is one that OneFlow gives to an input or output."""
    return bool(_NAME.fullmatch(name))


def place_of(name: str) -> tuple[int, ...]:
    """Return an input's or output's places; sorted, they are a walk in the order of ``build``.

    The lines of ``model.mlir`` come in another order.
    """
    return tuple(map(int, _NAME.fullmatch(name)[1][1:].split(".")))


def key_of(name: str) -> str:
    """Return the key of an input or output in a dictionary, or its keyword; empty without one."""
    key = _NAME.fullmatch(name)[2]
    return "" if key.isdecimal() else key
