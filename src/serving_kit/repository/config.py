"""Read and write config.pbtxt as Triton's own ``ModelConfig`` protobuf.

``config_for`` makes the configuration of any graph that ``flow.save`` wrote; the rules for names,
types, dims and the batch are the backend's own (``oneflow_backend.model_config``).
"""

import stat
from pathlib import Path
from typing import Literal

from google.protobuf import json_format
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from oneflow_backend import model_config as backend_config
from oneflow_backend.graph_folder import GraphFolderError, read_graph_folder
from serving_kit.errors import ConfigError
from serving_kit.files import write_file
from serving_kit.repository.config_text import format_config, parse_config, tokens

CONFIG = "config.pbtxt"
#: What ``tritonserver --model-config-name=cpu`` reads instead, on a machine without a GPU.
CPU_CONFIG = "configs/cpu.pbtxt"

#: A configuration has some kilobytes; what is larger than this is something else.
LARGEST_BYTES = 1_000_000


def read_config(path: str | Path) -> ModelConfig:
    """Read a config.pbtxt.

    Raises:
        ConfigError: with the line, and for an unknown name the nearest one that is valid there.
    """
    return parse_config(read_text(path), path)


def read_text(path: str | Path) -> str:
    """Return the text of a config.pbtxt.

    Raises:
        ConfigError: it is missing, not a file, too large, or not text.
    """
    path = Path(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait forever
            raise ConfigError("this is not a file; a configuration is a text file", path)
        if status.st_size > LARGEST_BYTES:
            raise ConfigError(
                f"this has {status.st_size:,} bytes, far more than a configuration; "
                "was another file copied here?",
                path,
            )
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"cannot be read ({error.strerror}); expected a text file that you may read", path
        ) from None
    if data.startswith(b"\xef\xbb\xbf"):
        raise ConfigError(
            "starts with a byte-order mark, which Triton refuses; save it as UTF-8 without BOM",
            path,
            1,
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError("is not text in UTF-8; save it as UTF-8", path, line) from None


def write_config(config: ModelConfig, path: str | Path) -> None:
    """Write a config.pbtxt, completely or not at all.

    Comments above the first field of a file that is there are kept. A file with comments further
    down is left as it is, because they would be lost.

    Raises:
        ConfigError: the file has such comments, is not a text file, or cannot be written.
    """
    path = Path(path)
    text = _head_of(path) + format_config(config)
    try:
        write_file(path, text)
    except OSError as error:
        raise ConfigError(
            f"cannot be written ({error.strerror}); expected a folder that you may write to", path
        ) from None


def _head_of(path: Path) -> str:
    """Return the comments above the first field of a file; raise when there are others."""
    if not path.exists():
        return ""
    text = read_text(path)
    head, fields_began = 0, False
    for kind, _, line in tokens(text):
        if kind != "comment":
            fields_began = True
        elif fields_began:
            raise ConfigError(
                "has a comment here, which would be lost if the kit rewrote the file; move it "
                "above the first field, or edit the file by hand",
                path,
                line,
            )
        else:
            head = line
    lines = text.split("\n")
    while head and lines[head : head + 1] == [""]:
        head += 1
    return "".join(f"{line}\n" for line in lines[:head])


def as_triton_has_it(config: ModelConfig) -> dict:
    """Return the configuration as the dict in which Triton hands it to a backend."""
    fields = json_format.MessageToDict(config, preserving_proto_field_name=True)
    for kind in ("input", "output"):
        fields[kind] = [
            {"name": "", "data_type": "TYPE_INVALID", "dims": []} | entry
            for entry in fields.get(kind, [])
        ]
    for entry in fields.get("parameters", {}).values():
        entry.setdefault("string_value", "")
    return {"name": "", "max_batch_size": 0} | fields


def config_for(
    saved_graph: str | Path,
    *,
    name: str,
    max_batch_size: int | None = None,
    device: Literal["gpu", "cpu"] = "gpu",
) -> ModelConfig:
    """Make the configuration of a graph that ``flow.save(graph, folder)`` wrote.

    Args:
        saved_graph: the folder that flow.save wrote.
        name: the model's name, which its folder in the repository must have too.
        max_batch_size: the most rows of one run; 0 serves the traced shapes as they are. Left
            out, it is 1 where every tensor was traced with a batch of 1 and more dimensions
            behind it, else 0.
        device: "gpu" puts one instance on GPU 0, "cpu" one on the CPU.

    Raises:
        ConfigError: the folder is not complete, or its graph does not fit ``max_batch_size``.
    """
    place = Path(saved_graph)
    try:
        graph = read_graph_folder(place)
    except GraphFolderError as error:
        raise ConfigError(str(error), place) from None
    tensors = graph.inputs + graph.outputs
    if max_batch_size is None:
        max_batch_size = int(all(len(t.shape) > 1 and t.shape[0] == 1 for t in tensors))
    config = ModelConfig(name=name, backend="oneflow", max_batch_size=max_batch_size)
    missing = backend_config.complete(as_triton_has_it(config), graph)
    json_format.ParseDict(missing, config)
    for mismatch in backend_config.mismatches(as_triton_has_it(config), graph):
        raise ConfigError(f"the configuration{mismatch.sentence}", place)
    group = config.instance_group.add(count=1)
    if device == "gpu":
        group.kind = ModelInstanceGroup.KIND_GPU
        group.gpus.append(0)
    else:
        group.kind = ModelInstanceGroup.KIND_CPU
    return config


def write_configs(
    model: str | Path, *, version: int = 1, max_batch_size: int | None = None
) -> tuple[Path, Path]:
    """Write both configurations of a model: config.pbtxt for GPU 0, and configs/cpu.pbtxt.

    Args:
        model: the model's folder in a model repository.
        version: the version whose graph is described.
        max_batch_size: as in config_for.

    Returns:
        The two files.

    Raises:
        ConfigError: as config_for and write_config.
    """
    model = Path(model)
    files = model / CONFIG, model / CPU_CONFIG
    for file, device in zip(files, ("gpu", "cpu"), strict=True):
        config = config_for(
            model / str(version) / "model",
            name=model.resolve().name,
            max_batch_size=max_batch_size,
            device=device,
        )
        write_config(config, file)
    return files
