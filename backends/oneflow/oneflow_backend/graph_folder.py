"""The contents of a folder that ``flow.save(graph, folder)`` wrote, read without OneFlow.

The folder holds ``model.mlir``, the graph as text, and one folder for each variable,
``<name>/out``: its raw little-endian bytes. Everything that can be wrong with such a folder is
found here, before OneFlow is called, because OneFlow would abort the process.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from oneflow_backend.mlir import Operator, operators
from oneflow_backend.places import has_place, key_of, place_of
from oneflow_backend.training_mode import traced_in_training

MLIR = "model.mlir"
#: Weights lie in files of their own; the text of a graph has some hundred kilobytes.
LARGEST_MLIR_BYTES = 200_000_000

#: OneFlow's ``DataType`` numbers (oneflow/core/common/data_type.proto), with the NumPy type, the
#: Triton type, and the type's name in MLIR.
DATA_TYPES = {
    2: (np.dtype("float32"), "TYPE_FP32", "f32"),
    3: (np.dtype("float64"), "TYPE_FP64", "f64"),
    4: (np.dtype("int8"), "TYPE_INT8", "si8"),
    5: (np.dtype("int32"), "TYPE_INT32", "si32"),
    6: (np.dtype("int64"), "TYPE_INT64", "si64"),
    7: (np.dtype("uint8"), "TYPE_UINT8", "ui8"),
    9: (np.dtype("float16"), "TYPE_FP16", "f16"),
    12: (np.dtype("bool"), "TYPE_BOOL", "i1"),
}

_SHAPE = re.compile(r"(?:\d{1,18} : si64(?:, )?)*")
#: How OneFlow calls a tensor made in ``build``, or in the ``forward`` of a module: ``module-...``.
_MADE_IN_BUILD = re.compile(r"(?:(.*)-)?FreeEagerTensor-\d+", re.DOTALL)


class GraphFolderError(ValueError):
    """A folder that is not what ``flow.save(graph, folder)`` writes; says what to do."""


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of a saved graph: an input, an output or a variable."""

    name: str
    data_type: int
    shape: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype:
        """The tensor's NumPy type."""
        return DATA_TYPES[self.data_type][0]

    @property
    def triton_type(self) -> str:
        """The tensor's type as config.pbtxt spells it, ``TYPE_FP32`` for example."""
        return DATA_TYPES[self.data_type][1]

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor's data."""
        return self.dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))

    def __str__(self) -> str:
        return f"{self.dtype} [{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class GraphFolder:
    """A checked folder: the graph's inputs and outputs in their order, and its variables."""

    path: Path
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    variables: tuple[TensorSpec, ...]
    #: What was traced in training mode, see ``training_mode``: ``m.drop (dropout)``.
    training: tuple[str, ...] = ()

    @property
    def mlir(self) -> Path:
        """The graph as text."""
        return self.path / MLIR

    def keys(self) -> list[str]:
        """Return which input and output has which key or keyword: ``"OUTPUT_0 is 'scores'"``."""
        return [
            f"{kind}_{i} is {printable(key)!r}"
            for kind, specs in (("INPUT", self.inputs), ("OUTPUT", self.outputs))
            for i, spec in enumerate(specs)
            if (key := key_of(spec.name))
        ]

    def read_variable(self, spec: TensorSpec) -> np.ndarray:
        """Return one variable's values, an array of ``spec.shape`` and ``spec.dtype``."""
        return np.fromfile(self.path / spec.name / "out", spec.dtype).reshape(spec.shape)


def read_graph_folder(path: str | Path) -> GraphFolder:
    """Read and check a folder that ``flow.save(graph, folder)`` wrote.

    Raises:
        GraphFolderError: the folder or its ``model.mlir`` is missing or cut off, a tensor has a
            data type that Triton does not have, or a variable's file is missing or has the wrong
            size.
    """
    path = Path(path)
    ops = list(operators(_read_mlir(path)))
    specs = _read_specs(ops, path / MLIR)
    folder = GraphFolder(
        path,
        inputs=tuple(sorted(specs["input"], key=_place)),
        outputs=tuple(sorted(specs["output"], key=_place)),
        variables=tuple(specs["variable"]),
        training=traced_in_training(ops),
    )
    if not folder.outputs:
        raise GraphFolderError(
            f"{folder.mlir} has no output: build() of the nn.Graph must return a tensor"
        )
    for variable in folder.variables:
        _check_variable(folder, variable, ops)
    return folder


