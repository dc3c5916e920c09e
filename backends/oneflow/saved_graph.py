"""Run a graph that ``flow.save`` wrote, without the Python source it was traced from.

``SavedGraph(folder, device)(*arrays)`` works in any process that can import oneflow: in Triton's
stub, in a notebook, in a test.
"""

import gc
import itertools
import os
from pathlib import Path

import numpy as np
import oneflow as flow
import oneflow.framework.session_context as session_context
from google.protobuf import text_format
from graph_folder import GraphFolder, read_graph_folder
from oneflow._oneflow_internal import MakeInitialScope, eager
from oneflow._oneflow_internal.nn.graph import (
    CNNGraph,
    LoadSerializedJobFromIR,
    RunLazyNNGraph,
    SoftSyncNNGraphBuffers,
)
from oneflow.core.job.job_pb2 import Job
from oneflow.framework.tensor_tuple_util import convert_to_tensor_tuple

#: Numbers for jobs. OneFlow aborts when two jobs of a process share one, and counts the graphs
#: that are traced in this process from 0.
_serial = itertools.count(1 << 40)


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
        variables = [
            flow.tensor(self.folder.read_variable(spec), device=self.device)
            for spec in self.folder.variables
        ]
        self._outputs = [
            flow.empty(spec.shape, dtype=_flow_dtype(spec.dtype), device=self.device)
            for spec in self.folder.outputs
        ]
        self._variables = convert_to_tensor_tuple(variables)
        self._output_tuple = convert_to_tensor_tuple(self._outputs)
        self._graph = self._compile()

    def _compile(self) -> CNNGraph:
        """Compile the job and bind it to this object's inputs, outputs and variables."""
        job = _load_job(self.folder, self.device)
        name = job.job_conf.job_name
        session = session_context.GetDefaultSession()
        session.TryInit()
        inputs = [
            flow.empty(spec.shape, dtype=_flow_dtype(spec.dtype), device=self.device)
            for spec in self.folder.inputs
        ]
        graph = CNNGraph(name, job.SerializeToString(), next(_serial), session._session_ctx)
        SoftSyncNNGraphBuffers(self._output_tuple, graph)
        graph.register_input_op_names_and_tensors(
            [spec.name for spec in self.folder.inputs], convert_to_tensor_tuple(inputs)
        )
        graph.register_output_op_names_and_tensors(
            [spec.name for spec in self.folder.outputs], self._output_tuple
        )
        graph.register_variable_op_names_and_tensors(
            [spec.name for spec in self.folder.variables], self._variables
        )
        eager.Sync()
        graph.complie_and_init_runtime()  # OneFlow's own spelling
        return graph

    def __call__(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run the graph once.

        Args:
            arrays: one for each input, of exactly its shape and data type.

        Returns:
            One array for each output, in the order in which ``build`` returned them.

        Raises:
            ValueError: the number, a shape or a data type is not the graph's.
        """
        self._check_inputs(arrays)
        inputs = convert_to_tensor_tuple(
            [flow.tensor(np.ascontiguousarray(array), device=self.device) for array in arrays]
        )
        RunLazyNNGraph(inputs, self._output_tuple, self._variables, self._graph)
        SoftSyncNNGraphBuffers(self._output_tuple, self._graph)
        # Copied: numpy() shows the output's own memory, which the next run writes to.
        return tuple(output.numpy().copy() for output in self._outputs)

    def _check_inputs(self, arrays: tuple[np.ndarray, ...]) -> None:
        specs = self.folder.inputs
        if len(arrays) != len(specs):
            raise ValueError(f"the graph has {len(specs)} inputs, but {len(arrays)} were given")
        for i, (array, spec) in enumerate(zip(arrays, specs, strict=True)):
            if array.shape != spec.shape or array.dtype != spec.dtype:
                raise ValueError(
                    f"input {i} is {array.dtype} {list(array.shape)}, but the graph takes {spec}"
                )

    def close(self) -> None:
        """Give the graph back to OneFlow; the object cannot be called any more."""
        eager.Sync()
        self._graph = self._outputs = self._output_tuple = self._variables = None
        gc.collect()

    def __enter__(self) -> "SavedGraph":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _flow_dtype(dtype: np.dtype) -> flow.dtype:
    return getattr(flow, dtype.name)


def _load_job(folder: GraphFolder, device: flow.device) -> Job:
    """Read the job from ``model.mlir`` and move it to this process and device.

    Scopes belong to the process that traced the graph, so every op gets one made here; device
    tags and placements are rewritten; the name is made unique.
    """
    job = Job()
    job.ParseFromString(LoadSerializedJobFromIR(str(folder.mlir)))
    job.job_conf.job_name = f"saved_graph_{os.getpid()}_{next(_serial)}"
    job.job_conf.predict_conf.SetInParent()
    tag = device.type
    scope = MakeInitialScope(
        text_format.MessageToString(job.job_conf), flow.placement(tag, [device.index]), False
    )
    for op in job.net.op:
        op.device_tag = tag
        op.scope_symbol_id = scope.symbol_id
    for group in job.placement.placement_group:
        group.parallel_conf.device_tag = tag
        group.parallel_conf.device_name[:] = [f"@0:{device.index}"]
    for group in job.placement.blob_placement_group:
        group.parallel_conf.device_tag = tag
        group.parallel_conf.device_name[:] = [f"@0:{device.index}"]
    return job
