"""Lesson 04, save and inspect a graph: reading a weight without OneFlow, and a whole export."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import oneflow as flow

from oneflow_backend.graph_folder import GraphFolderError
from oneflow_backend.saved_graph import SavedGraph
from serving_kit.exercises._answers import NotYet, call, describe
from serving_kit.stylenet.network import load_stylenet


def exercise_1(read_weight: Callable) -> str:
    """Check a function that reads one saved variable with NumPy."""
    shape = (4, 3, 2, 2)
    expected = np.random.default_rng(4).normal(size=shape).astype(np.float32)
    with tempfile.TemporaryDirectory() as scratch:
        for name, array in (("conv.weight", expected), ("conv.bias", expected[:, 0, 0, 0])):
            file = Path(scratch) / name / "out"
            file.parent.mkdir()
            array.tofile(file)
        found = _call_outside(scratch, read_weight, Path(scratch), "conv.weight", shape)
    if not isinstance(found, np.ndarray):
        raise NotYet(f"your function returned {describe(found)}; let it return a NumPy array.")
    if found.dtype != np.float32:
        raise NotYet(f"the array is {found.dtype}: tell NumPy that the bytes are float32.")
    if found.size != expected.size:
        raise NotYet(f"{found.size} numbers came out, expected {expected.size}: which file is it?")
    if found.shape != shape:
        raise NotYet(f"the numbers are there, in the shape {found.shape}; make it {shape}.")
    if not np.array_equal(found, expected):
        raise NotYet("shape and type are right, the numbers are not: which file holds them?")
    return "A saved weight is nothing but its bytes."


def exercise_2(export: Callable) -> str:
    """Check a function that saves a module as a graph: load it without its class, compare."""
    model = load_stylenet("red_ember")
    example = np.random.default_rng(4).uniform(0, 255, (1, 3, 64, 64)).astype(np.float32)
    with flow.no_grad():
        expected = model(flow.tensor(example)).numpy()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "new_model" / "1" / "model"
        _call_export(export, model, flow.tensor(example), folder)
        try:
            with SavedGraph(folder) as saved:
                (found,) = saved(example)
        except (GraphFolderError, ValueError) as error:
            raise NotYet(f"the folder holds no graph that runs: {_told(error, scratch)}") from error
    if not np.allclose(found, expected, atol=0.01):
        raise NotYet("the saved graph runs, but gives other answers than the module that you got.")
    return "Saved, loaded without its class, and the answers are the module's own."


def _call_export(export: Callable, model, example: flow.Tensor, folder: Path) -> None:
    """Call the learner's export, with a word more for the two errors that everyone meets."""
    try:
        _call_outside(str(folder.parents[2]), export, model, example, folder)
    except NotYet as hint:
        cause = hint.__cause__
        if "must be compiled first" in str(cause):
            raise NotYet(f"{hint} What makes OneFlow compile a graph?") from None
        if isinstance(cause, FileNotFoundError):
            raise NotYet(f"{hint}: is there a folder for it to lie in?") from None
        raise
    if not folder.exists():
        raise NotYet("nothing lies in the folder that your function was given.")


def _call_outside(scratch: str, function: Callable, *arguments: object) -> object:
    """Call a learner's function; its error is told without the folder of this trial."""
    try:
        return call(function, *arguments)
    except NotYet as hint:
        raise NotYet(_told(hint, scratch)) from hint.__cause__


def _told(error: Exception, scratch: str) -> str:
    """Return an error's message without the folder of this trial."""
    return str(error).replace(f"{scratch}/", "")
