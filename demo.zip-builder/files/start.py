"""Start Triton and the web page, stylize cat.jpg once, and end both when one of them ends.

run.sh and run_cloud.sh call this after the set-up. A process of its own, the supervisor in
``serving_kit/server/``, watches over both: nothing stays, even when this one is killed.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

# Here, not at the first request: a Ctrl-C in the middle of this import may crash the process.
import tritonclient.http  # noqa: F401
from infer import stylize

from serving_kit.errors import ServerError
from serving_kit.paths import MODEL_REPOSITORY
from serving_kit.programs import run_program
from serving_kit.server import TritonServer

HERE = Path(__file__).resolve().parent
#: The line in which server.py says where it listens begins so.
PAGE_LINE = "page "
#: gradio takes some seconds to import, and more on a slow disk.
PAGE_SECONDS = 120
STOP_SECONDS = 10


def main(arguments: list[str] | None = None) -> int:
    """Return 1 when something failed, and 130 after Ctrl-C; see ``run_program``."""
    options = _parser().parse_args(arguments)
    return run_program(lambda: serve(options.host, options.port, options.logs))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Start Triton and the web page.")
    parser.add_argument("--host", default="127.0.0.1", help="address that the page listens on")
    parser.add_argument("--port", type=int, help="port of the page (default: 7860, or a free one)")
    parser.add_argument("--logs", type=Path, help="folder where the logs stay")
    return parser


def serve(host: str, port: int | None, logs: Path | None) -> None:
    """Serve until Triton or the page ends.

    Args:
        host: address that the page listens on. Triton listens on this machine only.
        port: of the page; None leaves it to the page.
        logs: folder for triton.log and page.log, which stay; None for no logs.

    Raises:
        ServingKitError: always, in the end: what could not be started, or which of both ended.
    """
    if logs:
        logs.mkdir(parents=True, exist_ok=True)
    log_file = logs and logs / "triton.log"
    with TritonServer(MODEL_REPOSITORY, usual_ports=True, log_file=log_file) as server:
        choice = server.choice
        print(f"choice    {choice.mode} on the {choice.device.upper()}: {choice.why}")
        print(f"server    {server}, ready in {server.ready_after:.1f} s")
        print(f"ports     HTTP {server.url}, gRPC {server.grpc_url}", flush=True)
        done = stylize(HERE / "cat.jpg", HERE / "result.jpg", url=server.url)
        height, width = done.after.shape[:2]
        print(f"picture   result.jpg: cat.jpg painted, {width} x {height}", flush=True)
        said = logs / "page.log" if logs else server.run_dir / "page.log"
        page = server.start_beside(
            [sys.executable, HERE / "server.py"],
            output=said,
            TRITON_URL=server.url,
            DEMO_HOST=host,
            DEMO_PORT="" if port is None else str(port),
        )
        try:
            print(line_of(page, said), flush=True)
            print("stop      Ctrl-C", flush=True)
            wait_for_end(server, page, said)
        finally:
            end(page)


def line_of(page: subprocess.Popen, said: Path) -> str:
    """Return the line in which the page says where it is, once it is there.

    Raises:
        ServerError: it ended, or said nothing in time.
    """
    deadline = time.monotonic() + PAGE_SECONDS
    while time.monotonic() < deadline:
        for line in said.read_text(errors="replace").splitlines():
            if line.startswith(PAGE_LINE):
                return line
        if page.poll() is not None:
            raise ServerError(f"the page, server.py, did not start{_last_line(said)}")
        time.sleep(0.1)
    raise ServerError(f"the page, server.py, was not ready after {PAGE_SECONDS} s")


def wait_for_end(server: TritonServer, page: subprocess.Popen, said: Path) -> None:
    """Wait until Triton or the page ends.

    Raises:
        ServerError: which of them ended.
    """
    while True:
        if (code := server.exit_code()) is not None:
            raise ServerError(f"Triton ended with exit code {code}, so the page is stopped, too")
        if (code := page.poll()) is not None:
            raise ServerError(
                f"the page ended with exit code {code}, so Triton is stopped, too{_last_line(said)}"
            )
        time.sleep(0.5)


def end(page: subprocess.Popen) -> None:
    """Ask the page to end; kill it if it does not."""
    page.terminate()
    try:
        page.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        page.kill()
        page.wait()


def _last_line(said: Path) -> str:
    lines = said.read_text(errors="replace").strip().splitlines()
    return f": {lines[-1].removeprefix('error: ')}" if lines else ""


if __name__ == "__main__":
    sys.exit(main())
