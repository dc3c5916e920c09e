"""The Triton backend "oneflow": serves a graph that ``flow.save`` wrote, without its source.

Triton's python backend loads this file for every model whose config.pbtxt says
``backend: "oneflow"``. The graph lies in ``<repository>/<model>/<version>/model``; its inputs
are called INPUT_0, INPUT_1, ... and its outputs OUTPUT_0, OUTPUT_1, ..., in the graph's order.

OneFlow itself is not imported here: it runs in a worker process (``isolation.py``).
"""

import sys

# The folder that Triton was started in comes first on the path of its stub: a json.py that lies
# there would be imported in place of Python's own.
if "" in sys.path:
    sys.path.remove("")

import json
import os
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

from oneflow_backend.graph_folder import GraphFolder, GraphFolderError, read_graph_folder
from oneflow_backend.isolation import GraphRefused, IsolatedGraph
from oneflow_backend.joining import run_all
from oneflow_backend.model_config import check_config, complete, read_settings
from oneflow_backend.training_mode import training_warning
from oneflow_backend.worker_process import WorkerDied, WorkerError

RESTARTS = "oneflow_worker_restarts_total"
TRITON_RESTARTS = "oneflow_triton_restarts"
#: In the environment: how often this Triton was started again, if something counts that.
TRITON_RESTARTS_VARIABLE = "SERVING_KIT_RESTARTS"
#: More keys of dictionaries than this are not all told in the log.
MOST_KEYS = 20


class RequestError(ValueError):
    """A request that is itself wrong."""


