"""Triton's C API: a whole Triton in this process, without HTTP, gRPC or a port.

``library()`` opens the ``libtritonserver`` that the embedded server runs, with the functions and
types that ``c_api.h`` declares; they are called by their own names. This module has what every
program around them needs:

- ``check`` makes an error of Triton's a ServerError, ``owned`` deletes what was created when
  nothing refers to it any more, ``message`` reads Triton's JSON;
- ``send`` sends a request and waits; ``outputs`` copies what came;
- ``RunFolder`` is where the server's files are, and cleans up after this process, however it ends.

cffi refuses a pointer to the wrong kind of object, but not one to an object that is gone: that, or
a size that is wrong, ends this process as it would a C program.
"""

import contextlib
import ctypes
import functools
import json
import os
import queue
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cffi
import numpy as np
from tritonclient.utils import triton_to_np_dtype

from serving_kit.errors import ServerError
from serving_kit.paths import MODEL_REPOSITORY
from serving_kit.server import cells, embedded, runs, supervisor
from serving_kit.server.spec import ServerSpec

#: A pointer, a number or another object of C.
CData = cffi.FFI().CData
PREFIX = "TRITONSERVER_"
#: How Triton begins a text about a request that was given no ID.
NO_ID = "[request id: <id_unknown>] "

ffi = cffi.FFI()
ffi.cdef(Path(__file__).with_suffix(".h").read_text())
#: The memory of responses that were not deleted yet, by address.
_buffers: dict[int, CData] = {}
#: Requests that Triton still has, or whose response it owes.
_under_way: set["_Exchange"] = set()


@functools.cache
def library() -> CData:
    """Open ``libtritonserver``; return its functions and constants.

    Raises:
        ServerError: it cannot be opened on this machine.
    """
    path = embedded.libtritonserver()
    _open_beside(path)
    try:
        return ffi.dlopen(str(path))
    except OSError as error:
        raise ServerError(
            f"Triton's C API cannot be used here: {error}; is nvidia-pytriton installed whole?"
        ) from error


def _open_beside(path: Path) -> None:
    """Open the libraries beside one, which it or a backend needs.

    The loader would look for them in LD_LIBRARY_PATH, but read that when this process began. What
    is open already it finds by its name. Each can be opened when those are that it needs itself.
    """
    left = sorted(set(path.parent.glob("*.so*")) - set(path.parent.glob("libpython*")) - {path})
    before = None
    while left and left != before:
        before, left = left, [library for library in left if not _opens(library)]


