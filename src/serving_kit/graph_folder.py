"""The backend's reader of saved graphs, made importable here; it does not import OneFlow.

``backends/oneflow`` imports nothing of the kit and is no package, because Triton mounts it as it
is; its modules are imported the way Triton's stub imports them, with the folder on ``sys.path``.
"""

import sys

from serving_kit.paths import BACKENDS

if str(BACKENDS / "oneflow") not in sys.path:
    sys.path.append(str(BACKENDS / "oneflow"))

from graph_folder import GraphFolder, GraphFolderError, TensorSpec, read_graph_folder

__all__ = ["GraphFolder", "GraphFolderError", "TensorSpec", "read_graph_folder"]
