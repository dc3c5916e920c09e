"""The backend's choice of OpenBLAS kernels, made importable here; see ``serving_kit.graph_folder``.

``import oneflow`` must come after ``os.environ.update(environment())``.
"""

import importlib

import serving_kit.graph_folder  # noqa: F401  (puts the backend's folder on sys.path)

_backend = importlib.import_module("openblas")
VARIABLE, environment = _backend.VARIABLE, _backend.environment
