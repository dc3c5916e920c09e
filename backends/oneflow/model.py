"""The Triton backend "oneflow": serves a graph that ``flow.save`` wrote, without its source.

Triton's python backend loads this file for every model whose config.pbtxt says
``backend: "oneflow"``. The graph lies in ``<repository>/<model>/<version>/model``; its inputs
are called INPUT_0, INPUT_1, ... and its outputs OUTPUT_0, OUTPUT_1, ..., in the graph's order.
"""

import json
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils
from graph_folder import GraphFolder, GraphFolderError, TensorSpec, read_graph_folder


class TritonPythonModel:
    """One instance of one version of a model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the graph on the instance's device.

        Raises:
            TritonModelException: the folder is not whole, or config.pbtxt does not fit the graph.
        """
        # Not at the top: Triton loads this file once more to complete configurations, and
        # importing oneflow there would cost every start two seconds.
        from saved_graph import SavedGraph

        config = json.loads(args["model_config"])
        path = Path(args["model_repository"]) / args["model_version"] / "model"
        device = "cpu"
        if args["model_instance_kind"] == "GPU":
            device = f"cuda:{args['model_instance_device_id']}"
        try:
            check_config(config, read_graph_folder(path))
            self.graph = SavedGraph(path, device)
        except GraphFolderError as error:
            raise pb_utils.TritonModelException(str(error)) from None
        self.batched = config.get("max_batch_size", 0) > 0

    def execute(self, requests: list) -> list:
        """Answer each request; one that fails gets an error of its own and harms no other."""
        return [self._answer(request) for request in requests]

    def _answer(self, request) -> "pb_utils.InferenceResponse":
        names = [f"INPUT_{i}" for i in range(len(self.graph.folder.inputs))]
        try:
            tensors = [pb_utils.get_input_tensor_by_name(request, name) for name in names]
            results = self._run([tensor.as_numpy() for tensor in tensors])
        except ValueError as error:
            reason = pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse(error=reason)
        wanted = request.requested_output_names()
        outputs = [(f"OUTPUT_{i}", result) for i, result in enumerate(results)]
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(name, result) for name, result in outputs if name in wanted]
        )

    def _run(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """Run the graph, row by row where config.pbtxt says that requests carry a batch."""
        if not self.batched:
            return list(self.graph(*arrays))
        rows = [self.graph(*(array[i : i + 1] for array in arrays)) for i in range(len(arrays[0]))]
        return [np.concatenate(parts) for parts in zip(*rows, strict=True)]

    def finalize(self) -> None:
        """Give the graph back: a process that exits while OneFlow holds one hangs."""
        self.graph.close()


def check_config(config: dict, folder: GraphFolder) -> None:
    """Compare the configuration's names, types and dims with the graph's.

    Raises:
        GraphFolderError: naming the tensor, what config.pbtxt says and what the graph has.
    """
    batched = config.get("max_batch_size", 0) > 0
    for kind, specs in (("input", folder.inputs), ("output", folder.outputs)):
        entries = {entry["name"]: entry for entry in config[kind]}
        expected = {f"{kind.upper()}_{i}": spec for i, spec in enumerate(specs)}
        if set(entries) != set(expected):
            raise GraphFolderError(
                f"config.pbtxt of {config['name']} names the {kind}s "
                f"{', '.join(sorted(entries)) or '(none)'}, but the graph has "
                f"{', '.join(expected)}; write these names"
            )
        for name, spec in expected.items():
            _check_tensor(config["name"], entries[name], spec, batched)


def _check_tensor(model: str, entry: dict, spec: TensorSpec, batched: bool) -> None:
    place = f"config.pbtxt of {model}: {entry['name']}"
    if entry["data_type"] != spec.triton_type:
        raise GraphFolderError(
            f"{place} is {entry['data_type']}, but the graph has {spec.triton_type}; write that"
        )
    if batched and spec.shape[:1] != (1,):
        raise GraphFolderError(
            f"{place} has the shape {list(spec.shape)} in the graph, without a batch of 1 in "
            "front; write max_batch_size: 0, or trace the graph with a batch of 1"
        )
    dims = [int(size) for size in entry["dims"]]
    expected = list(spec.shape[1:] if batched else spec.shape)
    if dims != expected:
        rule = "without the batch" if batched else "with every dimension, as max_batch_size is 0"
        raise GraphFolderError(
            f"{place} has dims {dims}, but the graph has {expected} ({rule}); write these"
        )
