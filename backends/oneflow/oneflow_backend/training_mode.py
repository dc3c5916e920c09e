"""Detects that a graph was traced in training mode, because ``eval()`` was forgotten."""

from collections.abc import Iterable

from oneflow_backend.mlir import Operator

#: BatchNorm, and BatchNorm with what follows it; the place of its running mean among the operands.
_NORMS = {"normalization": 1, "normalization_add_relu": 2}
#: More modules than this are not named, but counted.
MOST = 5


def traced_in_training(ops: Iterable[Operator]) -> tuple[str, ...]:
    """Return the modules that work in training mode: ``m.b (BatchNorm)``.

    BatchNorm without running statistics is not among them: it has no evaluation mode.
    """
    found = (f"{op.module or 'build()'} ({what})" for op in ops if (what := _trains(op)))
    return tuple(dict.fromkeys(found))


def _trains(op: Operator) -> str | None:
    if "dropout" in op.kind or op.kind == "random_mask_like":
        return "dropout"
    if op.kind in _NORMS and op.attributes.get("training") == "true":
        operands = op.attributes.get("operand_segment_sizes", "").split(", ")
        place = _NORMS[op.kind]
        if operands[place : place + 1] == ["1"]:
            return "BatchNorm"
    return None


def training_warning(modules: tuple[str, ...]) -> str:
    """Return the sentence that names such modules."""
    more = f" and {len(modules) - MOST} more" if len(modules) > MOST else ""
    return (
        f"the graph was traced in training mode ({', '.join(modules[:MOST])}{more}), so its "
        "outputs differ from those in evaluation mode; call eval() on the module before the "
        "first call of its nn.Graph, and save it again"
    )
