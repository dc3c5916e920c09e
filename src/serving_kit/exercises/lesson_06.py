"""Lesson 06, start Triton: reading its statistics, first aid, and waiting until it is ready."""

import contextlib
import functools
import socketserver
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np

from serving_kit.exercises._answers import NotYet, call, describe, one_number
from serving_kit.exercises._in_time import StillAtWork, call_in_time
from serving_kit.language import _
from serving_kit.server.ports import HOST

HINTS = {
    1: (
        _("The counters only grow. What happened between two looks is a difference."),
        _(
            'You need two numbers of "success": by how much its ns grew, and by how much its count '
            "grew. A millisecond has 1,000,000 ns."
        ),
        _('(last["ns"] - first["ns"]) / count / 1e6 where count is not 0, and 0.0 where it is.'),
    ),
    2: (
        _(
            "Begin with the worst case: nothing else counts while the server does not respond at "
            "all."
        ),
        _(
            "A probe with 200 tells more than `ready`: this model serves its clients, whatever is "
            "wrong with another one."
        ),
        _('if live != 200: return "restart"; then: return "nothing" if probe == 200 else "load"'),
    ),
    3: (
        _(
            "Ask in a loop until time.monotonic() has reached a deadline. What does urlopen do "
            "while nobody listens?"
        ),
        _(
            "urlopen(..., timeout=s) gives up after s seconds. Every failure of it is an OSError: "
            "HTTPError, URLError, RemoteDisconnected and TimeoutError, too."
        ),
        _(
            "while (left := deadline - time.monotonic()) > 0: try urlopen(..., timeout=left) and "
            "return True; except OSError: time.sleep(0.1). After the loop, return False."
        ),
    ),
}

#: How long the learner's function of exercise 3 is told to wait for what never comes.
SHORT = 0.2
#: And how long it may take to notice that, on a busy machine.
NOTICE_SECONDS = 3
#: When the server that comes late is ready, and how long the function is told to wait for it.
LATE_SECONDS, LONG = 0.4, 30


def exercise_1(mean_milliseconds: Callable) -> str:
    """Check a function that takes a mean time from what Triton counted before and after."""
    # As in lesson 06: totals since the server started, in nanoseconds.
    before, after = statistics(3, 9_000_000_000), statistics(5, 9_300_000_000)
    found = one_number(call(mean_milliseconds, before, after))
    hints = {
        1860.0: _("that is the mean since the server started; what happened in between?"),
        300.0: _("that is the time of all requests in between; how many were they?"),
        150_000_000.0: _("that is nanoseconds; a millisecond has a million of them."),
        0.15: _("that is seconds."),
        120.0: _("that is compute_infer, the model's part alone; success has the whole request."),
    }
    if not np.isclose(found, 150.0):
        hint = next((hints[h] for h in hints if np.isclose(found, h)), _("expected 150."))
        raise NotYet(
            _("you found {found:g} for two requests that took 300 ms together: {hint}").format(
                found=found, hint=hint
            )
        )
    if not np.isclose(call(mean_milliseconds, after, after), 0.0):
        raise NotYet(_("right, but without a request in between, let it return 0."))
    return _("Counters that only grow: subtract, then divide. Prometheus does the same.")


def statistics(requests: int, nanoseconds: int) -> dict:
    """Return statistics of a model, in the form that ``get_inference_statistics`` gives."""
    parts = {"success": 1.0, "queue": 0.1, "compute_input": 0.05, "compute_infer": 0.8}
    counted = {
        name: {"count": requests, "ns": int(nanoseconds * share)} for name, share in parts.items()
    }
    counted["fail"] = {"count": 1, "ns": 7_000_000}
    return {
        "model_stats": [
            {
                "name": "fast_neural_style",
                "version": "1",
                "inference_count": requests,
                "execution_count": requests,
                "inference_stats": counted,
            }
        ]
    }


#: The cases of exercise 2: statuses (None without a response), what to do, and a word on it.
CASES = (
    ((200, 200, 200, 200), "nothing", _("all is well.")),
    ((None, None, None, None), "restart", _("the server does not respond at all.")),
    (
        (200, 400, 200, 200),
        "nothing",
        _("another model is broken; this one serves its clients, who would notice a restart."),
    ),
    (
        (200, 200, 400, 404),
        "load",
        _(
            "the model was unloaded, and the server is fine; its other models would go down with "
            "it."
        ),
    ),
    (
        (200, 200, 200, 500),
        "load",
        _("the process that serves the model died, which only the probe sees."),
    ),
    (
        (200, 400, 400, 404),
        "load",
        _("the model is not loaded; a server that has to load a broken model does not even start."),
    ),
)


