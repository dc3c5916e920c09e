"""The backend's runner of saved graphs, made importable here; see ``serving_kit.graph_folder``."""

import importlib

import serving_kit.graph_folder  # noqa: F401  (puts the backend's folder on sys.path)

SavedGraph = importlib.import_module("saved_graph").SavedGraph
OPERATORS = importlib.import_module("one_by_one").OPERATORS