def _read_mlir(path: Path) -> str:
    """Return the text of ``model.mlir``, which must be there and end as it should."""
    save_again = "save it again with flow.save(graph, folder)"
    if not path.is_dir() and (path.parent / MLIR).is_file():
        raise GraphFolderError(
            f"{path} is not a folder, but {path.parent / MLIR} is there: the graph was saved one "
            f"folder too high; save it with flow.save(graph, {str(path)!r})"
        )
    if not path.is_dir():
        raise GraphFolderError(f"{path} is not a folder: expected the graph there; {save_again}")
    mlir = path / MLIR
    if not mlir.is_file():
        if (path / path.name / MLIR).is_file():
            raise GraphFolderError(
                f"{mlir} is missing, but {path / path.name / MLIR} is there: the graph was saved "
                "one folder too deep; move it up"
            )
        if any(path.glob("*/meta")):
            raise GraphFolderError(
                f"{mlir} is missing, but variables are there: this folder holds a state dict, as "
                "flow.save(module.state_dict(), folder) writes it; save the compiled nn.Graph"
            )
        raise GraphFolderError(f"{mlir} is missing; {save_again}")
    if mlir.stat().st_size > LARGEST_MLIR_BYTES:
        raise GraphFolderError(
            f"{mlir} has {mlir.stat().st_size:,} bytes, too many for the text of a graph; "
            f"{save_again}"
        )
    try:
        text = mlir.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise GraphFolderError(f"{mlir} cannot be read ({error}); {save_again}") from None
    if not text.lstrip().startswith("module"):
        raise GraphFolderError(f"{mlir} does not start with 'module': not a graph; {save_again}")
    if "oneflow.return" not in text or not text.rstrip().endswith("}"):
        raise GraphFolderError(f"{mlir} ends too early (partly copied?); copy or {save_again}")
    return text


def _read_specs(ops: list[Operator], mlir: Path) -> dict[str, list[TensorSpec]]:
    """Return the inputs, outputs and variables of a graph."""
    specs: dict[str, list[TensorSpec]] = {"input": [], "output": [], "variable": []}
    for op in ops:
        if op.kind not in specs:
            continue
        data_type, shape = op.attributes.get("data_type", ""), op.attributes.get("shape", "?")
        named = has_place(op.name) if op.kind != "variable" else op.name
        if not (named and data_type.isdecimal() and _SHAPE.fullmatch(shape)):
            raise GraphFolderError(
                f"{mlir}: this line does not give the name, data type or shape of its {op.kind}, "
                f"so it was not written by OneFlow 0.9: {printable(op.line.strip()[:80])}..."
            )
        if int(data_type) not in DATA_TYPES:
            known = ", ".join(str(entry[0]) for entry in DATA_TYPES.values())
            raise GraphFolderError(
                f"{mlir}: {op.kind} {printable(op.name)} has OneFlow data type {data_type}, which "
                f"Triton does not have; cast it inside the graph to one of {known}"
            )
        dims = tuple(int(size.split(":")[0]) for size in shape.split(",") if size.strip())
        specs[op.kind].append(TensorSpec(op.name, int(data_type), dims))
    return specs


def _place(spec: TensorSpec) -> tuple[int, ...]:
    return place_of(spec.name)


def _check_variable(folder: GraphFolder, spec: TensorSpec, ops: list[Operator]) -> None:
    """Check that a variable's file is there and as large as its shape says."""
    if not _stays_inside(spec.name):
        raise GraphFolderError(
            f"{folder.mlir}: the variable {printable(spec.name)} would be read from outside the "
            "folder, which flow.save never writes; use only graphs from people you trust"
        )
    file = folder.path / spec.name / "out"
    shown = printable(str(file))
    size = _size_of(file)
    if size is None and _MADE_IN_BUILD.fullmatch(spec.name):
        raise GraphFolderError(f"{shown} is missing: {_made_in_build(spec, ops)}")
    if size is None:
        raise GraphFolderError(
            f"{shown} is missing: the graph has a variable {printable(spec.name)}, {spec}; copy "
            "the whole folder again"
        )
    if size != spec.nbytes:
        raise GraphFolderError(
            f"{shown} has {size} bytes, but {spec} needs {spec.nbytes}; copy the whole folder again"
        )


def _stays_inside(name: str) -> bool:
    return not Path(name).is_absolute() and ".." not in Path(name).parts and "\0" not in name


def _size_of(file: Path) -> int | None:
    try:
        return file.stat().st_size if file.is_file() else None
    except OSError:  # a name that is too long, for example
        return None


def _made_in_build(spec: TensorSpec, ops: list[Operator]) -> str:
    """Say which tensor OneFlow did not save, where the model uses it, and the fix."""
    module = _MADE_IN_BUILD.fullmatch(spec.name)[1]
    where = f"forward() of the module {printable(module)}" if module else "build() of the nn.Graph"
    value = next(op.results[0] for op in ops if op.name == spec.name and op.results)
    readers = [printable(op.name) for op in ops if value in op.operands]
    return (
        f"{where} uses a tensor, {spec}, that is neither a parameter nor a buffer (in "
        f"{', '.join(readers[:3])}), and flow.save does not save its values; write "
        f'self.register_buffer("name", tensor) in __init__ of {"that" if module else "a"} module '
        "and use self.name (modules in a list: nn.ModuleList), and save again; or save the graph "
        "as it is with serving_kit.export.save_graph(graph, folder)"
    )


def printable(text: str) -> str:
    """Return a name for a message: without characters that break its line or are invisible."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
