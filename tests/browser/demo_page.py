"""The demo's page as tests run it: server.py in a folder laid out like demo.zip, and requests."""

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import httpx
import psutil

from serving_kit.paths import ROOT

FILES = ROOT / "demo.zip-builder" / "files"
START_SECONDS = 60
ANSWER_SECONDS = 120
CAT = ROOT / "assets" / "cat.jpg"


def lay_out(folder):
    """Make a folder of the page's files and photos, as they lie in demo.zip."""
    folder.mkdir()
    for file in [*FILES.glob("*.*"), CAT, CAT.with_name("coffee.jpg")]:
        shutil.copyfile(file, folder / file.name)
    return folder


class DemoPage:
    """server.py, running in a process of its own; ``options`` are its environment variables."""

    def __init__(self, folder, triton_url, temporary, **options):
        self.folder, self.temporary = folder, temporary
        self.log_file = folder / "server.log"
        self.options = {"DEMO_PORT": "0", "TRITON_URL": triton_url, "TMPDIR": str(temporary)}
        self.options |= options
        self.process = None
        self.url = ""

    def launch(self):
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "server.py"],
                cwd=self.folder,
                env=os.environ | self.options,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def start(self):
        """Launch it and wait until it says where it is."""
        self.url = ""
        self.launch()
        deadline = time.monotonic() + START_SECONDS
        while not self.url:
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.1)
            for line in self.log().splitlines():
                if line.startswith("page ") and line.endswith("/"):
                    self.url = line.split()[1]
        return self

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        return self.process.wait(START_SECONDS)

    def kill(self):
        if self.process:
            self.process.kill()
            self.process.wait()

    def log(self):
        return self.log_file.read_text()

    @property
    def scratch(self):
        """The page's temporary folder."""
        (folder,) = self.temporary.glob("oneflow-demo-*")
        return folder

    def files(self):
        """All files that it has in its temporary folder."""
        return [path for path in self.scratch.rglob("*") if path.is_file()]

    def megabytes(self):
        return psutil.Process(self.process.pid).memory_info().rss / 1e6

    def most_megabytes(self):
        """Of all its life."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1000

    def visitor(self, language="en"):
        """A client without a browser, for a with block."""
        return Visitor(self.url, language)


class Way(socketserver.ThreadingTCPServer):
    """Passes connections on to Triton; a test can cut them, or let them wait, for a while.

    The port is held all the time: unlike that of a Triton that was stopped, nobody else can get it.
    """

    daemon_threads = True

    def __init__(self, triton_url):
        super().__init__(("127.0.0.1", 0), _Passing)
        host, port = triton_url.split(":")
        self.behind = (host, int(port))
        self.is_cut = False
        self.is_open = threading.Event()
        self.is_open.set()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.1,))

    @property
    def url(self):
        return "{}:{}".format(*self.server_address)

    @contextlib.contextmanager
    def cut(self):
        """Let nobody answer."""
        self.is_cut = True
        try:
            yield
        finally:
            self.is_cut = False

    @contextlib.contextmanager
    def held(self):
        """Let answers wait until the end."""
        self.is_open.clear()
        try:
            yield
        finally:
            self.is_open.set()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Passing(socketserver.BaseRequestHandler):
    def handle(self):
        self.server.is_open.wait(ANSWER_SECONDS)
        if self.server.is_cut:
            return
        with (
            contextlib.suppress(ConnectionError),
            socket.create_connection(self.server.behind) as triton,
        ):
            other = {self.request: triton, triton: self.request}
            while True:
                for end in select.select([*other], [], [])[0]:
                    if not (data := end.recv(1 << 20)):
                        return
                    other[end].sendall(data)


class Visitor(httpx.Client):
    def __init__(self, url, language):
        super().__init__(
            base_url=url,
            timeout=ANSWER_SECONDS,
            headers={"Accept-Language": language},
            trust_env=False,
        )

    def upload(self, content, name="photo.jpg"):
        """Return the photo as the page knows it; raises httpx.HTTPStatusError when refused."""
        answer = self.post("gradio_api/upload", files={"files": (name, content)})
        return photo_at(answer.raise_for_status().json()[0])

    def ask_to_paint(self, photo, style="starry_night", second="red_ember", percent=0):
        """Return ("complete", the page's answer), ("error", what it says), or ("refused", ...)."""
        data = {"data": [photo, style, second, percent]}
        answer = self.post("gradio_api/call/paint", json=data)
        if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            return "refused", answer.json()
        event = answer.raise_for_status().json()["event_id"]
        text = self.get(f"gradio_api/call/paint/{event}").raise_for_status().text
        # Heartbeats may come first.
        kind, data = text.strip().split("\n\n")[-1].split("\n", 1)
        return kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))

    def paint(self, photo, *wanted):
        """Return the painting, a JPEG."""
        kind, answer = self.ask_to_paint(photo, *wanted)
        assert kind == "complete", answer
        return self.get(answer[1]["value"]["url"]).raise_for_status().content


def photo_of(user):
    """A photo that no other user has: its width tells whose it is."""
    return cv2.imencode(".jpg", cv2.imread(str(CAT))[:, : 300 + user])[1].tobytes()


def photo_at(path):
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


@contextlib.contextmanager
def running(page):
    """Start a page; stop it at the end, and see that its temporary folder is gone."""
    try:
        yield page.start()
        assert page.stop() == 0, page.log()
    finally:
        if page.process.poll() is None:
            page.kill()
    left = [str(path.relative_to(page.temporary)) for path in page.temporary.rglob("*")]
    assert left == []
