"""A cell of a notebook that is run again ends the server that it started before."""

import sys
import threading
from types import SimpleNamespace

import pytest

from serving_kit.server import cells


class Server:
    def __init__(self):
        self.stopped = 0

    def stop(self):
        self.stopped += 1


@pytest.fixture
def run_cell(monkeypatch):
    """Have the following happen in a new run of a cell."""
    monkeypatch.setattr(cells, "_started", [])
    runs = iter(range(100))

    def run_cell(code, **metadata):
        request = {
            "metadata": metadata,
            "content": {"code": code},
            "header": {"msg_id": str(next(runs))},
        }
        shell = SimpleNamespace(get_parent=lambda: request)
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))

    return run_cell


def began():
    server = Server()
    cells.begin(server)
    return server


def test_only_what_an_earlier_run_of_the_same_cell_started_is_stopped(run_cell):
    run_cell("one")
    servers = [began(), began()]  # two in one run: both stay
    run_cell("other")
    other = began()
    assert [server.stopped for server in (*servers, other)] == [0, 0, 0]
    run_cell("one")
    again = began()
    assert [server.stopped for server in (*servers, other, again)] == [1, 1, 0, 0]
    run_cell("one")
    began()
    assert [server.stopped for server in (*servers, other, again)] == [1, 1, 0, 1]


def test_the_same_server_that_a_cell_starts_again_is_stopped_first(run_cell):
    run_cell("server.start()")
    server = began()
    run_cell("server.start()")
    cells.begin(server)
    assert server.stopped == 1


def test_a_cell_that_was_edited_is_known_by_its_identity(run_cell):
    run_cell("port 1", cellId="a")
    first = began()
    run_cell("port 1", cellId="b")
    began()
    assert first.stopped == 0
    run_cell("port 2", cellId="a")
    began()
    assert first.stopped == 1


def test_servers_of_threads_are_not_noted(run_cell):
    run_cell("one")
    servers = []
    thread = threading.Thread(target=lambda: servers.append(began()))
    thread.start()
    thread.join()
    run_cell("one")
    began()
    assert servers[0].stopped == 0


def test_outside_of_a_kernel_nothing_is_noted(monkeypatch):
    for module in (None, SimpleNamespace(get_ipython=lambda: None)):
        monkeypatch.setitem(sys.modules, "IPython", module)
        monkeypatch.setattr(cells, "_started", [])
        began()
        assert cells._started == []
