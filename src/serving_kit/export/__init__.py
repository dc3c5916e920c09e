"""From an eager module to a saved graph: module -> ``nn.Graph`` -> ``flow.save`` -> compare.

- ``version`` exports a module as one version of a model, in one step or not at all;
- ``saving`` saves a graph with the tensors that ``flow.save`` leaves out;
- ``order`` gives the operators of a saved graph one order, so that the same export gives the same
  bytes.
"""

from serving_kit.export.saving import save_graph
from serving_kit.export.version import ExportRecord, InferenceGraph, export_version

__all__ = ["ExportRecord", "InferenceGraph", "export_version", "save_graph"]
