"""Keep one Triton Inference Server alive for exactly as long as it is wanted.

``triton.TritonServer`` starts this file as a process of its own, and holds the other end of its
standard input. When that end closes, because the server is stopped or because its owner was
killed, however brutally, the supervisor stops Triton, ends whatever it left running, and removes
its shared memory and its run folder. It is there before the folder is made, so that an owner that
is killed while it lays the folder out leaves nothing either; one line on that input then tells
what to start. A server that is to outlive its owner is let go, once it is ready, with a second
line; from then on only a signal ends it.

Meanwhile it looks after the processes in which Triton's python backend runs models: Triton does
not replace one that died, and goes on saying that it is ready. Standard library only.
"""

import contextlib
import ctypes
import http.client
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

#: In the environment of every process of one run; its value is the run folder.
RUN_MARK = "SERVING_KIT_RUN"
#: What the owner writes to let a server go on without it.
LET_GO = b"let go\n"

#: Triton responds to what it has accepted, for at most this long, before it gives up its models.
EXIT_TIMEOUT_SECONDS = 5
#: It is killed this long after it was asked to stop.
KILL_AFTER_SECONDS = 15
#: How often the python backend's processes are looked at (0.5 ms): one that dies before its first
#: look is not known, and not replaced. And how long one is dead that Triton does not know of.
LOOK_SECONDS, DEAD_SECONDS = 0.25, 1
LOAD_SECONDS = 600
#: Processes that were killed are dead well within this time.
BURY_SECONDS = 5

SHARED_MEMORY = Path("/dev/shm")
STUB = "triton_python_backend_stub"
#: In a run folder: the ID of the Docker container, as ``docker run --cidfile`` writes it.
CONTAINER_FILE = "container"
#: And the supervisor's PID, the exit code of a Triton that ended by itself, and Triton's output.
PID_FILE, EXIT_CODE_FILE, LOG_FILE = "supervisor.pid", "exit_code", "log"
# Of Linux's prctl(2).
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def shm_prefix(run_dir: Path) -> str:
    """Return what the names of this run's shared memory begin with."""
    return f"{run_dir.name}-"


def processes_of(run_dir: Path) -> list[int]:
    """Return the PIDs of all processes of one run but this one: those that carry its mark."""
    mark = f"{RUN_MARK}={run_dir}".encode()
    pids = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        # Other people's processes, and those that just ended, cannot be read.
        with contextlib.suppress(OSError):
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                pids.append(int(entry.name))
    return pids


def clean_up(run_dir: Path) -> None:
    """End what a run left running; remove its container, its shared memory, then its folder."""
    with contextlib.suppress(FileNotFoundError):
        container = (run_dir / CONTAINER_FILE).read_text()
        # Of one that is gone already, as it should be, Docker only says so.
        subprocess.run(["docker", "rm", "--force", container], capture_output=True, check=False)
    for pid in processes_of(run_dir):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for segment in SHARED_MEMORY.glob(f"{shm_prefix(run_dir)}*"):
        segment.unlink(missing_ok=True)
    shutil.rmtree(run_dir, ignore_errors=True)


def main(run_dir: Path) -> None:
    """Wait until the owner has laid out the run folder, then do what it says.

    Its line is a JSON object: the arguments of ``supervise`` but the folder.
    """
    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as owner:
        order = owner.readline()  # unbuffered, as what follows it is for others to read
    if not order.endswith(b"\n"):
        clean_up(run_dir)
        return
    log = os.open(run_dir / LOG_FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for stream in (sys.stdout, sys.stderr):  # where an error of our own would be looked for
        os.dup2(log, stream.fileno())
    os.close(log)
    supervise(run_dir, **json.loads(order))


def supervise(run_dir: Path, command: list[str], control: dict | None) -> None:
    """Run ``command`` until standard input closes or a signal asks to end, then clean up.

    Files in ``run_dir`` tell the owner what happens; see the constants above. A reader that is
    quicker than the writer finds an empty one, which is as good as none.

    Args:
        run_dir: the run folder.
        command: Triton's command line.
        control: where the model control API is, and the header that opens it, as
            ``{"address": ..., "port": ..., "header": [name, value]}``; None when there is none.
    """
    (run_dir / PID_FILE).write_text(str(os.getpid()))
    wake, alarm = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(alarm, False)
    signal.set_wakeup_fd(alarm)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    # What Triton's processes leave behind when they die becomes this process's to bury.
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    with (run_dir / LOG_FILE).open("ab") as log:
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=_die_with_parent,
        )
        stubs = _Stubs(server.pid, control, log) if control else None
        try:
            _watch(server, run_dir, wake, stubs)
        finally:
            if server.poll() is None:
                _stop(server)
            clean_up(run_dir)
            deadline = time.monotonic() + BURY_SECONDS
            while _bury_orphans(server.pid) and time.monotonic() < deadline:
                time.sleep(0.01)


