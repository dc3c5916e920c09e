"""The embedded server starts, says what is wrong, and leaves nothing behind, however it ends."""

import contextlib
import http.client
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import psutil
import pytest
import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

from serving_kit.client.inference import infer
from serving_kit.errors import ClientError, ServerError
from serving_kit.server import embedded, launcher, ports, runs, supervisor
from serving_kit.server.triton import TritonServer

SECONDS = 60


def wait_until(condition):
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def traces(run):
    """Everything that a run may leave: its folder, its processes, its shared memory."""
    folder = [run] if run.exists() else []
    return [*folder, *supervisor.processes_of(run), *Path("/dev/shm").glob(f"{run.name}*")]


def run_folders():
    return set(Path(tempfile.gettempdir()).glob(f"{runs.RUN_PREFIX}*"))


@pytest.fixture
def is_clean():
    """Tells whether nothing is left of the runs of this test; in the end that must be so.

    The runs of other servers do not count: those of this session live on, and a model that they
    were told to unload goes when Triton finds the time.
    """
    others = run_folders()

    def is_clean():
        return not any(traces(run) for run in run_folders() - others)

    yield is_clean
    wait_until(is_clean)


#: Python itself leaves a file behind when it is interrupted while it looks for a temporary folder.
OWNER = """
import sys, tempfile
from serving_kit.server.triton import TritonServer
tempfile.gettempdir()
print("starting", flush=True)
with TritonServer(sys.argv[1]) as server:
    print(server.run_dir, flush=True)
    sys.stdin.read()
"""


def start_owner(repository):
    """Start a process of its own that starts a server and keeps it."""
    return subprocess.Popen(
        [sys.executable, "-c", OWNER, repository],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


#: Holds still in the middle of its start: there is a run folder, and no Triton yet.
SLOW_OWNER = """
import sys, time
from serving_kit.server import embedded
from serving_kit.server.triton import TritonServer
def lay_out(run_dir, model_repository):
    (run_dir / "backends").mkdir()
    print(run_dir, flush=True)
    time.sleep(600)
embedded.lay_out = lay_out
TritonServer(sys.argv[1]).start()
"""


def run_dir_of(owner):
    assert owner.stdout.readline() == "starting\n"
    return Path(owner.stdout.readline().strip())


@pytest.fixture
def owner(small_repository):
    """An owner whose server is ready, and the run's folder."""
    process = start_owner(small_repository)
    run_dir = run_dir_of(process)
    assert supervisor.processes_of(run_dir)
    yield process, run_dir
    process.kill()
    process.communicate()


def named(server, name):
    """Return the processes of a server that have a name (the kernel keeps 15 characters)."""
    found = []
    for pid in supervisor.processes_of(server.run_dir):
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if process.name().startswith(name[:15]):
                found.append(process)
    return found


def listening(server):
    return {
        connection.laddr.ip.removeprefix("::ffff:")  # IPv4, as gRPC shows it
        for process in named(server, "tritonserver")
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }


def small_picture():
    return np.random.default_rng(1).uniform(0, 255, (1, 3, 64, 64)).astype(np.float32)


def test_ready_then_gone(is_clean, small_repository):
    server = TritonServer(small_repository)
    assert not server.is_ready()
    with server:
        assert server.is_ready()
        assert server.models() == {"small": True}
        assert server.version == "2.51.0"
        assert str(server) == f"embedded Triton 2.51.0 on 127.0.0.1:{server.ports[0]}"
        with pytest.raises(ServerError, match=r"already running, on 127.*; stop\(\) it first"):
            server.start()
        assert listening(server) == {"127.0.0.1"}
        assert not server.is_reachable_from_elsewhere
        assert b"nv_inference_count" in urlopen(server.metrics_url).read()
    assert not server.is_ready()
    assert is_clean()
    server.stop()  # once more does no harm
    with server:  # and it can be started again
        assert server.is_ready()


def load(server):
    request = Request(f"http://{server.url}/v2/repository/models/small/load", b"{}", method="POST")
    try:
        with urlopen(request) as answer:
            return answer.status
    except HTTPError as error:
        return error.code


def load_by_grpc(server):
    with contextlib.closing(grpcclient.InferenceServerClient(server.grpc_url)) as client:
        client.load_model("small")


def test_model_control_is_closed_unless_asked_for(is_clean, small_repository):
    with TritonServer(small_repository) as server:
        assert load(server) == 403
        with pytest.raises(InferenceServerException, match="protocol is restricted"):
            load_by_grpc(server)
    with TritonServer(small_repository, model_control=True, address="0.0.0.0") as server:
        assert load(server) == 200
        load_by_grpc(server)
        # And the one that was asked to listen to all the world does.
        assert listening(server) <= {"0.0.0.0", "::"}
        assert server.is_reachable_from_elsewhere
        assert server.url.startswith("127.0.0.1:")


def test_only_the_wanted_models_are_loaded(is_clean, small_repository):
    shutil.copytree(small_repository / "small", small_repository / "other")
    config = small_repository / "other" / "config.pbtxt"
    config.write_text(config.read_text().replace('"small"', '"other"'))
    with TritonServer(small_repository, models=["other"]) as server:
        assert server.models() == {"other": True}
        assert load(server) == 403
    with pytest.raises(ServerError, match="othr"):
        TritonServer(small_repository, models=["othr"]).start()


def test_wanted_ports_are_taken(is_clean, small_repository):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ServerError, match=f"port {port} of 127.0.0.1 is taken by another"):
            TritonServer(small_repository, http_port=port).start()
    with TritonServer(small_repository, http_port=port) as server:
        assert server.url == f"127.0.0.1:{port}"
        with pytest.raises(ServerError, match=f"port {port} .* is taken by a Triton 2.51.0; stop"):
            TritonServer(small_repository, http_port=port).start()


