"""Sending a request through Triton's C API: callbacks, and memory that must stay in its place."""

import functools
import queue

import numpy as np
from tritonclient.utils import triton_to_np_dtype

from serving_kit.errors import ServerError
from serving_kit.server.c_api.calls import (
    CData,
    check,
    ffi,
    library,
    owned,
    owning,
    sentence_of,
    text_of,
)

#: The memory of responses that were not deleted yet, by address.
_buffers: dict[int, CData] = {}
#: Requests that Triton still has, or whose response it owes.
_under_way: set["_Exchange"] = set()


class _Exchange:
    """A request under way: what must stay where it is until Triton is done with it."""

    def __init__(self, request: CData, data: object):
        self.handle = ffi.new_handle(self)
        self.responses: queue.SimpleQueue = queue.SimpleQueue()
        self.needs = (request, data)
        self.is_complete = False

    def finish(self, *, is_complete: bool = False, is_released: bool = False) -> None:
        """Release what is no longer needed; the callbacks come in any order."""
        self.is_complete |= is_complete
        if is_released:
            self.needs = None
        if self.is_complete and self.needs is None:
            self.handle = None  # which refers to this object, too
            _under_way.discard(self)


def send(server: CData, request: CData, data: object) -> CData:
    """Send a request and wait for its response; ``outputs`` reads that.

    The calls are ``InferenceRequestSetReleaseCallback``, ``InferenceRequestSetResponseCallback``
    and ``ServerInferAsync``. Triton computes on threads of its own, and calls back from there: with
    the response, and when it needs the request no longer. An interrupt (Ctrl-C) ends the waiting
    only.

    Args:
        server: of ``TRITONSERVER_ServerNew``.
        request: of ``TRITONSERVER_InferenceRequestNew``, with its inputs; to be sent once.
        data: what the inputs' memory belongs to.

    Raises:
        ServerError: Triton refused the request.
    """
    lib, exchange = library(), _Exchange(request, data)
    check(lib.TRITONSERVER_InferenceRequestSetReleaseCallback(request, _release, exchange.handle))
    check(
        lib.TRITONSERVER_InferenceRequestSetResponseCallback(
            request, _allocator(), ffi.NULL, _respond, exchange.handle
        )
    )
    _under_way.add(exchange)
    error = lib.TRITONSERVER_ServerInferAsync(server, request, ffi.NULL)
    if error != ffi.NULL:  # then nothing calls back
        exchange.finish(is_complete=True, is_released=True)
        check(error)
    return exchange.responses.get()


@ffi.callback("void(TRITONSERVER_InferenceRequest *, uint32_t, void *)")
def _release(request: CData, flags: int, userp: CData) -> None:
    ffi.from_handle(userp).finish(is_released=True)


@ffi.callback("void(TRITONSERVER_InferenceResponse *, uint32_t, void *)")
def _respond(response: CData, flags: int, userp: CData) -> None:
    exchange = ffi.from_handle(userp)
    if response != ffi.NULL:  # a model may have nothing to say but that it is done
        exchange.responses.put(owning(response))
    exchange.finish(is_complete=bool(flags & library().TRITONSERVER_RESPONSE_COMPLETE_FINAL))


@ffi.callback(
    "TRITONSERVER_Error *(TRITONSERVER_ResponseAllocator *, char *, size_t, int, int64_t, void *, "
    "void **, void **, int *, int64_t *)"
)
def _allocate(
    allocator, tensor, size, kind, number, userp, buffer, buffer_userp, actual, actual_id
):
    """Give Triton memory for one tensor of a response, in the CPU's memory whatever it prefers."""
    memory = ffi.new("char[]", max(size, 1))
    _buffers[int(ffi.cast("uintptr_t", memory))] = memory
    buffer[0], buffer_userp[0] = memory, ffi.NULL
    actual[0], actual_id[0] = library().TRITONSERVER_MEMORY_CPU, 0
    return ffi.NULL


@ffi.callback(
    "TRITONSERVER_Error *(TRITONSERVER_ResponseAllocator *, void *, void *, size_t, int, int64_t)"
)
def _free(allocator, buffer, buffer_userp, size, kind, number):
    """Take the memory back, when its response is deleted."""
    del _buffers[int(ffi.cast("uintptr_t", buffer))]
    return ffi.NULL


@functools.cache
def _allocator() -> CData:
    return owned(library().TRITONSERVER_ResponseAllocatorNew, _allocate, _free, ffi.NULL)


def outputs(response: CData) -> dict[str, np.ndarray]:
    """Return copies of a response's tensors of numbers, by name; delete the response.

    Raises:
        ServerError: it is an error of Triton or of the model.
    """
    lib, count = library(), ffi.new("uint32_t *")
    try:
        error = lib.TRITONSERVER_InferenceResponseError(response)
        if error != ffi.NULL:  # not to be deleted: it is a part of the response
            raise ServerError(sentence_of(error))
        check(lib.TRITONSERVER_InferenceResponseOutputCount(response, count))
        return dict(_output(response, index) for index in range(count[0]))
    finally:
        ffi.release(response)


def _output(response: CData, index: int) -> tuple[str, np.ndarray]:
    lib = library()
    types = ffi.typeof(lib.TRITONSERVER_InferenceResponseOutput).args[2:]
    places = [ffi.new(kind) for kind in types]
    check(lib.TRITONSERVER_InferenceResponseOutput(response, index, *places))
    name, kind, shape, dimensions, base, size, *_ = (place[0] for place in places)
    dtype = triton_to_np_dtype(text_of(lib.TRITONSERVER_DataTypeString(kind)))
    array = np.frombuffer(ffi.buffer(base, size)[:], dtype)  # a copy
    return text_of(name), array.reshape(list(shape[0:dimensions]))
