"""Calling Triton's C API: its library, its errors, and objects that are deleted in time."""

import atexit
import contextlib
import ctypes
import functools
import json
from collections.abc import Callable
from pathlib import Path

import cffi

from serving_kit.errors import ServerError
from serving_kit.server import embedded

ffi = cffi.FFI()
ffi.cdef(Path(__file__).with_name("declarations.h").read_text())
#: A pointer, a number or another object of C.
CData = ffi.CData
#: How Triton begins a text about a request that was given no ID.
NO_ID = "[request id: <id_unknown>] "
_is_ending = False


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
            f"Triton's C API cannot be used here: {error}; is nvidia-pytriton completely installed?"
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
    """Raise the error that a function of the C API returned; NULL means no error.

    Raises:
        ServerError: what Triton says, in one sentence.
    """
    if error != ffi.NULL:
        sentence = sentence_of(error)
        library().TRITONSERVER_ErrorDelete(error)
        raise ServerError(sentence)


def sentence_of(error: CData) -> str:
    """Return what an error says, in one sentence."""
    lib = library()
    code = text_of(lib.TRITONSERVER_ErrorCodeString(error))
    # A model's Python exception is followed by where it came from.
    said = text_of(lib.TRITONSERVER_ErrorMessage(error)).partition("\n\nAt:")[0]
    said = " ".join(said.split())
    return f"Triton refused ({code}): {said.removeprefix(NO_ID).rstrip('.; ')}"


def text_of(characters: CData) -> str:
    """Return a C string, which ends with a zero, as text."""
    return ffi.string(characters).decode(errors="replace")


def owned(create: Callable, *arguments: object) -> CData:
    """Create a Triton object, which is deleted when nothing refers to it any more.

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
    return owning(place[0])


def owning(pointer: CData) -> CData:
    """Return a pointer whose object is deleted with it."""
    kind = ffi.typeof(pointer).item.cname.split()[-1]
    delete = getattr(library(), f"{kind}Delete")
    return ffi.gc(pointer, lambda pointer: _is_ending or check(delete(pointer)))


@atexit.register
def _end() -> None:
    """Delete nothing any more: Triton would wait for callbacks, which Python cannot take now.

    The end of the process ends Triton as well.
    """
    global _is_ending
    _is_ending = True


def message(ask: Callable, *arguments: object) -> dict:
    """Return what Triton says in JSON.

    Args:
        ask: a function such as ``library().TRITONSERVER_ServerMetadata``, whose last argument is
            the place for a message.
        arguments: the others.

    Raises:
        ServerError: Triton refused.
    """
    place, text, size = ffi.new("TRITONSERVER_Message **"), ffi.new("char **"), ffi.new("size_t *")
    check(ask(*arguments, place))
    said = owning(place[0])
    check(library().TRITONSERVER_MessageSerializeToJson(said, text, size))
    return json.loads(ffi.buffer(text[0], size[0])[:])