@pytest.mark.parametrize(
    ("port", "address", "sentence"),
    [
        (70000, "127.0.0.1", "port 70000 does not exist; choose 1 to 65535"),
        (None, "192.0.2.1", "192.0.2.1 is not an address of this machine"),
    ],
)
def test_ports_and_addresses_that_cannot_be(is_clean, small_repository, port, address, sentence):
    with pytest.raises(ServerError, match=sentence):
        TritonServer(small_repository, http_port=port, address=address).start()


def test_a_port_that_is_taken_while_triton_starts(is_clean, small_repository, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as other:
        offered = iter([other.getsockname()[1]])

        def find_taken_first(wanted, address):
            found = ports.free_ports(wanted, address)
            return (next(offered, found[0]), *found[1:])

        monkeypatch.setattr(launcher, "free_ports", find_taken_first)
        with TritonServer(small_repository) as server:
            assert server.ports[0] != other.getsockname()[1]


def test_two_starts_at_once_on_one_port(is_clean, small_repository):
    (port,) = ports.free_ports((None,))
    servers = [TritonServer(small_repository, http_port=port) for _ in range(2)]
    errors = []

    def start(server):
        try:
            server.start()
        except ServerError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=start, args=(server,)) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ready = [server.is_ready() for server in servers]
    for server in servers:
        server.stop()
    assert sorted(ready) == [False, True]
    assert errors == [
        f"port {port} of 127.0.0.1 is taken by a Triton 2.51.0; stop that one, or choose another "
        "port"
    ]


def test_a_path_with_a_space(is_clean, small_repository):
    spaced = small_repository.parent / "my own models"
    small_repository.rename(spaced)
    with TritonServer(spaced) as server:
        assert server.is_ready()


def test_a_temporary_folder_with_a_space(is_clean, small_repository, tmp_path, monkeypatch):
    spaced = tmp_path / "my files"
    spaced.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(spaced))
    with pytest.raises(ServerError, match="its path has a space; set TMPDIR to a folder without"):
        TritonServer(small_repository).start()
    assert not list(spaced.iterdir())


def test_no_repository(is_clean, tmp_path):
    with pytest.raises(ServerError, match=r"nothing is not a folder: expected a model repository"):
        TritonServer(tmp_path / "nothing").start()


def test_a_read_only_repository_is_served_and_not_touched(is_clean, small_repository):
    tree = sorted(small_repository.rglob("*"))
    for path in tree:
        path.chmod(0o555 if path.is_dir() else 0o444)
    small_repository.chmod(0o555)
    before = [(path, path.stat().st_mtime_ns) for path in tree]
    with TritonServer(small_repository) as server:
        infer(small_picture(), model="small", url=server.url)
    assert [(p, p.stat().st_mtime_ns) for p in sorted(small_repository.rglob("*"))] == before


