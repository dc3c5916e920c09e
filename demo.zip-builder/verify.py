"""Compares the results of served models with those of the same graphs in process.

``python verify.py GRAPH INPUTS.npz OUTPUTS.npz`` runs a saved graph without Triton; it is called
in a process of its own, since OneFlow may abort its process.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import tritonclient.http as httpclient
from tritonclient.utils import InferenceServerException

from oneflow_backend import openblas
from oneflow_backend.graph_folder import read_graph_folder
from serving_kit.client.images import decode_image, read_image, recover_image, to_model
from serving_kit.client.inference import infer
from serving_kit.errors import ExportError
from serving_kit.paths import CAT
from serving_kit.server.triton import TritonServer
from serving_kit.stylenet.styles import ONE_STYLE, SIZE

#: How far the answers may be apart, relative to the largest value.
TOLERANCE = 1e-5
#: The same of a picture: one colour may be rounded the other way, and JPEG make two of it.
JPEG_TOLERANCE = 3 / 255
#: The ensemble that takes and gives a picture file, where the repository has it.
PIPELINE = "stylize_jpeg"
RUN_SECONDS = 300


def verify(repository: Path) -> Iterator[str]:
    """Serve a repository; yield a sentence on each model that is a saved graph, and the pipeline.

    Any other model must load: the server is not ready before all are.

    Raises:
        ServingKitError: a model does not load, or answers otherwise when it is served.
    """
    graphs = {path.name: newest_graph(path) for path in sorted(repository.iterdir())}
    inputs = {model: example(graph) for model, graph in graphs.items() if graph}
    # The graphs run without Triton while Triton starts.
    with ThreadPoolExecutor(1) as beside:
        own = {m: beside.submit(in_process, graphs[m], arrays) for m, arrays in inputs.items()}
        with TritonServer(repository, mode="local") as server:
            for model, arrays in inputs.items():
                served = infer(*arrays, model=model, url=server.url)
                difference = compare(model, served, own[model].result())
                yield f"{model}: served and in-process results differ by at most {difference:.6f}"
            if (repository / PIPELINE).is_dir():
                painted = paint_cat(server.url)
                difference = compare(
                    PIPELINE, paint_cat_served(server.url), painted, JPEG_TOLERANCE
                )
                yield f"{PIPELINE}: served and own painted cat differ by at most {difference:.0f}"


def paint_cat(url: str) -> np.ndarray:
    """Return the cat, made a tensor, painted and saved as JPEG; uint8 (H, W, 3) BGR.

    The painting is done by the served model, which is compared with its graph already; all that
    the pipeline does before and after is done here.
    """
    photo = read_image(CAT)
    painted = infer(to_model(photo, SIZE, SIZE), model=ONE_STYLE, url=url)
    picture = recover_image(painted, *photo.shape[:2])
    return decode_image(cv2.imencode(".jpg", picture)[1].tobytes())


def paint_cat_served(url: str) -> np.ndarray:
    """Return the cat as the pipeline paints it: a file goes in, a JPEG comes out."""
    content = np.frombuffer(CAT.read_bytes(), np.uint8)
    picture = httpclient.InferInput("PICTURE", content.shape, "UINT8")
    picture.set_data_from_numpy(content)
    with httpclient.InferenceServerClient(url) as client:
        try:
            answer = client.infer(PIPELINE, [picture])
        except InferenceServerException as error:
            raise ExportError(f"{PIPELINE}: {error.message()}; nothing was built") from error
        return decode_image(answer.as_numpy("JPEG").tobytes())


def newest_graph(model: Path) -> Path | None:
    """Return the saved graph that Triton serves of a model by itself: of the highest version."""
    versions = [path for path in model.iterdir() if path.name.isdecimal()]
    graphs = [version / "model" for version in versions if (version / "model").is_dir()]
    return max(graphs, key=lambda graph: int(graph.parent.name), default=None)


def example(graph: Path) -> list[np.ndarray]:
    """Return inputs for a graph: the first like a picture, 0 to 255, others like shares."""
    random = np.random.default_rng(0)
    arrays = [random.random(spec.shape, np.float32) for spec in read_graph_folder(graph).inputs]
    return [arrays[0] * 255, *(array / array.sum() for array in arrays[1:])]


def in_process(graph: Path, inputs: list[np.ndarray]) -> np.ndarray:
    """Return the first output of a saved graph, run in a child process.

    Raises:
        ExportError: it cannot be run.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, got = Path(folder, "inputs.npz"), Path(folder, "outputs.npz")
        np.savez(given, *inputs)
        child = subprocess.run(
            [sys.executable, __file__, graph, given, got],
            env={**os.environ, **openblas.environment(), "GLOG_minloglevel": "3"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )
        if child.returncode or not got.exists():
            last_line = (child.stderr.strip().splitlines() or [""])[-1]
            raise ExportError(f"{graph} cannot be run: {last_line}; nothing was built")
        with np.load(got) as outputs:
            return outputs["arr_0"]


def compare(model: str, served: np.ndarray, own: np.ndarray, tolerance: float = TOLERANCE) -> float:
    """Return the largest difference of two results.

    Raises:
        ExportError: it is more than ``tolerance``, relative to the largest value of ours.
    """
    if served.shape != own.shape:
        raise ExportError(
            f"{model} has an output of shape {served.shape} when served, but {own.shape} in "
            "process; nothing was built"
        )
    difference = float(np.abs(served.astype(np.float64) - own).max())
    allowed = tolerance * max(1.0, float(np.abs(own).max()))
    if not difference <= allowed:  # NaN is no small difference
        raise ExportError(
            f"{model}: served and in-process results differ by {difference:.3g}, more than "
            f"{allowed:.3g}; nothing was built"
        )
    return difference


def main(graph: str, given: str, got: str) -> None:
    """Run a saved graph on the arrays of a file."""
    from oneflow_backend.saved_graph import SavedGraph

    with np.load(given) as arrays:
        inputs = [arrays[f"arr_{i}"] for i in range(len(arrays))]
    with SavedGraph(graph) as run:
        np.savez(got, *run(*inputs))


if __name__ == "__main__":
    main(*sys.argv[1:])
