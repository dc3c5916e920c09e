"""deploy/monitoring/ against real servers: what it names is exported, and Prometheus sees it."""

import contextlib
import importlib.util
import json
import re
import shutil
import signal
import subprocess
from urllib.parse import urlencode, urlsplit
from urllib.request import urlopen

import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from monitoring_files import (
    MONITORING,
    OF_PROMETHEUS,
    expressions_of_panels,
    metrics_in,
    recorded,
    rules,
)
from tritonclient.utils import InferenceServerException

from serving_kit.server import ReplicatedServer

#: Its output is its input; a negative number makes it fail.
MOODY_MODEL = """
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    def execute(self, requests):
        (x,) = [request.inputs()[0].as_numpy() for request in requests]
        if x.min() < 0:
            raise ValueError("not in the mood")
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT_0", x)])]
"""
MOODY_CONFIG = """
backend: "python"
input [ { name: "INPUT_0" data_type: TYPE_FP32 dims: [ 1, 3 ] } ]
output [ { name: "OUTPUT_0" data_type: TYPE_FP32 dims: [ 1, 3 ] } ]
"""
SENT, SECONDS = 40, 30


@pytest.fixture(scope="module")
def repository(tmp_path_factory, tiny, tiny_version):
    repository = tmp_path_factory.mktemp("watched")
    shutil.copytree(tiny_version, repository / "graph" / "1")
    (repository / "graph" / "config.pbtxt").write_text(tiny.CONFIG)
    (repository / "moody" / "1").mkdir(parents=True)
    (repository / "moody" / "1" / "model.py").write_text(MOODY_MODEL)
    (repository / "moody" / "config.pbtxt").write_text(MOODY_CONFIG)
    return repository


def send(url, model, numbers, speaks=httpclient):
    with contextlib.closing(speaks.InferenceServerClient(url)) as client:
        tensor = speaks.InferInput("INPUT_0", numbers.shape, "FP32").set_data_from_numpy(numbers)
        return client.infer(model, [tensor]).as_numpy("OUTPUT_0")


def exported(server):
    with urlopen(server.metrics_url) as response:
        return set(re.findall(r"^(\w+)[{ ]", response.read().decode(), re.M))


def test_every_metric_is_exported(repository, tiny):
    expressions = [rule["expr"] for _, rule in rules()] + expressions_of_panels()
    used = {name for expression in expressions for name in metrics_in(expression)}
    used -= recorded() | OF_PROMETHEUS
    of_envoy = {name for name in used if name.startswith("envoy_")}
    assert len(of_envoy) >= 8 and len(used - of_envoy) >= 12
    with ReplicatedServer(repository, replicas=1) as gateway:
        send(gateway.url, "graph", tiny.EXAMPLE)
        assert of_envoy - exported(gateway) == set()
        assert used - of_envoy - exported(gateway.servers[0]) == set()


class Prometheus:
    """A Prometheus that runs, and what it knows."""

    def __init__(self, port):
        self.url = f"http://127.0.0.1:{port}"

    def is_ready(self):
        with contextlib.suppress(OSError), urlopen(f"{self.url}/-/ready") as response:
            return response.status == 200
        return False

    def get(self, path, **parameters):
        with urlopen(f"{self.url}/api/v1/{path}?{urlencode(parameters)}") as response:
            return json.load(response)["data"]

    def values(self, expression, label=""):
        """The value of each series, by one of its labels."""
        found = self.get("query", query=expression)["result"]
        return {each["metric"].get(label, ""): float(each["value"][1]) for each in found}

    def value(self, expression):
        """The value of the only series; None if there is none."""
        return next(iter(self.values(expression).values()), None)

    def told(self, name, state="firing", **labels):
        """What an alert says, if it is in this state and has these labels."""
        for alert in self.get("alerts")["alerts"]:
            wanted = labels | {"alertname": name}
            if alert["state"] == state and wanted.items() <= alert["labels"].items():
                return alert["annotations"]["description"]
        return ""


@pytest.fixture
def folder(tmp_path):
    """A copy of deploy/monitoring whose Prometheus looks twice a second."""
    folder = tmp_path / "monitoring"
    shutil.copytree(MONITORING, folder, ignore=shutil.ignore_patterns("*.targets.json"))
    text = (folder / "prometheus.yml").read_text()
    assert "scrape_interval: 15s" in text and "evaluation_interval: 15s" in text
    (folder / "prometheus.yml").write_text(text.replace("_interval: 15s", "_interval: 500ms"))
    return folder


