"""From an eager module to a saved graph in the model repository, verified to give the same results.

module -> ``nn.Graph`` -> ``flow.save``, in one order -> reload without the source -> compare; only
then does the new version appear in the repository, in one step.
"""

import gc
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import oneflow as flow
from oneflow import nn

from oneflow_backend.graph_folder import GraphFolderError
from oneflow_backend.saved_graph import SavedGraph
from serving_kit.errors import ExportError
from serving_kit.export.order import in_order
from serving_kit.export.saving import save_graph
from serving_kit.files import replaced_folder

#: How far eager module, graph and reloaded graph may be apart, relative to the largest value.
TOLERANCE = 1e-5
RECORD = "export.json"
STACK_DEPTH = 8


@dataclass(frozen=True)
class ExportRecord:
    """What was exported and how it was verified; kept as ``export.json`` beside the model."""

    source: str
    oneflow: str
    inputs: list[str]
    outputs: list[str]
    #: Tensors that are no buffers, see ``save_graph``.
    made_in_build: list[str]
    #: Largest absolute differences, over all outputs, on the example inputs.
    graph_against_eager: float
    reloaded_against_graph: float


class InferenceGraph(nn.Graph):
    """A static graph that does what one module does."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module
        # So deep that a line of the model is among what OneFlow notes for each operator.
        self.debug(-1, max_py_stack_depth=STACK_DEPTH)

    def build(self, *inputs: flow.Tensor) -> flow.Tensor | tuple[flow.Tensor, ...]:
        """Trace the module."""
        return self.module(*inputs)


def export_version(
    module: nn.Module, inputs: list[np.ndarray], version: str | Path, *, source: str = ""
) -> ExportRecord:
    """Save a module as one version of a served model: ``<version>/model``, ready for Triton.

    Nothing appears, and nothing that was there is touched, unless the saved graph, loaded again
    without the module's source, gives the module's results on the example inputs.

    Args:
        module: any eager module; it is traced in evaluation mode.
        inputs: example arrays, one for each argument of the module's ``forward``. Their shapes
            are the shapes that the graph will take; let them hold ordinary values, since the
            comparison is made on them.
        version: the folder of the version, ``model_repository/<model>/1`` for example.
        source: a text that says what was exported, kept in ``export.json``.

    Raises:
        ExportError: the module cannot be traced or saved, or the results differ.
    """
    version = Path(version)
    with replaced_folder(version) as partial:
        record = _export(module, inputs, partial / "model", source)
        (partial / RECORD).write_text(json.dumps(asdict(record), indent=2) + "\n")
    return record


def _export(module: nn.Module, inputs: list[np.ndarray], path: Path, source: str) -> ExportRecord:
    tensors = [flow.tensor(array) for array in inputs]
    training = module.training
    module.eval()
    graph = InferenceGraph(module)
    try:
        with flow.no_grad():
            eager = _as_arrays(module(*tensors))
        traced = _as_arrays(graph(*tensors))
        made_in_build = save_graph(graph, path)
        mlir = path / "model.mlir"
        mlir.write_text(in_order(mlir.read_text(encoding="utf-8")), encoding="utf-8")
    except Exception as error:
        raise ExportError(
            f"{type(module).__name__} cannot be exported as a saved graph: {_first_line(error)}"
        ) from error
    finally:
        # A process that exits while OneFlow holds a graph hangs.
        del graph
        gc.collect()
        module.train(training)
    reloaded = _run_saved(path, inputs)
    record = ExportRecord(
        source,
        flow.__version__,
        inputs=[f"{array.dtype} {list(array.shape)}" for array in inputs],
        outputs=[f"{array.dtype} {list(array.shape)}" for array in reloaded],
        made_in_build=made_in_build,
        graph_against_eager=_difference("graph", traced, "eager module", eager),
        reloaded_against_graph=_difference("reloaded graph", reloaded, "graph", traced),
    )
    return record


def _run_saved(path: Path, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """Load a saved graph as the backend does, without its source, and run it once."""
    try:
        with SavedGraph(path) as reloaded:
            return list(reloaded(*inputs))
    except (GraphFolderError, ValueError) as error:
        raise ExportError(f"the saved graph cannot be used: {error}") from error


def _as_arrays(result: object) -> list[np.ndarray]:
    """Return the tensors that ``forward`` gave, in lists and dictionaries too, in their order."""
    if isinstance(result, flow.Tensor):
        return [result.numpy()]
    if result is None:  # OneFlow's graphs leave it out
        return []
    if not isinstance(result, list | tuple | dict):
        raise TypeError("forward() must return tensors, alone or in tuples, lists or dictionaries")
    values = result.values() if isinstance(result, dict) else result
    return [array for value in values for array in _as_arrays(value)]


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"


def _difference(name: str, found: list[np.ndarray], other: str, expected: list[np.ndarray]):
    """Return the largest absolute difference between two lists of arrays.

    Raises:
        ExportError: they are further apart than ``TOLERANCE``, or not comparable.
    """
    if [a.shape for a in found] != [a.shape for a in expected]:
        raise ExportError(
            f"the {name} has different outputs from the {other}; nothing was exported"
        )
    largest = 0.0
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        a, b = a.astype(np.float64), b.astype(np.float64)
        if not np.array_equal(np.isfinite(a), np.isfinite(b)):
            raise ExportError(
                f"output {i}: {name} and {other} have NaN or infinity in different "
                "places; nothing was exported"
            )
        finite = np.isfinite(b)
        difference = float(np.abs(a - b, where=finite, out=np.zeros_like(b)).max(initial=0))
        allowed = TOLERANCE * max(1.0, float(np.abs(b[finite]).max(initial=0)))
        if difference > allowed:
            raise ExportError(
                f"output {i}: {name} and {other} differ by {difference:.3g}, more than "
                f"{allowed:.3g}; nothing was exported. Does forward() use random numbers?"
            )
        largest = max(largest, difference)
    return largest
