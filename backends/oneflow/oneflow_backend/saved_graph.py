"""Run a graph that ``flow.save`` wrote, without the Python source it was traced from.

``SavedGraph(folder, device)(*arrays)`` works in any process that can import oneflow: in the
backend's worker, in a notebook, in a test.
"""

import functools
import gc
import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import oneflow as flow
import oneflow.framework.session_context as session_context
from google.protobuf import text_format
from oneflow._oneflow_internal import MakeInitialScope, eager
from oneflow._oneflow_internal.nn.graph import (
    CNNGraph,
    RunLazyNNGraph,
    SoftSyncNNGraphBuffers,
)
from oneflow.core.job.job_pb2 import Job
from oneflow.framework.tensor_tuple_util import convert_to_tensor_tuple

from oneflow_backend import one_by_one
from oneflow_backend.graph_folder import TensorSpec, read_graph_folder
from oneflow_backend.job import read_job
from oneflow_backend.rebatch import rebatch

#: Numbers for jobs. OneFlow aborts when two jobs of a process share one, and counts the graphs
#: that are traced in this process from 0.
_serial = itertools.count(1 << 40)
#: The thread of a graph on a CPU.
CPU_STREAM = "CPU_COMPUTE_OF_A_SAVED_GRAPH"


class SavedGraph:
    """A saved graph, loaded on one device.

    Not for two threads at once. ``close()`` it, or use it in a ``with`` block: a process that
    exits while OneFlow still holds a graph hangs or aborts.

    Args:
        path: the folder that ``flow.save(graph, path)`` wrote.
        device: ``"cpu"``, or ``"cuda:<i>"``; any graph can go to either.

    Raises:
        GraphFolderError: the folder is not whole, see ``graph_folder``.
    """

    def __init__(self, path: str | Path, device: str = "cpu"):
        self.folder = read_graph_folder(path)
        self.device = flow.device(device)
        self._job = read_job(self.folder)
        #: Whether the operators are run one by one, which needs a second core for the caller to
        #: wait on: it does not sleep while it waits, and would hold the only one for 4 ms.
        self.one_by_one = (
            self.device.type == "cpu"
            and len(os.sched_getaffinity(0)) > 1
            and one_by_one.suits(self._job)
        )
        self._variables = convert_to_tensor_tuple(
            [
                flow.tensor(self.folder.read_variable(spec), device=self.device)
                for spec in self.folder.variables
            ]
        )
        shapes = tuple(spec.shape for spec in self.folder.inputs)
        self._plans = {shapes: self._compile(self._job, self.folder.inputs, self.folder.outputs)}

    def add_batch(self, n: int) -> None:
        """Compile a second plan, for n rows at once, of a graph that was traced with one.

        Its answers are to be compared with those of single rows before they are trusted: see
        ``rebatch``.

        Raises:
            CannotBatch: naming the operator that stands in the way.
        """
        inputs = [replace(spec, shape=(n, *spec.shape[1:])) for spec in self.folder.inputs]
        outputs = [replace(spec, shape=(n, *spec.shape[1:])) for spec in self.folder.outputs]
        shapes = tuple(spec.shape for spec in inputs)
        if shapes not in self._plans:
            self._plans[shapes] = self._compile(rebatch(self._job, n), inputs, outputs)

    def drop_batch(self, n: int) -> None:
        """Release a plan of ``add_batch``."""
        shapes = tuple((n, *spec.shape[1:]) for spec in self.folder.inputs)
        self._plans.pop(shapes, None)
        gc.collect()

    def _compile(
        self, job: Job, inputs: list[TensorSpec], outputs: list[TensorSpec]
    ) -> "_Plan | one_by_one.OneByOne":
        names = {
            "input_names": [spec.name for spec in inputs],
            "output_names": [spec.name for spec in outputs],
            "variable_names": [spec.name for spec in self.folder.variables],
        }
        if self.one_by_one:
            return one_by_one.OneByOne(job, variables=self._variables, **names)
        return _Plan(
            _moved(job, self.device),
            inputs=_empty_tensors(inputs, self.device),
            outputs=_empty_tensors(outputs, self.device),
            variables=self._variables,
            **names,
        )

    def __call__(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run the graph once.

        Args:
            arrays: one for each input, of exactly its shape and data type; or with n rows instead
                of one, after ``add_batch(n)``.

        Returns:
            One array for each output, in the order in which ``build`` returned them.

        Raises:
            ValueError: the number, a shape or a data type is not the graph's.
        """
        self._check_inputs(arrays)
        plan = self._plans[_shapes(arrays)]
        outputs = plan.run([flow.tensor(_plain(array), device=self.device) for array in arrays])
        # Copied: numpy() shows the output's own memory, which the next run may write to.
        return tuple(output.numpy().copy() for output in outputs)

    def bind(
        self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]
    ) -> Callable[[], None]:
        """Return a run that reads and writes these arrays where they are, whenever it is called.

        On a CPU that saves a copy of every input and output: half a millisecond for a picture of
        256 x 256 pixels.

        Args:
            inputs: as for a call, and contiguous.
            outputs: one for each output, of its shape and data type, contiguous and writable.

        Raises:
            ValueError: as for a call.
        """
        self._check_inputs(inputs)
        if self.device.type != "cpu":
            return functools.partial(self._run_and_copy, inputs, outputs)
        shapes = _shapes(inputs)
        sources = [flow.from_numpy(array) for array in inputs]
        targets = [flow.from_numpy(array) for array in outputs]

        def run() -> None:
            self._plans[shapes].run_into(targets, sources)
            for target in targets:
                target.numpy()  # waits until it is written

        return run

    def _run_and_copy(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> None:
        for target, result in zip(outputs, self(*inputs), strict=True):
            np.copyto(target, result)

    def _check_inputs(self, arrays: Sequence[np.ndarray]) -> None:
        specs = self.folder.inputs
        if len(arrays) != len(specs):
            raise ValueError(f"the graph has {len(specs)} inputs, but {len(arrays)} were given")
        known = _shapes(arrays) in self._plans
        for i, (array, spec) in enumerate(zip(arrays, specs, strict=True)):
            if array.dtype != spec.dtype or not (known or array.shape == spec.shape):
                raise ValueError(
                    f"input {i} is {array.dtype} {list(array.shape)}, but the graph takes {spec}"
                )

    def close(self) -> None:
        """Release the graph; the object can no longer be called."""
        eager.Sync()
        self._plans = {}
        self._variables = None
        gc.collect()

    def __enter__(self) -> "SavedGraph":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class _Plan:
    """A job compiled by OneFlow and bound to the tensors that it reads and writes."""

    def __init__(self, job: Job, *, inputs, input_names, outputs, output_names, variables,
                 variable_names):  # fmt: skip
        self._outputs, self._variables = outputs, variables
        output_tuple = convert_to_tensor_tuple(outputs)
        session = session_context.GetDefaultSession()
        session.TryInit()
        self._graph = CNNGraph(
            job.job_conf.job_name, job.SerializeToString(), next(_serial), session._session_ctx
        )
        SoftSyncNNGraphBuffers(output_tuple, self._graph)
        self._graph.register_input_op_names_and_tensors(
            input_names, convert_to_tensor_tuple(inputs)
        )
        self._graph.register_output_op_names_and_tensors(output_names, output_tuple)
        self._graph.register_variable_op_names_and_tensors(variable_names, variables)
        eager.Sync()
        self._graph.complie_and_init_runtime()  # OneFlow's own spelling

    def run(self, inputs: Sequence[flow.Tensor]) -> list[flow.Tensor]:
        """Run once, and return the outputs, the same tensors each time; see ``run_into``."""
        self.run_into(self._outputs, inputs)
        return self._outputs

    def run_into(self, outputs: Sequence[flow.Tensor], inputs: Sequence[flow.Tensor]) -> None:
        """Run once; reading an output then waits until it is written."""
        output_tuple = convert_to_tensor_tuple(outputs)
        RunLazyNNGraph(convert_to_tensor_tuple(inputs), output_tuple, self._variables, self._graph)
        SoftSyncNNGraphBuffers(output_tuple, self._graph)


def _empty_tensors(specs: list[TensorSpec], device: flow.device) -> list[flow.Tensor]:
    return [
        flow.empty(spec.shape, dtype=getattr(flow, spec.dtype.name), device=device)
        for spec in specs
    ]


def _shapes(arrays: Sequence[np.ndarray]) -> tuple[tuple[int, ...], ...]:
    return tuple(array.shape for array in arrays)


def _plain(array: np.ndarray) -> np.ndarray:
    """Return an array as OneFlow reads it; ``np.ascontiguousarray`` would give a scalar a shape."""
    return array if array.flags.c_contiguous else array.copy(order="C")


def _moved(job: Job, device: flow.device) -> Job:
    """Return a copy of a job that belongs to this process and device.

    Scopes belong to the process that traced the graph, so every op gets one made here; device
    tags and placements are rewritten; the name is made unique. On a CPU all operators go to one
    thread: OneFlow 0.9.0 would deal them out to as many as there are cores, in turn, and nearly
    every result would change cores on its way to the next operator.
    """
    moved = Job()
    moved.CopyFrom(job)
    moved.job_conf.job_name = f"saved_graph_{os.getpid()}_{next(_serial)}"
    moved.job_conf.predict_conf.SetInParent()
    scope = MakeInitialScope(
        text_format.MessageToString(moved.job_conf),
        flow.placement(device.type, [device.index]),
        False,
    )
    for op in moved.net.op:
        op.device_tag = device.type
        op.scope_symbol_id = scope.symbol_id
        if device.type == "cpu" and op.HasField("user_conf"):
            op.stream_name_hint = CPU_STREAM
    for group in (*moved.placement.placement_group, *moved.placement.blob_placement_group):
        group.parallel_conf.device_tag = device.type
        group.parallel_conf.device_name[:] = [f"@0:{device.index}"]
    return moved
