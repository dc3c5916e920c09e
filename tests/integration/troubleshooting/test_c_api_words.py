"""The messages of Triton's C API in docs/troubleshooting.md."""

import sys

import pytest
from provoking import of_another_test, provokes, raised, run

from serving_kit.errors import ServerError
from serving_kit.server import c_api, embedded

START = of_another_test("test_c_api").START
pytestmark = pytest.mark.usefixtures("is_clean")


@provokes("Triton's C API cannot be used")
def test_triton_s_c_api_cannot_be_used(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "_site_packages", lambda: tmp_path)
    library = tmp_path / "nvidia_pytriton.libs" / "libtritonserver-0.so"
    said = [raised(ServerError, c_api.library.__wrapped__)]
    library.parent.mkdir()
    library.write_text("no library")
    return [*said, raised(ServerError, c_api.library.__wrapped__)]


@provokes("A call of the C API is refused")
def test_a_call_of_the_c_api_is_refused(tiny_repository):
    """In a process of its own: what goes wrong there ends it."""
    program = """
folder, server = start(b"tiny")
for call in (
    lambda: infer(server, PAIR, model=b"nobody"),
    lambda: infer(server, PAIR[:1]),
    lambda: lib.TRITONSERVER_ServerDelete(owned(lib.TRITONSERVER_ServerOptionsNew)),
):
    try:
        call()
    except (ServerError, TypeError) as error:
        print(error)
server = None
folder.stop()
"""
    return run(sys.executable, "-c", START + program, tiny_repository)
