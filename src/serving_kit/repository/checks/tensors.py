"""What Triton itself expects of a configuration's inputs and outputs.

The rules are those of Triton 2.51.0, ``ValidateIOShape`` in src/model_config_utils.cc of
https://github.com/triton-inference-server/core.
"""

from collections.abc import Iterator

from tritonclient.grpc.model_config_pb2 import DataType

from serving_kit.repository.checks.findings import Finding, Written


def check_tensors(written: Written) -> Iterator[Finding]:
    """Check what Triton itself expects of inputs and outputs."""
    for kind in ("input", "output"):
        tensors = getattr(written.config, kind)
        names = [tensor.name for tensor in tensors]
        for i, tensor in enumerate(tensors):
            who = tensor.name or f"this {kind}"
            if not tensor.name:
                sentence = f'{who} has no name; give it one, as name: "{kind.upper()}_{i}"'
                yield written.error("tensor-name", sentence, kind, i)
            elif names.index(tensor.name) < i:
                sentence = f"{who} is given twice; keep one of them"
                yield written.warning("tensor-name", sentence, kind, i, "name")
            if tensor.data_type == DataType.TYPE_INVALID:
                sentence = f"{who} has no data_type; write one, as data_type: TYPE_FP32"
                yield written.error("tensor-data-type", sentence, kind, i)
            elif tensor.data_type not in DataType.values():
                sentence = f"{who} has the data_type {tensor.data_type}; write one, as TYPE_FP32"
                yield written.warning("tensor-data-type", sentence, kind, i, "data_type")
            if not tensor.dims:
                sentence = f"{who} has no dims; write its shape, as dims: [ 3, 256, 256 ]"
                yield written.error("tensor-dims", sentence, kind, i, "dims")
            elif any(size < 1 and size != -1 for size in tensor.dims):
                sentence = (
                    f"{who} has dims {list(tensor.dims)}, but each must be 1 or more, or -1 for "
                    "any size; correct them"
                )
                yield written.error("tensor-dims", sentence, kind, i, "dims")
            elif tensor.HasField("reshape"):
                yield from _check_reshape(written, kind, i)


def _check_reshape(written: Written, kind: str, i: int) -> Iterator[Finding]:
    """Check the shape that the backend is to have in place of dims."""
    config = written.config
    tensor = getattr(config, kind)[i]
    dims, shape = list(tensor.dims), list(tensor.reshape.shape)
    tell, why = written.error, ""
    if not shape and config.max_batch_size == 0:
        why = "Triton takes an empty reshape only with max_batch_size above 0; leave it out"
        if config.backend == "oneflow":  # which leaves it out itself, where Triton lets it
            tell = written.warning
    elif any(size < 1 and size != -1 for size in shape):
        why = "each size must be 1 or more, or -1 for any; correct them"
    elif _elements(dims) != _elements(shape):
        why = "the two do not have the same number of elements; correct one of them"
    if why:
        found = f"{tensor.name} has dims {dims} and reshape {{ shape: {shape} }}, but {why}"
        yield tell("tensor-reshape", found, kind, i, "reshape")


def _elements(shape: list[int]) -> list[int]:
    """Return the numbers of elements before, between and after the sizes of -1."""
    numbers = [1]
    for size in shape:
        if size == -1:
            numbers.append(1)
        else:
            numbers[-1] *= size
    return numbers