@pytest.fixture
def prometheus(folder, port, wait_until):
    if shutil.which("prometheus") is None:
        pytest.skip("Prometheus is not installed (Debian: apt-get install prometheus)")
    (command,) = re.findall(r"^prometheus .+$", (MONITORING / "README.md").read_text(), re.M)
    command = command.replace("deploy/monitoring", str(folder)).replace(":9091", f":{port}")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command.split(), cwd=folder, stdout=log, stderr=subprocess.STDOUT
        )
    with process:
        try:
            prometheus = Prometheus(port)
            wait_until(prometheus.is_ready)
            yield prometheus
            process.send_signal(signal.SIGTERM)
            assert process.wait(SECONDS) == 0
        finally:
            process.kill()
    assert (folder / "build" / "prometheus").is_dir()


@pytest.fixture
def watch(folder, monkeypatch):
    """Tells Prometheus of servers, by targets.py, as if make serve had left them running."""
    spec = importlib.util.spec_from_file_location("targets", MONITORING / "targets.py")
    targets = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(targets)
    monkeypatch.setattr(targets, "FOLDER", folder)

    def watch(*servers):
        monkeypatch.setattr(targets, "running_servers", lambda: servers)
        targets.main()

    return watch


def instance(server):
    return urlsplit(server.metrics_url).netloc


@pytest.mark.long
def test_prometheus_sees_traffic_failures_and_restarts(
    repository, tiny, prometheus, watch, triton, wait_until
):
    wait_until(lambda: prometheus.told("NoTriton", "pending"))
    with ReplicatedServer(repository, replicas=2) as gateway:
        watch(gateway)
        wait_until(lambda: prometheus.value("sum(up)") == 3)
        # What is seen for the first time has not grown.
        wait_until(lambda: prometheus.value("min(count_over_time(up[1m]))") >= 3)
        assert not prometheus.told("NoTriton", "pending")

        check_traffic(gateway, tiny, prometheus, wait_until)
        check_failure(gateway, tiny, prometheus, wait_until)
        for expression in expressions_of_panels():
            assert prometheus.values(expression), expression
        first, second = gateway.servers
        check_restart(first, triton, prometheus, wait_until)

        down = instance(second)
        second.stop()
        wait_until(lambda: prometheus.told("TritonDown", "pending", instance=down))
        wait_until(lambda: prometheus.told("ReplicaNotReady", "pending"))
        told = prometheus.told("ReplicaNotReady", "pending")
        assert told.startswith(f"1 of the Tritons behind {instance(gateway)} have not been ready")


def check_traffic(gateway, tiny, prometheus, wait_until):
    """Requests to all replicas are in the recorded numbers."""
    for _ in range(SENT):
        send(gateway.url, "graph", tiny.EXAMPLE)
        send(gateway.grpc_url, "moody", tiny.EXAMPLE, grpcclient)
    by_instance = "sum by (instance) (nv_inference_request_success)"
    wait_until(lambda: sum(prometheus.values(by_instance, "instance").values()) == 2 * SENT)
    served = {instance(server) for server in gateway.servers}
    assert set(prometheus.values(by_instance, "instance")) == served

    def are(name, condition):
        """Whether a recorded number of both models is so; rules are evaluated one by one."""
        values = prometheus.values(f"model_version:{name}", "model")
        return set(values) == {"graph", "moody"} and all(map(condition, values.values()))

    # A rate takes the time before the first look into account, so it may be somewhat higher.
    wait_until(lambda: are("requests:rate1m", lambda rate: SENT <= 60 * rate <= 1.5 * SENT))
    for name in ("request_seconds", "queue_seconds", "compute_seconds"):
        wait_until(lambda name=name: are(f"{name}:mean1m", lambda mean: 0 < mean < 5))
    wait_until(lambda: are("batch_size:mean1m", lambda size: size == 1))
    wait_until(lambda: are("failures:ratio1m", lambda ratio: ratio == 0))


def check_failure(gateway, tiny, prometheus, wait_until):
    """A request that fails on both servers: the gateway tries it once more."""
    with pytest.raises(InferenceServerException, match="not in the mood"):
        send(gateway.url, "moody", -tiny.EXAMPLE)
    wait_until(lambda: "about 2" in prometheus.told("RequestsFail", model="moody", version="1"))
    wait_until(lambda: prometheus.told("GatewayErrors"))
    wait_until(lambda: "about 1" in prometheus.told("GatewayLosesRequests"))
    ratio = 'model_version:failures:ratio1m{model="moody"}'
    wait_until(lambda: 0.5 < prometheus.value(ratio) * (SENT + 2) / 2 < 2)
    assert prometheus.value('model_version:failures:ratio1m{model="graph"}') == 0
    assert not prometheus.told("TritonRestarted")


def check_restart(server, triton, prometheus, wait_until):
    """A Triton that is killed is started again, and an alert says which one that was."""
    triton(server.run_dir).kill()
    told = f"Restarts of Triton on {instance(server)} in the last 15 minutes: 1."
    wait_until(lambda: prometheus.told("TritonRestarted", instance=instance(server)))
    assert prometheus.told("TritonRestarted", instance=instance(server)).startswith(told)
    assert not prometheus.told("TritonKeepsCrashing")
