"""What lies in a folder that ``flow.save(graph, folder)`` wrote, read without OneFlow.

The folder holds ``model.mlir``, the graph as text, and one folder for each variable,
``<name>/out``: its raw little-endian bytes. Everything that can be wrong with such a folder is
found here, before OneFlow is called, because OneFlow would abort the process.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

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

_OP = re.compile(r'"oneflow\.(input|output|variable)"\(')
_NAME = re.compile(r'\bop_name = "([^"]*)"')
_NUMBERED = re.compile(r"_\d{1,9}$")
_DATA_TYPE = re.compile(r"\bdata_type = (\d{1,9}) : i32")
_SHAPE = re.compile(r"\bshape = \[((?:\d{1,18} : si64(?:, )?)*)\]")
#: How OneFlow calls a tensor made in ``build``, or in the ``forward`` of a module: ``module-...``.
_MADE_IN_BUILD = re.compile(r"^(.*-)?FreeEagerTensor-")


class GraphFolderError(ValueError):
    """A folder that is not what ``flow.save(graph, folder)`` writes, and what to do about it."""


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

    @property
    def mlir(self) -> Path:
        """The graph as text."""
        return self.path / MLIR

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
    specs = _read_specs(_read_mlir(path), path / MLIR)
    folder = GraphFolder(
        path,
        inputs=tuple(sorted(specs["input"], key=_position)),
        outputs=tuple(sorted(specs["output"], key=_position)),
        variables=tuple(specs["variable"]),
    )
    if not folder.outputs:
        raise GraphFolderError(
            f"{folder.mlir} has no output: build() of the nn.Graph must return a tensor"
        )
    for variable in folder.variables:
        _check_variable(path, variable)
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
            f"{mlir} has {mlir.stat().st_size:,} bytes, which no graph's text has; {save_again}"
        )
    try:
        text = mlir.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise GraphFolderError(f"{mlir} cannot be read ({error}); {save_again}") from None
    if not text.lstrip().startswith("module"):
        raise GraphFolderError(f"{mlir} does not start with 'module': not a graph; {save_again}")
    if "oneflow.return" not in text or not text.rstrip().endswith("}"):
        raise GraphFolderError(f"{mlir} ends too early (half copied?); copy or {save_again}")
    return text


def _read_specs(text: str, mlir: Path) -> dict[str, list[TensorSpec]]:
    """Return the inputs, outputs and variables that the text names; OneFlow writes one a line."""
    specs: dict[str, list[TensorSpec]] = {"input": [], "output": [], "variable": []}
    for line in text.splitlines():
        op = _OP.search(line)
        if not op:
            continue
        name, data_type, shape = _NAME.search(line), _DATA_TYPE.search(line), _SHAPE.search(line)
        numbered = name and (op[1] == "variable" or _NUMBERED.search(name[1]))
        if not (numbered and data_type and shape):
            raise GraphFolderError(
                f"{mlir}: this line has no name, data type or shape of its {op[1]}, so it was not "
                f"written by OneFlow 0.9: {line.strip()[:80]}..."
            )
        if int(data_type[1]) not in DATA_TYPES:
            known = ", ".join(str(entry[0]) for entry in DATA_TYPES.values())
            raise GraphFolderError(
                f"{mlir}: {op[1]} {name[1]} has OneFlow data type {data_type[1]}, which Triton "
                f"does not have; cast it inside the graph to one of {known}"
            )
        dims = tuple(int(size.split(":")[0]) for size in shape[1].split(",") if size.strip())
        specs[op[1]].append(TensorSpec(name[1], int(data_type[1]), dims))
    return specs


def _position(spec: TensorSpec) -> int:
    """Return an input's or output's place: the number that ends its name.

    OneFlow names them ``_<graph>_<n>_input.<path>_<k>`` with k counting in the order of the
    arguments (of the returned values, for outputs), but does not write them in that order.
    """
    return int(spec.name.rpartition("_")[2])


def _check_variable(path: Path, spec: TensorSpec) -> None:
    """Check that a variable's file is there and as large as its shape says."""
    file = path / spec.name / "out"
    if not file.is_file() and _MADE_IN_BUILD.search(spec.name):
        raise GraphFolderError(
            f"{file} is missing: a tensor, {spec}, was made inside build(), and OneFlow 0.9.0 does "
            "not save its values; make it a buffer of the module (register_buffer) and save again"
        )
    if not file.is_file():
        raise GraphFolderError(
            f"{file} is missing: the graph has a variable {spec.name}, {spec}; copy the folder "
            "again, whole"
        )
    if file.stat().st_size != spec.nbytes:
        raise GraphFolderError(
            f"{file} has {file.stat().st_size} bytes, but {spec} needs {spec.nbytes}; copy the "
            "folder again, whole"
        )