def break_the_config(repository):
    config = repository / "small" / "config.pbtxt"
    config.write_text(config.read_text().replace("max_batch_size", "max_batchsize"))


CAUSES = {
    "no model": (
        lambda repository: shutil.rmtree(repository / "small" / "1" / "model"),
        "model small: {repository}/small/1/model is not a folder: expected the graph there",
    ),
    "typo": (
        break_the_config,
        '3:14: Message type "inference.ModelConfig" has no field named "max_batchsize".',
    ),
    "no version": (
        lambda repository: shutil.rmtree(repository / "small" / "1"),
        "model small: at least one version must be available under the version policy",
    ),
}


@pytest.mark.parametrize("case", CAUSES)
def test_a_server_that_dies_at_start_tells_the_cause_and_shows_its_log(
    is_clean, small_repository, case
):
    spoil, cause = CAUSES[case]
    spoil(small_repository)
    with pytest.raises(ServerError) as caught:
        TritonServer(small_repository).start()
    first, second, *log = str(caught.value).splitlines()
    cause = cause.format(repository=small_repository)
    assert first.startswith(f"Triton ended with exit code 1 before it was ready: {cause}")
    assert second == "Its log ends:"
    assert 1 <= len(log) <= 6 and "small" in log[-1]


def test_an_option_that_triton_does_not_have(is_clean, small_repository):
    with pytest.raises(ServerError, match="ready: unrecognized option '--no-such-option'"):
        TritonServer(small_repository, options=["--no-such-option"]).start()


def test_a_server_that_is_never_ready(is_clean, small_repository):
    with pytest.raises(ServerError, match="Triton was not ready after 0 s"):
        TritonServer(small_repository, ready_timeout=0.2).start()


def test_a_python_without_its_shared_library(is_clean, small_repository, monkeypatch):
    monkeypatch.setattr(embedded, "_library_path", lambda: "/nowhere")
    with pytest.raises(ServerError, match=r"Triton needs libpython3\.10\.so\.1\.0, which this"):
        TritonServer(small_repository).start()


def test_without_the_cuda_runtime_beside_triton(is_clean, small_repository, tmp_path, monkeypatch):
    # Away from its package, the stub finds the libraries beside it no more.
    stub = Path(shutil.copy(embedded._stub(), tmp_path))
    python_only = embedded._library_path().rpartition(":")[2]
    monkeypatch.setattr(embedded, "_stub", lambda: stub)
    monkeypatch.setattr(embedded, "_library_path", lambda: python_only)
    with pytest.raises(ServerError, match=r"stub cannot be loaded .*: libcudart-\S+ not found; is"):
        TritonServer(small_repository).start()


