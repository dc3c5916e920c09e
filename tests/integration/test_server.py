"""The embedded server starts, is what it says it is, and says what is wrong."""

import contextlib
import http.client
import http.server
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import threading

import numpy as np
import psutil
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from tritonclient.utils import InferenceServerException

from serving_kit.errors import ServerError
from serving_kit.server import TritonServer, launcher, runs, supervisor
from serving_kit.server.ports import HOST

SECONDS = 60


def get(server, path):
    return supervisor.request(HOST, server.ports[0], path)


def infer_tiny(server):
    tensor = {"name": "INPUT_0", "shape": [2], "datatype": "FP32", "data": [1, 2]}
    body = json.dumps({"inputs": [tensor]})
    return supervisor.request(HOST, server.ports[0], "/v2/models/tiny/infer", body)


def load(server, model="tiny"):
    path = f"/v2/repository/models/{model}/load"
    return supervisor.request(HOST, server.ports[0], path, "{}")[0]


def load_by_grpc(server):
    with contextlib.closing(grpcclient.InferenceServerClient(server.grpc_url)) as client:
        client.load_model("tiny")


@pytest.fixture
def listening(processes_named):
    """Returns the addresses that a server listens on."""

    def listening(server):
        return {
            connection.laddr.ip.removeprefix("::ffff:")  # IPv4, as gRPC shows it
            for process in processes_named(server.run_dir, "tritonserver")
            for connection in process.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }

    return listening


def test_ready_then_gone(is_clean, tiny_repository, listening):
    server = TritonServer(tiny_repository)
    assert not server.is_ready()
    with server:
        assert server.is_ready()
        assert server.models() == {"tiny": True}
        assert infer_tiny(server)[0] == 200
        assert server.version == "2.51.0"
        assert str(server) == f"embedded Triton 2.51.0 on 127.0.0.1:{server.ports[0]}"
        assert listening(server) == {"127.0.0.1"}
        assert not server.is_reachable_from_elsewhere
        _, metrics = supervisor.request(HOST, server.ports[2], "/metrics")
        assert b"nv_inference_count" in metrics
    assert not server.is_ready()
    assert is_clean()


def test_it_can_be_stopped_twice_and_started_again(is_clean, empty_repository):
    server = TritonServer(empty_repository)
    server.stop()
    for _ in range(2):
        server.start()
        assert server.is_ready()
        with pytest.raises(ServerError, match=r"already running, on 127.*; call stop\(\) first"):
            server.start()
        assert server.is_ready()
        server.stop()
    server.stop()


def test_model_control_is_closed_unless_asked_for(is_clean, empty_repository, listening):
    with TritonServer(empty_repository) as server:
        assert load(server) == 403
        with pytest.raises(InferenceServerException, match="protocol is restricted"):
            load_by_grpc(server)
    with TritonServer(empty_repository, model_control=True, address="0.0.0.0") as server:
        assert load(server) == 500  # it tries to, and there is no such model
        with pytest.raises(InferenceServerException, match="failed to load 'tiny'"):
            load_by_grpc(server)
        # And the one that was asked to listen to all the world does.
        assert listening(server) <= {"0.0.0.0", "::"}
        assert server.is_reachable_from_elsewhere
        assert server.url.startswith("127.0.0.1:")


def register(client, kind, *region):
    """Register shared memory; return what Triton says against it."""
    try:
        getattr(client, f"register_{kind}_shared_memory")("region", *region)
    except InferenceServerException as error:
        return error.message()


def test_shared_memory_is_closed_unless_asked_for(is_clean, tiny_repository):
    """The region of a model's own process, registered and written to, ends Triton as a whole."""

    def own_region(server):
        prefix = supervisor.shm_prefix(server.run_dir)
        return next(supervisor.SHARED_MEMORY.glob(f"{prefix}*")).name, 4096

    def clients(server):
        yield httpclient.InferenceServerClient(server.url)
        yield grpcclient.InferenceServerClient(server.grpc_url)

    with TritonServer(tiny_repository) as server:
        for client in clients(server):
            for kind, region in (("system", own_region(server)), ("cuda", (b"AAAA", 0, 4096))):
                said = register(client, kind, *region)
                assert "is restricted, expecting header" in said
                assert "serving-kit-shared-memory" in said
            client.close()
        assert infer_tiny(server)[0] == 200
    with TritonServer(tiny_repository, shared_memory=True) as server:
        for client in clients(server):
            assert register(client, "system", *own_region(server)) is None
            client.unregister_system_shared_memory()
            client.close()