def exercise_2(first_aid: Callable) -> str:
    """Check a function that decides what to do about a server and one of its models."""
    for (live, ready, model, probe), wanted, why in CASES:
        found = call(first_aid, live, ready, model, probe)
        if found != wanted:
            shown = repr(found) if isinstance(found, str) else describe(found)
            raise NotYet(
                _(
                    "live {live}, ready {ready}, model {model}, probe {probe}: your function "
                    'returned {shown}; expected "{wanted}": {why}'
                ).format(
                    live=live,
                    ready=ready,
                    model=model,
                    probe=probe,
                    shown=shown,
                    wanted=wanted,
                    why=why,
                )
            )
    return _("A restart only where nothing else helps: the other models stay up.")


def exercise_3(wait_until_ready: Callable) -> str:
    """Check a function that waits for a server, with servers that behave badly."""
    with _server(None) as url:
        if _wait(wait_until_ready, url, SHORT):
            raise NotYet(_("nobody listens, and your function says True."))
    never = {
        _("a server accepts the connection and says nothing"): _keep_silent,
        _("a server closes the connection without a response"): _hang_up,
        _("a server is live but responds with 400 at /v2/health/ready"): _be_unready,
    }
    for what, behave in never.items():
        with _server(behave) as url:
            if _wait(wait_until_ready, url, SHORT, what):
                raise NotYet(_("{what}, and your function says True.").format(what=what))
    late = functools.partial(_be_late, time.monotonic() + LATE_SECONDS)
    with _server(late) as url:
        if not _wait(wait_until_ready, url, LONG, _("a server becomes ready late")):
            raise NotYet(
                _(
                    "the server became ready while your function waited, but it says False; does "
                    "it ask again after the first failure?"
                )
            )
    return _("It waits for a server that comes, and for no other longer than it was told to.")


def _wait(wait_until_ready: Callable, url: str, seconds: float, what: str = "") -> bool:
    try:
        found = call_in_time(wait_until_ready, url, seconds, seconds=seconds + NOTICE_SECONDS)
    except StillAtWork as hint:
        raise NotYet(
            _(
                "{what}: {hint} It was given {seconds:g}; how long may each single attempt take?"
            ).format(what=what or _("nobody listens"), hint=hint, seconds=seconds)
        ) from None
    except NotYet as hint:
        raise NotYet(
            _("{hint} (here, {what})").format(hint=hint, what=what) if what else str(hint)
        ) from None
    if not isinstance(found, bool | np.bool_):
        raise NotYet(
            _("your function returned {what}; let it return True or False.").format(
                what=describe(found)
            )
        )
    return bool(found)


@contextlib.contextmanager
def _server(behave: Callable | None) -> Iterator[str]:
    """Give host and port of a server that does this with each request; without it, of none."""
    handler = functools.partial(_Handler, behave=behave)
    with socketserver.ThreadingTCPServer((HOST, 0), handler, bind_and_activate=False) as server:
        server.daemon_threads, server.ended = True, threading.Event()
        # A socket that is bound and does not listen refuses connections.
        server.server_bind()
        if behave:
            server.server_activate()
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield "{}:{}".format(*server.server_address)
        finally:
            server.ended.set()
            if behave:
                server.shutdown()


class _Handler(socketserver.BaseRequestHandler):
    def __init__(self, *arguments: object, behave: Callable):
        self.behave = behave
        super().__init__(*arguments)

    def handle(self) -> None:
        path = self.request.recv(65536).decode(errors="replace").split()[1:2]
        with contextlib.suppress(OSError):  # the learner's side may have gone
            self.behave(self, "".join(path))

    def respond(self, status: int) -> None:
        self.request.sendall(f"HTTP/1.1 {status} -\r\nContent-Length: 0\r\n\r\n".encode())


def _keep_silent(handler: _Handler, path: str) -> None:
    handler.server.ended.wait()


def _hang_up(handler: _Handler, path: str) -> None:
    """Do nothing: the connection is closed when a request was handled."""


def _be_unready(handler: _Handler, path: str) -> None:
    handler.respond(200 if path.endswith("/live") else 400)


def _be_late(ready_at: float, handler: _Handler, path: str) -> None:
    if time.monotonic() > ready_at:
        handler.respond(200)