def _opens(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return bool(ctypes.CDLL(str(path)))  # stays open, even when the object is gone
    return False


def check(error: CData) -> None:
    """Raise the error that a function of the C API returned; NULL is none.

    Raises:
        ServerError: what Triton says, in one sentence.
    """
    if error == ffi.NULL:
        return
    sentence = _sentence(error)
    library().TRITONSERVER_ErrorDelete(error)
    raise ServerError(sentence)


def _sentence(error: CData) -> str:
    lib = library()
    code = _text(lib.TRITONSERVER_ErrorCodeString(error))
    # A model's Python exception is followed by where it came from.
    said = _text(lib.TRITONSERVER_ErrorMessage(error)).partition("\n\nAt:")[0]
    said = " ".join(said.split())
    return f"Triton refused ({code}): {said.removeprefix(NO_ID).rstrip('.; ')}"


def _text(characters: CData) -> str:
    return ffi.string(characters).decode(errors="replace")


def owned(create: Callable, *arguments: object) -> CData:
    """Create an object of Triton's, which is deleted when nothing refers to it any more.

    ``ffi.release`` deletes it at once; after that it must not be used.

    Args:
        create: a function such as ``library().TRITONSERVER_ServerNew``, whose first argument is
            the place for the new object.
        arguments: the others.

    Raises:
        ServerError: Triton refused.
    """
    place = ffi.new(ffi.typeof(create).args[0])
    check(create(place, *arguments))
    return _owned(place[0])


def _owned(pointer: CData) -> CData:
    """Return a pointer whose object is deleted with it."""
    kind = ffi.typeof(pointer).item.cname.split()[-1]
    delete = getattr(library(), f"{kind}Delete")
    return ffi.gc(pointer, lambda pointer: check(delete(pointer)))


def message(ask: Callable, *arguments: object) -> dict:
    """Return what Triton says in JSON.

    Args:
        ask: a function such as ``library().TRITONSERVER_ServerMetadata``, whose last argument is
            the place for a message.
        arguments: the others.

    Raises:
        ServerError: Triton refused.
    """
    place, text, size = ffi.new(f"{PREFIX}Message **"), ffi.new("char **"), ffi.new("size_t *")
    check(ask(*arguments, place))
    said = _owned(place[0])
    check(library().TRITONSERVER_MessageSerializeToJson(said, text, size))
    return json.loads(ffi.buffer(text[0], size[0])[:])


class _Exchange:
    """A request under way: what must stay where it is until Triton is done with it."""

    def __init__(self, request: CData, data: object):
        self.handle = ffi.new_handle(self)
        self.responses: queue.SimpleQueue = queue.SimpleQueue()
        self.needs = (request, data)
        self.is_complete = False

    def finish(self, *, is_complete: bool = False, is_released: bool = False) -> None:
        """Let go of what is not needed any more; the callbacks come in any order."""
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
        exchange.responses.put(_owned(response))
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
        ServerError: it is an error of Triton's or of the model.
    """
    lib, count = library(), ffi.new("uint32_t *")
    try:
        error = lib.TRITONSERVER_InferenceResponseError(response)
        if error != ffi.NULL:  # not to be deleted: it is a part of the response
            raise ServerError(_sentence(error))
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
    dtype = triton_to_np_dtype(_text(lib.TRITONSERVER_DataTypeString(kind)))
    array = np.frombuffer(ffi.buffer(base, size)[:], dtype)  # a copy
    return _text(name), array.reshape(list(shape[0:dimensions]))


class RunFolder:
    """Where the server of this process has its files; stop() when it has ended.

    A supervisor waits for the end of this process, however it ends, and then ends the processes of
    models, and removes their shared memory and this folder.

    Args:
        model_repository: the folder of models to serve.

    Raises:
        ServerError: something is missing that Triton needs here.
    """

    def __init__(self, model_repository: str | Path = MODEL_REPOSITORY):
        cells.begin(self)
        self._launcher = embedded.EmbeddedLauncher(ServerSpec(Path(model_repository).resolve()))
        self._launcher.check()
        runs.sweep()
        self._path = runs.new_run_dir()
        self._supervisor = subprocess.Popen(
            [sys.executable, Path(supervisor.__file__).parent, "own", self._path],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        # It is told nothing to start, so it cleans up when its input closes.
        self._path.mkdir(mode=0o700)
        (self._path / supervisor.PID_FILE).write_text(str(self._supervisor.pid))
        #: The model repository, and the backends.
        self.models = embedded.lay_out(self._path, self._launcher.spec.model_repository)
        self.backends = self._path / "backends"
        #: What the names of the shared memory of python models are to begin with.
        self.shm_prefix = supervisor.shm_prefix(self._path).encode()
        #: Triton's log.
        self.log = self._path / supervisor.LOG_FILE

    @contextlib.contextmanager
    def environment(self) -> Iterator[None]:
        """Let the processes of models that are loaded meanwhile find what they need.

        They inherit this process's environment, which is changed as long, and print into the log.
        """
        before = dict(os.environ)
        kept = [os.dup(number) for number in (1, 2)]
        with self.log.open("ab") as log:
            for number in (1, 2):
                os.dup2(log.fileno(), number)
        try:
            _set_environment(self._launcher.environment(self._path))
            yield
        finally:
            _set_environment(before)
            for number, file in zip((1, 2), kept, strict=True):
                os.dup2(file, number)
                os.close(file)

    def stop(self) -> None:
        """Remove the folder, with all that belongs to it; end the processes of models."""
        self._supervisor.stdin.close()
        self._supervisor.wait()


def _set_environment(variables: dict[str, str]) -> None:
    for name in set(os.environ) - set(variables):
        del os.environ[name]
    os.environ.update(variables)
