"""Triton's C API: a whole Triton in this process, without HTTP, gRPC or a port.

``library()`` opens the ``libtritonserver`` that the embedded server runs, with the functions and
types that ``declarations.h`` has; they are called by their own names. These modules have what every
program around them needs:

- ``calls``: ``check`` turns an error of Triton into a ServerError, ``owned`` deletes an object when
  nothing refers to it any more, ``message`` reads Triton's JSON;
- ``requests``: ``send`` sends a request and waits, ``outputs`` copies what came;
- ``folder``: a ``RunFolder`` has the server's files, and is cleaned up after this process, however
  that ends.

cffi refuses a pointer to the wrong kind of object, but not one to an object that is gone: that, or
a size that is wrong, ends this process as it would a C program.
"""

from serving_kit.server.c_api.calls import check, ffi, library, message, owned
from serving_kit.server.c_api.folder import RunFolder
from serving_kit.server.c_api.requests import outputs, send

__all__ = ["RunFolder", "check", "ffi", "library", "message", "outputs", "owned", "send"]