class TritonPythonModel:
    """One instance of one version of a model."""

    @staticmethod
    def auto_complete_config(auto_complete_model_config):
        """Fill in the inputs and outputs that config.pbtxt leaves out, from the graph itself."""
        config = auto_complete_model_config.as_dict()
        try:
            folder = read_graph_folder(Path(pb_utils.get_model_dir()) / "model")
            config |= complete(config, folder)
            check_config(config, folder)
        except GraphFolderError as error:
            raise pb_utils.TritonModelException(str(error)) from None
        # Not add_input and add_output: they take no reshape.
        return pb_utils.ModelConfig(json.dumps(config))

    def initialize(self, args: dict[str, str]) -> None:
        """Load the graph on the instance's device.

        Raises:
            TritonModelException: the folder is not whole, config.pbtxt does not fit the graph, or
                OneFlow will not load it.
        """
        config = json.loads(args["model_config"])
        path = Path(args["model_repository"]) / args["model_version"] / "model"
        device = "cpu"
        if args["model_instance_kind"] == "GPU":
            device = f"cuda:{args['model_instance_device_id']}"
        self.rows = config.get("max_batch_size", 0) or None
        self.who = f"{args['model_name']} version {args['model_version']}"
        self.log = pb_utils.Logger
        try:
            folder = read_graph_folder(path)
            check_config(config, folder)
            self._say_what_is_in(folder)
            self.settings = read_settings(config)
            sizes = self.settings.batch_sizes
            self.graph = IsolatedGraph(
                folder,
                device,
                rows=self.rows,
                batch_sizes=None if sizes is None else list(sizes),
                run_seconds=self.settings.run_timeout_seconds,
                retries=self.settings.max_retries,
                log=lambda sentence: self.log.log_warn(f"{self.who}: {sentence}"),
            )
        except (GraphFolderError, GraphRefused) as error:
            raise pb_utils.TritonModelException(str(error)) from None
        self._make_metric(args)

    def _say_what_is_in(self, folder: GraphFolder) -> None:
        """Log what a graph's responses do not show."""
        if folder.training:
            self.log.log_warn(f"{self.who}: {training_warning(folder.training)}")
        if keys := folder.keys():
            more = f" and {len(keys) - MOST_KEYS} more" if len(keys) > MOST_KEYS else ""
            self.log.log_info(f"{self.who}: in build(), {', '.join(keys[:MOST_KEYS])}{more}")

    def _make_metric(self, args: dict[str, str]) -> None:
        family = pb_utils.MetricFamily(
            name=RESTARTS,
            description="OneFlow processes that died, or were killed, and were replaced",
            kind=pb_utils.MetricFamily.COUNTER,
        )
        labels = {"model": args["model_name"], "version": args["model_version"]}
        self.family, self.metric = family, family.Metric(labels=labels)
        self.counted = 0
        self.triton_restarts = _show_triton_restarts()

    def execute(self, requests: list) -> list:
        """Respond to each request; one that fails gets its own error and does not affect others."""
        responses, good = {}, []
        for i, request in enumerate(requests):
            try:
                good.append((i, self._inputs_of(request)))
            except RequestError as error:
                responses[i] = _error(str(error), pb_utils.TritonError.INVALID_ARG)

        def answer(i: int, result: list[np.ndarray] | WorkerError, more: bool) -> None:
            responses[i] = self._respond(requests[i], result, copied=more)
            if more and self._send(requests[i], responses[i]):
                responses[i] = None

        run_all(self.graph, good, rows=self.rows, answer=answer)
        self._count_restarts()
        return [responses[i] for i in range(len(requests))]

    def _inputs_of(self, request) -> list[np.ndarray]:
        """Return a request's inputs in the graph's order."""
        arrays = []
        for i, place in enumerate(self.graph.tensors.inputs):
            array = pb_utils.get_input_tensor_by_name(request, f"INPUT_{i}").as_numpy()
            if (
                self.settings.reject_non_finite
                and array.dtype.kind == "f"
                and not np.isfinite(array).all()
            ):
                raise RequestError(
                    f"INPUT_{i} has NaN or infinite values, which this model refuses "
                    "(parameter reject_non_finite)"
                )
            # For Triton the graph's single numbers have the shape [1].
            arrays.append(array if self.rows else array.reshape(place.shape))
        return arrays

    def _respond(self, request, result: list[np.ndarray] | WorkerError, *, copied: bool):
        """Make the response of a request, from its outputs or from the error that it met."""
        if isinstance(result, WorkerError):
            died = isinstance(result, WorkerDied)
            if result.words:
                self.log.log_warn(f"{self.who}: {result.for_log}")
            code = pb_utils.TritonError.UNAVAILABLE if died else pb_utils.TritonError.INTERNAL
            return _error(str(result), code)
        wanted = request.requested_output_names()
        return pb_utils.InferenceResponse(
            [
                # For Triton the graph's single numbers have the shape [1].
                pb_utils.Tensor(f"OUTPUT_{i}", np.atleast_1d(rows.copy() if copied else rows))
                for i, rows in enumerate(result)
                if f"OUTPUT_{i}" in wanted
            ]
        )

    def _send(self, request, response) -> bool:
        """Send a response while other requests are still to be run; return whether that is done.

        Without, it would wait until this call of Triton's ends. Triton before 24.07 lets only
        decoupled models send.
        """
        try:
            sender = request.get_response_sender()
        except pb_utils.TritonModelException:
            return False
        sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        return True

    def _count_restarts(self) -> None:
        restarts = self.graph.restarts
        if restarts > self.counted:
            self.metric.increment(restarts - self.counted)
            self.counted = restarts

    def finalize(self) -> None:
        """End the worker process."""
        self.graph.close()


def _show_triton_restarts() -> tuple:
    """Make a metric of how often Triton was started again: a gauge, as every model sets it.

    Returns:
        The family and the metric, which Triton shows as long as they are kept.
    """
    family = pb_utils.MetricFamily(
        name=TRITON_RESTARTS,
        description="How often Triton ended by itself and was started again",
        kind=pb_utils.MetricFamily.GAUGE,
    )
    metric = family.Metric(labels={})
    metric.set(int(os.environ.get(TRITON_RESTARTS_VARIABLE, "0")))
    return family, metric


def _error(text: str, code: int) -> "pb_utils.InferenceResponse":
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(text, code))
