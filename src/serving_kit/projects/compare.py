"""Run a learner's network and its saved graphs on the examples: a program, for OneFlow's sake.

OneFlow may end its process, and imports for seconds. What was found is the last line of the
output, as JSON: ``difference``, or ``missing`` with a sentence. Inputs and outputs of eager mode go
to ``.progress/eager_<version>.npz``.
"""

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import oneflow as flow
from oneflow import nn

from oneflow_backend.graph_folder import GraphFolder
from oneflow_backend.saved_graph import SavedGraph

#: How far graph and eager mode may be apart, relative to the largest value.
TOLERANCE = 1e-4


class Missing(Exception):
    """What is missing, in one sentence."""


def main() -> None:
    """Compare one version of a project: ``compare.py FOLDER VERSION``."""
    folder, version = Path(sys.argv[1]), int(sys.argv[2])
    sys.path[0] = str(folder)  # in place of the folder of this program
    try:
        found = {"difference": compare(folder, version)}
    except Missing as missing:
        found = {"missing": str(missing)}
    print(json.dumps(found))


def compare(folder: Path, version: int) -> float:
    """Return how far a version's graph is from eager mode, relative to the largest value.

    Raises:
        Missing: one of them cannot be run, or they differ.
    """
    model = _load(folder / "network.py")
    inputs = _examples(model)
    eager = _run_eagerly(model, version, inputs)
    arrays = {f"INPUT_{i}": array for i, array in enumerate(inputs)}
    arrays |= {f"OUTPUT_{i}": array for i, array in enumerate(eager)}
    place = folder / "model_repository" / folder.name
    with SavedGraph(place / str(version) / "model") as graph:
        _check_inputs(graph.folder, inputs, version)
        rows = [graph(*(array[i : i + 1] for array in inputs)) for i in range(len(inputs[0]))]
    served = [np.concatenate(outputs) for outputs in zip(*rows, strict=True)]
    difference = _difference(served, eager)
    if difference is None:
        shapes = " and ".join(str([list(a.shape) for a in group]) for group in (served, eager))
        raise Missing(
            f"version {version}: graph and network({version}) give outputs of other shapes, "
            f"{shapes}; the network was changed since: python export.py {version}"
        )
    if not difference <= TOLERANCE:  # also where it is NaN
        raise Missing(_why(model, version, inputs, served, difference, place))
    kept = folder / ".progress"
    kept.mkdir(exist_ok=True)
    np.savez(kept / f"eager_{version}.npz", **arrays)
    return difference


def _why(
    model: ModuleType,
    version: int,
    inputs: list[np.ndarray],
    served: list[np.ndarray],
    difference: float,
    place: Path,
) -> str:
    """Say why a graph does not give what the network gives."""
    for path in sorted(place.iterdir()):
        if path.name.isdecimal() and int(path.name) != version:
            try:
                other = _difference(served, _run_eagerly(model, int(path.name), inputs))
            except Missing:
                continue
            if other is not None and other <= TOLERANCE:
                return (
                    f"the graph in {version}/model gives the results of network({path.name}): it "
                    f"has another version's weights; python export.py {version}"
                )
    return (
        f"version {version}: graph and network({version}) differ by {difference:.2g}; the weights "
        f"or network.py were changed since the export, or forward() uses random numbers: python "
        f"export.py {version}"
    )


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("network", path)
    model = importlib.util.module_from_spec(spec)
    sys.modules["network"] = model
    _tried("network.py cannot be imported", spec.loader.exec_module, model)
    for name in ("network", "examples"):
        if not callable(getattr(model, name, None)):
            raise Missing(f"network.py has no function {name}(); the README says what it returns")
    return model


def _examples(model: ModuleType) -> list[np.ndarray]:
    inputs = _tried("examples() in network.py fails", model.examples)
    arrays = isinstance(inputs, list | tuple) and all(isinstance(a, np.ndarray) for a in inputs)
    if not (arrays and inputs and all(array.ndim for array in inputs)):
        raise Missing(
            "examples() must return a list of arrays, one for each input of forward(), with rows "
            "in front: np.stack([row, another_row])"
        )
    if len({len(array) for array in inputs}) > 1 or len(inputs[0]) < 2:
        raise Missing(
            f"examples() gives {', '.join(str(len(array)) for array in inputs)} rows; expected "
            "the same number for each input, 2 or more"
        )
    return [np.ascontiguousarray(array) for array in inputs]


def _run_eagerly(model: ModuleType, version: int, inputs: list[np.ndarray]) -> list[np.ndarray]:
    module = _tried(
        f"network({version}) in network.py fails (are there weights of version {version}?)",
        model.network,
        version,
    )
    if not isinstance(module, nn.Module):
        raise Missing(f"network({version}) returned {type(module).__name__}, expected an nn.Module")
    if module.training:
        raise Missing(
            f"network({version}) returns a module in training mode, so dropout and BatchNorm "
            "change its results; let it return module.eval(), and export again"
        )
    with flow.no_grad():
        result = _tried(
            f"network({version}) does not take examples()",
            lambda: module(*map(flow.tensor, inputs)),
        )
    tensors = result if isinstance(result, list | tuple) else [result]
    if not all(isinstance(tensor, flow.Tensor) for tensor in tensors):
        raise Missing("forward() must return a tensor, or a tuple of tensors")
    arrays = [tensor.numpy() for tensor in tensors]
    if not all(np.isfinite(array).all() for array in arrays):
        raise Missing(
            f"network({version}) gives NaN or infinite values on examples(), with which nothing "
            "can be compared; let examples() return ordinary rows, or fix the network"
        )
    return arrays


def _check_inputs(graph: GraphFolder, inputs: list[np.ndarray], version: int) -> None:
    """Check that the graph takes one row of the examples."""
    if len(graph.inputs) != len(inputs):
        raise Missing(
            f"the graph of version {version} has {len(graph.inputs)} inputs, but examples() gives "
            f"{len(inputs)}; python export.py {version}"
        )
    for i, (spec, array) in enumerate(zip(graph.inputs, inputs, strict=True)):
        if spec.dtype != array.dtype:
            raise Missing(
                f"the graph takes {spec.dtype} for INPUT_{i}, but examples() gives {array.dtype}; "
                f"let examples() return what clients send, and run python export.py {version}"
            )
        if spec.shape == array.shape[1:]:
            raise Missing(
                f"the graph takes INPUT_{i} as {list(spec.shape)}, a row without a batch; trace it "
                f"with array[:1], which is {[1, *spec.shape]}, and save it again"
            )
        if spec.shape != (1, *array.shape[1:]):
            raise Missing(
                f"the graph takes INPUT_{i} as {list(spec.shape)}, but a row of examples() is "
                f"{[1, *array.shape[1:]]}; trace it with array[:1], and save it again"
            )


def _difference(found: list[np.ndarray], expected: list[np.ndarray]) -> float | None:
    """Return the largest difference, relative to the largest value; None for other shapes."""
    if [array.shape for array in found] != [array.shape for array in expected]:
        return None
    pairs = [
        (a.astype(np.float64), b.astype(np.float64)) for a, b in zip(found, expected, strict=True)
    ]
    return max(
        float(np.abs(a - b).max(initial=0) / max(1.0, np.abs(b).max(initial=0))) for a, b in pairs
    )


def _tried(sentence: str, function: Callable, *arguments: object) -> object:
    """Call a learner's function; what it raises becomes a sentence."""
    try:
        return function(*arguments)
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        why = f"{type(error).__name__}{f': {lines[-1]}' if lines else ''}"
        raise Missing(f"{sentence}: {why}") from error


if __name__ == "__main__":
    main()