def test_no_room_in_shared_memory(is_clean, small_repository, monkeypatch):
    usage = shutil.disk_usage("/dev/shm")._replace(free=3 << 20)
    monkeypatch.setattr(embedded.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(ServerError, match=r"only 3.0 MiB are free in /dev/shm, and Triton's"):
        TritonServer(small_repository).start()


def test_an_unknown_mode(is_clean, small_repository):
    with pytest.raises(ServerError, match="no server mode 'cloud'; choose one of auto, docker, lo"):
        TritonServer(small_repository, mode="cloud").start()


def test_the_process_that_serves_a_model_dies(is_clean, small_repository):
    """Triton alone goes on saying that all is well, and answers every request with an error."""
    with TritonServer(small_repository) as server:
        expected = infer(small_picture(), model="small", url=server.url)
        (stub,) = named(server, supervisor.STUB)
        stub.kill()
        wait_until(lambda: "small is loaded again" in server.log())
        assert np.array_equal(infer(small_picture(), model="small", url=server.url), expected)
        assert server.is_ready()
        # And a second time, now that the model cannot be loaded again.
        shutil.rmtree(small_repository / "small" / "1" / "model")
        named(server, supervisor.STUB)[0].kill()
        wait_until(lambda: "small cannot be loaded again" in server.log())
        with pytest.raises(ClientError):
            infer(small_picture(), model="small", url=server.url)
        assert server.models() == {"small": False}


def test_a_client_that_keeps_its_connection_does_not_hold_the_server(is_clean, small_repository):
    server = TritonServer(small_repository).start()
    connection = http.client.HTTPConnection(*server.url.split(":"))
    connection.request("GET", "/v2/health/ready")
    assert connection.getresponse().read() == b""
    with contextlib.closing(connection), grpcclient.InferenceServerClient(server.grpc_url) as other:
        assert other.is_server_ready()
        server.stop()
    assert is_clean()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_server_ends_with_its_owner(is_clean, owner, number):
    process, run_dir = owner
    process.send_signal(number)
    process.wait(SECONDS)
    wait_until(lambda: not run_dir.exists() and not supervisor.processes_of(run_dir))


def test_interrupted_at_any_moment_of_the_start(is_clean, small_repository):
    for tenths in (0, 1, 2, 4, 8, 16, 24, 32):
        process = start_owner(small_repository)
        assert process.stdout.readline() == "starting\n"
        time.sleep(tenths / 10)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=SECONDS)
        assert "KeyboardInterrupt" in errors
        wait_until(is_clean)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_an_owner_that_ends_before_triton_starts(is_clean, small_repository, number):
    with subprocess.Popen(
        [sys.executable, "-c", SLOW_OWNER, small_repository],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        run_dir = Path(process.stdout.readline().strip())
        assert (run_dir / "backends").is_dir()
        process.send_signal(number)
    wait_until(lambda: not traces(run_dir))


def test_the_supervisor_ends_before_triton_starts(is_clean, small_repository, monkeypatch):
    def lay_out(run_dir, model_repository):
        (pid,) = supervisor.processes_of(run_dir)
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        return model_repository

    monkeypatch.setattr(embedded, "lay_out", lay_out)
    with pytest.raises(ServerError) as caught:
        TritonServer(small_repository).start()
    assert str(caught.value) == (
        "Triton ended with exit code -9 before it was ready; it has written no log"
    )


@pytest.mark.long
def test_twenty_starts_in_a_row_five_of_them_killed(is_clean, small_repository):
    def start_and_end(number):
        process = start_owner(small_repository)
        run_dir = run_dir_of(process)
        assert supervisor.processes_of(run_dir)
        if number % 4 == 3:
            process.kill()
        process.communicate()  # closes its standard input, upon which it stops its server
        wait_until(lambda: not traces(run_dir))

    # While one of them waits, the other gets on: two rows take half the time.
    with ThreadPoolExecutor(2) as two_rows:
        list(two_rows.map(start_and_end, range(20)))
    assert is_clean()


def test_a_signal_to_the_supervisor_ends_all(is_clean, owner):
    _, run_dir = owner
    os.kill(runs.supervisor_of(run_dir), signal.SIGTERM)
    wait_until(lambda: not run_dir.exists() and not supervisor.processes_of(run_dir))


def test_when_the_supervisor_is_killed_triton_ends_and_the_next_start_sweeps(
    is_clean, owner, small_repository
):
    _, run_dir = owner
    os.kill(runs.supervisor_of(run_dir), signal.SIGKILL)
    wait_until(lambda: not supervisor.processes_of(run_dir))
    assert run_dir.exists()
    with TritonServer(small_repository):
        assert not run_dir.exists()


def test_when_triton_is_killed_nothing_stays_and_the_owner_can_tell(is_clean, small_repository):
    server = TritonServer(small_repository).start()
    assert server.exit_code() is None
    named(server, "tritonserver")[0].kill()
    wait_until(lambda: server.exit_code() == -signal.SIGKILL)
    assert not server.is_ready()
    server.stop()
    assert is_clean()


def is_ready(port):
    with contextlib.suppress(OSError):
        return supervisor.request(ports.HOST, port, "/v2/health/ready")[0] == 200


def test_the_command_for_doing_it_by_hand_works_as_pasted(small_repository, tmp_path):
    spaced = small_repository.rename(tmp_path / "my models")
    (port,) = ports.free_ports((None,))
    server = TritonServer(spaced, mode="local", http_port=port)
    script = server.command().replace("--grpc-port=8001", "--grpc-port=0")
    script = script.replace("--metrics-port=8002", "--allow-metrics=false")
    by_hand = subprocess.Popen(
        ["bash", "-ec", script],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until(lambda: is_ready(port) or by_hand.poll() is not None)
        assert by_hand.poll() is None
    finally:
        os.killpg(by_hand.pid, signal.SIGTERM)
        by_hand.wait(SECONDS)
        shutil.rmtree(shlex.split(script)[2].removesuffix("/backends"))