def test_without_json_http_takes_raw_bytes_only(is_clean, tiny_repository):
    """A huge shape in JSON, which ends Triton, is not read; a tensor's bytes and gRPC are."""
    huge = b'{"inputs":[{"name":"X","shape":[8589934592],"datatype":"FP32","data":[1]}]}'

    def post(server, path, body, **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        return supervisor.request("127.0.0.1", server.ports[0], path, body, headers)

    with TritonServer(tiny_repository, json=False) as server:
        for path in ("/v2/models/tiny/infer", "/v2/models/tiny/versions/1/infer", "/v2/logging"):
            for headers in ({}, {"Inference_Header_Content_Length": str(len(huge))}):
                status, text = post(server, path, huge, **headers)
                assert status == 403 and b"Inference-Header-Content-Length" in text
        numbers = np.array([1, 2], np.float32)
        path = "/v2/models/tiny/infer"
        status, text = post(server, path, numbers.tobytes(), Inference_Header_Content_Length="0")
        assert status == 200 and text.endswith(numbers.tobytes())
        with grpcclient.InferenceServerClient(server.grpc_url) as client:
            tensor = grpcclient.InferInput("INPUT_0", [2], "FP32")
            tensor.set_data_from_numpy(numbers)
            assert client.infer("tiny", [tensor]).as_numpy("OUTPUT_0").tolist() == [1, 2]
        assert server.is_ready() and not server.restarts()


def test_a_header_of_one_s_own_can_open_shared_memory(is_clean, empty_repository):
    options = [
        "--http-restricted-api=trace,shared-memory:admin-key=x",
        "--grpc-restricted-protocol=shared-memory:admin-key=x",
    ]
    with (
        TritonServer(empty_repository, options=options) as server,
        httpclient.InferenceServerClient(server.url) as client,
    ):
        assert client.get_system_shared_memory_status(headers={"admin-key": "x"}) == []
        assert "expecting header 'admin-key'" in register(client, "system", "any", 4096)


def test_only_the_wanted_models_are_loaded(is_clean, tiny_repository):
    shutil.copytree(tiny_repository / "tiny", tiny_repository / "other")
    with TritonServer(tiny_repository, models=["other"]) as server:
        assert server.models() == {"other": True}
        assert get(server, "/v2/models/tiny/ready")[0] != 200
        assert load(server) == 403
    with pytest.raises(ServerError, match="othr"):
        TritonServer(tiny_repository, models=["othr"]).start()


def test_a_wanted_port(is_clean, empty_repository, port):
    with TritonServer(empty_repository, http_port=port) as server:
        assert server.url == f"127.0.0.1:{port}"
        with pytest.raises(ServerError, match=f"port {port} .* is taken by a Triton 2.51.0; stop"):
            TritonServer(empty_repository, http_port=port).start()
        assert server.is_ready()


def test_a_port_that_is_taken_while_triton_starts(is_clean, empty_repository, monkeypatch):
    find = launcher.free_ports
    with socket.create_server((HOST, 0)) as other:
        offered = iter([other.getsockname()[1]])

        def find_taken_first(wanted, address):
            found = find(wanted, address)
            return (next(offered, found[0]), *found[1:])

        monkeypatch.setattr(launcher, "free_ports", find_taken_first)
        with TritonServer(empty_repository) as server:
            assert server.ports[0] != other.getsockname()[1]
            assert server.is_ready()


def test_of_two_servers_that_start_at_once_on_one_port_each_knows_itself(
    is_clean, empty_repository, port, monkeypatch
):
    both_have_found_it_free = threading.Barrier(2)
    find = launcher.free_ports

    def find_together(wanted, address):
        found = find(wanted, address)
        with contextlib.suppress(threading.BrokenBarrierError):
            both_have_found_it_free.wait(SECONDS)
        both_have_found_it_free.abort()  # the second try of one of them is its own
        return found

    monkeypatch.setattr(launcher, "free_ports", find_together)
    # The log says little: it is not what they know themselves by.
    servers = [
        TritonServer(empty_repository, http_port=port, options=[f"--log-info={number}"])
        for number in range(2)
    ]
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


class Friendly(http.server.BaseHTTPRequestHandler):
    """Says that it is ready, and as much about itself as a Triton does."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"name": "triton", "version": "2.51.0", "extensions": []}')

    def log_message(self, *words):
        pass


def test_another_program_that_has_the_port_by_now_is_not_taken_for_the_server(
    is_clean, empty_repository, port, processes_named, wait_until
):
    with TritonServer(empty_repository, http_port=port, options=["--log-info=1"]) as server:
        assert server.is_ready()
        with asleep(server):  # or the supervisor would start the next one
            triton = processes_named(server.run_dir, "tritonserver")[0]
            triton.kill()
            with friendly_server(port, wait_until) as other:
                threading.Thread(target=other.serve_forever).start()
                assert get(server, "/v2/health/ready")[0] == 200
                assert not server.is_ready()
                other.shutdown()


def friendly_server(port, wait_until):
    """Listen on a port once it is free: threads of a killed process end one by one."""
    servers = []

    def is_bound():
        with contextlib.suppress(OSError):
            servers.append(http.server.HTTPServer((HOST, port), Friendly))
        return servers

    wait_until(is_bound)
    return servers[0]


@contextlib.contextmanager
def asleep(server):
    """Have the supervisor of a server stand still."""
    process = psutil.Process(runs.supervisor_of(server.run_dir))
    process.suspend()
    try:
        yield
    finally:
        process.resume()


def test_a_supervisor_that_stands_still_does_not_hold_its_owner(
    is_clean, empty_repository, monkeypatch
):
    monkeypatch.setattr(runs, "STOP_SECONDS", 0.5)
    server = TritonServer(empty_repository).start()
    psutil.Process(runs.supervisor_of(server.run_dir)).suspend()
    server.stop()
    assert is_clean()


def test_a_read_only_model_is_served_and_not_touched(small_model):
    tree = sorted(small_model.folder.rglob("*"))
    for path in [small_model.folder, *tree]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = [(path, path.stat().st_mtime_ns) for path in tree]
    small_model.load()
    small_model.infer(np.zeros((1, 3, 64, 64), np.float32))
    assert [(p, p.stat().st_mtime_ns) for p in sorted(small_model.folder.rglob("*"))] == before
    for path in [small_model.folder, *tree]:
        path.chmod(0o755 if path.is_dir() else 0o644)  # to be removed by any user


def test_a_server_that_dies_at_its_start_tells_the_cause_and_shows_its_log(
    is_clean, tiny_repository
):
    (tiny_repository / "tiny" / "1" / "model.py").write_text("raise ValueError('no luck today')")
    with pytest.raises(ServerError) as caught:
        TritonServer(tiny_repository).start()
    assert is_clean()
    first, second, *log = str(caught.value).splitlines()
    assert first.startswith("Triton ended with exit code 1 before it was ready: model tiny: ")
    assert "no luck today" in first and "started again" not in str(caught.value)
    assert second == "Its log ends:"
    assert 1 <= len(log) <= 6 and "tiny" in log[-1]


def test_the_process_that_serves_a_model_dies(
    is_clean, tiny_repository, processes_named, wait_until
):
    """Triton alone goes on saying that all is well, and responds with errors only."""
    with TritonServer(tiny_repository) as server:
        good = infer_tiny(server)
        assert good[0] == 200
        processes_named(server.run_dir, supervisor.STUB)[0].kill()
        wait_until(lambda: "tiny is loaded again" in server.log())
        assert infer_tiny(server) == good
        assert server.is_ready()
        # And a second time, now that the model cannot be loaded again.
        version = tiny_repository / "tiny" / "1"
        away = version.rename(tiny_repository.parent / "away")
        processes_named(server.run_dir, supervisor.STUB)[0].kill()
        wait_until(lambda: "tiny cannot be loaded again" in server.log())
        wait_until(lambda: server.models() == {"tiny": False})
        assert infer_tiny(server)[0] != 200
        away.rename(version)
        wait_until(lambda: server.models() == {"tiny": True})
        assert infer_tiny(server) == good


def test_a_process_dies_where_configurations_are_closed(
    is_clean, tiny_repository, processes_named, wait_until
):
    closed = "--http-restricted-api=model-config:admin-key=x"
    with TritonServer(tiny_repository, options=[closed]) as server:
        good = infer_tiny(server)
        processes_named(server.run_dir, supervisor.STUB)[0].kill()
        wait_until(lambda: "tiny is loaded again" in server.log())
        assert infer_tiny(server) == good
        assert not server.restarts()


def test_a_client_that_keeps_its_connection_does_not_hold_the_server(is_clean, empty_repository):
    server = TritonServer(empty_repository).start()
    connection = http.client.HTTPConnection(HOST, server.ports[0])
    connection.request("GET", "/v2/health/ready")
    assert connection.getresponse().read() == b""
    with contextlib.closing(connection), grpcclient.InferenceServerClient(server.grpc_url) as other:
        assert other.is_server_ready()
        server.stop()
    assert is_clean()


def test_the_command_for_doing_it_by_hand_works_as_pasted(tiny_repository, port, wait_until):
    ports = {"http_port": port, "grpc_port": port + 1, "metrics_port": port + 2}
    script = TritonServer(tiny_repository, mode="local", **ports).command()
    by_hand = subprocess.Popen(
        ["bash", "-ec", script],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

    def is_ready():
        with contextlib.suppress(OSError):
            return supervisor.request(HOST, port, "/v2/models/tiny/ready")[0] == 200

    try:
        wait_until(lambda: is_ready() or by_hand.poll() is not None)
        assert by_hand.poll() is None
    finally:
        os.killpg(by_hand.pid, signal.SIGTERM)
        by_hand.wait(SECONDS)
        shutil.rmtree(shlex.split(script)[2].removesuffix("/backends"))
