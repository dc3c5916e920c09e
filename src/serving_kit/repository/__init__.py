"""Read, write and check a model repository, on Triton's own ``ModelConfig`` protobuf.

- ``config`` reads and writes config.pbtxt, and makes the one of a saved graph;
- ``config_text`` explains what is wrong with its text, and on which line each field is;
- ``checks`` finds the mistakes in a whole repository, without starting Triton.
"""

from serving_kit.repository.checks import Finding, check, has_errors, to_json, to_text
from serving_kit.repository.config import config_for, read_config, write_config, write_configs

__all__ = [
    "Finding",
    "check",
    "config_for",
    "has_errors",
    "read_config",
    "to_json",
    "to_text",
    "write_config",
    "write_configs",
]
