"""``flow.save`` for graphs, with the values that OneFlow 0.9.0 leaves out.

A tensor that a module's ``forward`` uses, and that is neither a parameter nor a buffer, becomes a
variable of the graph, but ``flow.save`` writes those of ``state_dict()`` of the modules only. Its
values are known while the graph is there.
"""

import re
from pathlib import Path

import oneflow as flow
from oneflow import nn
from oneflow.framework.check_point_v2 import _save_tensor_to_disk

from oneflow_backend.mlir import operators

#: OneFlow's note of where an operator was called: a frame of the stack.
_FRAME = re.compile(r"at '([^']*)': line (\d+)")
_ONEFLOW = str(Path(flow.__file__).parent)


def save_graph(graph: nn.Graph, folder: str | Path) -> list[str]:
    """Save a compiled graph as ``flow.save(graph, folder)`` does, but leave nothing out.

    Returns:
        For each tensor that ``flow.save`` would leave out: its shape, the module, and the line of
        the program that uses it, where OneFlow recorded it. In the saved graph the tensor has the
        values that it had when the graph was traced.
    """
    folder = Path(folder)
    flow.save(graph, str(folder))
    known, told = graph.state_dict(), []
    for op in operators((folder / "model.mlir").read_text(encoding="utf-8")):
        if op.kind == "variable" and not (folder / op.name).exists():
            _save_tensor_to_disk(known[op.name], folder / op.name)
            where = f"forward() of {op.module}" if op.module else "build()"
            line = _line_that_reads(op.name, graph)
            told.append(f"{list(known[op.name].shape)} in {where}{line and f', {line}'}")
    return told


def _line_that_reads(variable: str, graph: nn.Graph) -> str:
    """Return the line of the program that a variable is used in: ``/home/me/model.py:12``."""
    for op in graph._forward_job_proto.net.op:
        if any(f"{variable}/out" in values.s for values in op.user_conf.input.values()):
            for file, line in reversed(_FRAME.findall(op.loc)):
                if not file.startswith(_ONEFLOW):
                    return f"{file}:{line}"
    return ""
