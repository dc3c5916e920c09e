"""The network of the course: its layers, a layout for CPUs, its weights and 26 styles.

- ``styles`` has the names of the styles, and ``style_weights``, which blends them;
- ``network`` has StyleNet, the textbook's layers, which are the ones to read;
- ``cpu_network`` computes the same from ``cpu_layers``, which OneFlow 0.9.0 runs 20 times as fast;
- ``weights`` reads the file of all 26 styles.

The networks are imported when they are first asked for, and OneFlow with them: clients need only
the names of the styles, not OneFlow.
"""

import importlib

from serving_kit.stylenet.styles import (
    ALL_STYLES,
    DEFAULT_STYLE,
    ONE_STYLE,
    SIZE,
    STYLES,
    style_index,
    style_weights,
)

#: The module of each name that needs OneFlow.
_NETWORKS = {
    "Step": "cpu_layers",
    "StyleNet": "network",
    "StyleNetCpu": "cpu_network",
    "block_matrix": "cpu_layers",
    "load_multi_style": "cpu_network",
    "load_stylenet": "network",
    "load_stylenet_cpu": "cpu_network",
    "load_textbook_stylenet": "network",
    "style_state": "network",
}

__all__ = [
    "ALL_STYLES",
    "DEFAULT_STYLE",
    "ONE_STYLE",
    "SIZE",
    "STYLES",
    "Step",
    "StyleNet",
    "StyleNetCpu",
    "block_matrix",
    "load_multi_style",
    "load_stylenet",
    "load_stylenet_cpu",
    "load_textbook_stylenet",
    "style_index",
    "style_state",
    "style_weights",
]


def __getattr__(name: str) -> object:
    """Import a network when it is asked for (PEP 562)."""
    if name not in _NETWORKS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_NETWORKS[name]}"), name)


def __dir__() -> list[str]:
    """Name what can be asked for, to Jupyter's completion too."""
    return __all__
