"""The demo's web page: drop a photo, pick a style, see it painted by OneFlow behind Triton.

Here are its routes and its process; ``page.py`` has the widgets, and ``stylize`` in ``infer.py``
does the work. Run by run.sh and run_cloud.sh, or by hand, ``python server.py``; these environment
variables tell it how:

=================  ==============  =============================================================
variable           default         meaning
=================  ==============  =============================================================
DEMO_HOST          127.0.0.1       address to listen on; 0.0.0.0 is all of this machine's
DEMO_PORT          7860            port, which the line that is printed names; if it is not set
                                   and 7860 is taken, a free one
DEMO_ROOT_PATH     (nothing)       path in front of the page, for example /demo, whether the proxy
                                   there takes it off or not
TRITON_URL         localhost:8000  host and port of Triton's HTTP service
DEMO_KEEP_SECONDS  600             how long photos and paintings stay on this machine's disk
=================  ==============  =============================================================

``GET <path>/health`` answers ``{"painter": "ready"}``, or "slow", "starting", "away".
"""

import os
import signal
import socket
import sys
import tempfile
from pathlib import Path

import fastapi
import uvicorn
from fastapi.responses import FileResponse
from scratch import Scratch, sweep

from serving_kit.errors import ServerError
from serving_kit.server.ports import usual_ports_or_free

HERE = Path(__file__).parent
PORT = 7860


class UnderPath:
    """An ASGI application under a path, also behind a proxy that takes the path off.

    Args:
        app: the application, whose routes begin with the path.
        path: "/demo", for example, or "".
    """

    def __init__(self, app, path: str):
        self.app, self.path = app, path

    async def __call__(self, scope, receive, send):
        """Put the path in front of a request's where it is missing."""
        asked = scope.get("path", "")
        if self.path and asked and not f"{asked}/".startswith(f"{self.path}/"):
            scope = scope | {"path": self.path + asked, "raw_path": None}
        await self.app(scope, receive, send)


def application(triton_url: str, scratch: Scratch, path: str) -> UnderPath:
    """Return the page and what belongs to it under a path."""
    # Not earlier: gradio makes its temporary folder when it is imported.
    import page
    from painter import Painter

    painter = Painter(triton_url, scratch)
    app = fastapi.FastAPI(openapi_url=None)

    @app.get(f"{path}/health")
    async def health():
        return {"painter": await painter.health()}

    @app.get(f"{path}/styles.jpg")
    async def styles():
        return FileResponse(HERE / "styles.jpg", headers={"Cache-Control": "max-age=3600"})

    page.mount(app, painter, path)
    return UnderPath(app, path)


class Server(uvicorn.Server):
    """uvicorn, which says where the page is once it is there."""

    def __init__(self, config: uvicorn.Config, address: str):
        super().__init__(config)
        self.address = address

    async def startup(self, sockets=None):
        """Start, and say so."""
        await super().startup(sockets)
        print(f"page      {self.address}", flush=True)


def listen(host: str, port: int | None) -> socket.socket:
    """Return a socket that listens on a port, or if that is None on the usual one or a free one.

    Raises:
        OSError: the port is taken, or the address is not this machine's; also as ServerError.
        OverflowError: there is no such port.
    """
    if port is None:
        (port,) = usual_ports_or_free((PORT,), host)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=1024)


def main() -> int:
    """Serve the page until Ctrl-C or SIGTERM; return 1 after saying why it cannot."""
    host = os.environ.get("DEMO_HOST") or "127.0.0.1"
    path = "/" + os.environ.get("DEMO_ROOT_PATH", "").strip("/")
    path = "" if path == "/" else path
    try:
        port = os.environ.get("DEMO_PORT")
        listening = listen(host, int(port) if port else None)
        keep = float(os.environ.get("DEMO_KEEP_SECONDS") or 600)
    except ValueError as error:
        print(f"error: DEMO_PORT and DEMO_KEEP_SECONDS must be numbers: {error}", file=sys.stderr)
        return 1
    except (OSError, OverflowError, ServerError) as error:
        print(
            f"error: the page cannot listen on {host}, port {port or PORT}: {error}; "
            "choose others with DEMO_HOST and DEMO_PORT",
            file=sys.stderr,
        )
        return 1
    # uvicorn ends tidily at SIGTERM and then sends it on; this makes it end as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    sweep()
    scratch = Scratch(keep)
    try:
        # gradio and all other code that writes temporary files writes them there.
        os.environ["GRADIO_TEMP_DIR"] = tempfile.tempdir = str(scratch.folder)
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        app = application(os.environ.get("TRITON_URL") or "localhost:8000", scratch, path)
        scratch.start()
        shown = "localhost" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
        address = f"http://{shown}:{listening.getsockname()[1]}{path}/"
        Server(config, address).run(sockets=[listening])
    except KeyboardInterrupt:
        pass
    finally:
        scratch.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