def _watch(server: subprocess.Popen, run_dir: Path, wake: int, stubs: "_Stubs | None") -> None:
    """Return when the server is to be stopped."""
    owner = sys.stdin.fileno()
    watched = [owner, wake]
    while True:
        ready, _, _ = select.select(watched, [], [], LOOK_SECONDS)
        if owner in ready:
            if not os.read(owner, len(LET_GO)):
                return
            watched.remove(owner)
        if wake in ready and any(number != signal.SIGCHLD for number in os.read(wake, 64)):
            return
        _bury_orphans(server.pid)
        if server.poll() is not None:
            (run_dir / EXIT_CODE_FILE).write_text(str(server.returncode))
        elif stubs:
            stubs.look()


class _Stubs:
    """The python backend's processes of one Triton, which are replaced when they died."""

    def __init__(self, triton: int, control: dict, log):
        self._triton = triton
        self._control = control
        self._log = log
        self._models: dict[int, str] = {}
        self._dead_since: dict[int, float] = {}
        self._reloaded: set[int] = set()

    def look(self) -> None:
        """Load a model again whose process is dead for some time.

        Not at once: a process that Triton ends itself, as it unloads a model, is dead for a
        moment before Triton has taken note of it.
        """
        now, children = time.monotonic(), self._children()
        self._reloaded &= set(children)  # the number of one that is gone may be given again
        dead = filter(self._is_dead_stub, children)
        self._dead_since = {pid: self._dead_since.get(pid, now) for pid in dead}
        for pid, since in self._dead_since.items():
            if now - since >= DEAD_SECONDS and pid not in self._reloaded:
                self._reloaded.add(pid)
                model = self._models[pid]
                threading.Thread(target=self._reload, args=(model,), daemon=True).start()

    def _children(self) -> list[int]:
        pids = []
        for thread in Path(f"/proc/{self._triton}/task").iterdir():
            with contextlib.suppress(OSError):  # a thread that ended just now
                pids += map(int, (thread / "children").read_text().split())
        return pids

    def _is_dead_stub(self, pid: int) -> bool:
        """Tell whether a child is a stub that died; note the model of one that lives."""
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if Path(os.fsdecode(command[0])).name == STUB:
                # Its first argument is <repository>/<model>/<version>/model.py.
                self._models[pid] = Path(os.fsdecode(command[1])).parts[-3]
            # The command line of a dead process is empty.
            return command == [b""] and pid in self._models
        return False

    def _reload(self, model: str) -> None:
        self._say(f"the process that serves {model} died; loading {model} again")
        try:
            # Triton takes a model that it has loaded for a good one: load alone does nothing.
            for action in ("unload", "load"):
                status, text = self._post(f"/v2/repository/models/{model}/{action}")
                if status != 200:
                    self._say(f"{model} cannot be loaded again: {text}")
                    return
        except OSError as error:
            self._say(f"{model} cannot be loaded again: {error}")
            return
        for pid in self._children():
            self._is_dead_stub(pid)  # the new one is known from now on
        self._say(f"{model} is loaded again")

    def _post(self, path: str) -> tuple[int, str]:
        name, value = self._control["header"]
        status, body = request(
            self._control["address"], self._control["port"], path, "{}", {name: value}, LOAD_SECONDS
        )
        return status, body.decode(errors="replace")

    def _say(self, text: str) -> None:
        # In the manner of Triton's own lines, at the end of its log.
        self._log.write(f"W supervisor: {text}\n".encode())
        self._log.flush()


def _stop(server: subprocess.Popen) -> None:
    """Ask Triton to end; insist when it does not."""
    server.terminate()
    try:
        server.wait(KILL_AFTER_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _bury_orphans(server: int) -> bool:
    """Take note of the death of all children but the server; tell whether children are left."""
    while True:
        try:
            dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        if dead is None or dead.si_pid == server:  # whose exit code Popen will ask for
            return True
        os.waitpid(dead.si_pid, 0)


def _die_with_parent() -> None:
    """Have the kernel end Triton when the supervisor itself is killed."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value)


def request(
    address: str,
    port: int,
    path: str,
    body: str | None = None,
    headers: dict[str, str] | None = None,
    seconds: float = 5,
) -> tuple[int, bytes]:
    """Send a GET, or with a body a POST, never through a proxy that the environment may name.

    Returns:
        The status and the body of the response.

    Raises:
        OSError: there is no response, or none in HTTP.
    """
    connection = http.client.HTTPConnection(address, port, timeout=seconds)
    with contextlib.closing(connection):
        method = "GET" if body is None else "POST"
        try:
            connection.request(method, path, body, {"Connection": "close"} | (headers or {}))
            response = connection.getresponse()
            return response.status, response.read()
        except http.client.HTTPException as error:
            raise OSError(f"no response in HTTP from {address}:{port} ({error!r})") from error


if __name__ == "__main__":
    main(Path(sys.argv[1]))
