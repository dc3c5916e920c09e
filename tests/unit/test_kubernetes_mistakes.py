"""A mistake in deploy/kubernetes is found: each rule and schema can fail."""

import copy

import kubernetes_rules
import pytest
from kubernetes_objects import KIT, PART, named, of_kind, render, why_no_kubectl
from kubernetes_schemas import complaints

VERSION = "1.37"


@pytest.fixture
def objects_of():
    if reason := why_no_kubectl():
        pytest.skip(reason)
    return lambda overlay: copy.deepcopy(render()[overlay])


def set_at(kind, name, path, value=None):
    """Return a function that sets a value in one of the objects, or without a value removes it."""

    def change(objects):
        *way, last = [int(part) if part.isdecimal() else part for part in path.split()]
        place = named(objects, kind, name)
        for part in way:
            place = place[part]
        if value is None:
            del place[last]
        else:
            place[last] = value

    return change


def pod(path, value=None):
    return set_at("Deployment", "triton", f"spec template spec {path}", value)


def container(path, value=None):
    return pod(f"containers 0 {path}", value)


def runtime(path, value=None):
    return set_at("ServingRuntime", "oneflow-triton", f"spec {path}", value)


def predictor(path, value=None):
    return set_at("InferenceService", "oneflow", f"spec predictor {path}", value)


def monitor(path, value=None):
    return set_at("PodMonitor", "oneflow-serving-kit", f"spec {path}", value)


def without(kind, name):
    return lambda objects: objects.remove(named(objects, kind, name))


def with_other_envoy(old, new):
    def change(objects):
        (config,) = of_kind(objects, "ConfigMap")
        assert old in config["data"]["envoy.yaml"]
        config["data"]["envoy.yaml"] = config["data"]["envoy.yaml"].replace(old, new)

    return change


READY = {"httpGet": {"path": "/v2/health/ready", "port": "http"}, "timeoutSeconds": 20}
IS_OTHER = {"matchLabels": {KIT: "another"}}
#: The rule that finds it, the overlay, and the mistake.
MISTAKES = [
    ("selectors", "cpu", set_at("Service", "triton", f"spec selector {PART}")),
    ("selectors", "cpu", set_at("Service", "triton", f"spec selector {PART}", "tritons")),
    ("selectors", "cpu", set_at("Deployment", "triton", "spec selector", IS_OTHER)),
    ("selectors", "cpu", pod("topologySpreadConstraints 0 labelSelector", IS_OTHER)),
    ("selectors", "cpu", set_at("PodDisruptionBudget", "gateway", "spec selector", IS_OTHER)),
    ("selectors", "cpu", set_at("NetworkPolicy", "triton", "spec podSelector", IS_OTHER)),
    (
        "selectors",
        "cpu",
        set_at("NetworkPolicy", "gateway", "spec egress 0 to 0 podSelector", IS_OTHER),
    ),
    ("selectors", "cpu", monitor("selector", IS_OTHER)),
    ("ports", "cpu", container("ports 0 name", "web")),
    ("ports", "cpu", container("livenessProbe httpGet port", "https")),
    ("ports", "cpu", set_at("Service", "triton", "spec ports 0 port", 80)),
    ("ports", "cpu", set_at("Service", "gateway", "spec ports 1 targetPort", "rpc")),
    ("ports", "cpu", set_at("NetworkPolicy", "triton", "spec ingress 1 ports 0 port", "numbers")),
    ("ports", "cpu", set_at("NetworkPolicy", "gateway", "spec egress 0 ports 0 port", "web")),
    (
        "ports",
        "cpu",
        monitor("podMetricsEndpoints 0 port", "numbers"),
    ),
    ("ports", "kserve", runtime("containers 0 ports 0 name", "web")),
    ("gateway", "cpu", without("Service", "triton")),
    ("gateway", "cpu", set_at("Service", "triton", "spec clusterIP")),
    (
        "gateway",
        "cpu",
        with_other_envoy("address: triton, port_value: 8001", "address: triton, port_value: 9001"),
    ),
    ("gateway", "cpu", with_other_envoy("0.0.0.0, port_value: 8002", "0.0.0.0, port_value: 9901")),
    (
        "gateway",
        "cpu",
        set_at("Deployment", "gateway", "spec template spec volumes 0 configMap name", "gateway"),
    ),
    ("probes", "cpu", container("startupProbe")),
    ("probes", "cpu", container("startupProbe httpGet path", "/v2/health/live")),
    ("probes", "cpu", container("livenessProbe httpGet path", "/v2/health/ready")),
    ("probes", "cpu", container("livenessProbe timeoutSeconds", 1)),
    ("probes", "cpu", container("livenessProbe failureThreshold", 1)),
    ("probes", "cpu", container("readinessProbe", READY)),
    ("probes", "cpu", container("readinessProbe timeoutSeconds", 5)),
    ("probes", "kserve", runtime("containers 0 readinessProbe")),
    ("grace", "cpu", pod("terminationGracePeriodSeconds", 50)),
    ("grace", "cpu", container("args 1", "--exit-timeout-secs=60")),
    ("grace", "cpu", container("lifecycle")),
    ("grace", "cpu", container("lifecycle preStop", {"exec": {"command": ["sleep", "10"]}})),
    (
        "grace",
        "cpu",
        set_at("Deployment", "gateway", "spec template spec terminationGracePeriodSeconds", 10),
    ),
    (
        "grace",
        "cpu",
        set_at("Deployment", "gateway", "spec template spec containers 0 lifecycle"),
    ),
    ("grace", "kserve", predictor("terminationGracePeriodSeconds")),
    ("security", "cpu", pod("securityContext runAsNonRoot")),
    ("security", "cpu", pod("securityContext runAsUser")),
    ("security", "cpu", pod("securityContext seccompProfile")),
    ("security", "cpu", pod("automountServiceAccountToken")),
    ("security", "cpu", pod("enableServiceLinks")),
    ("security", "cpu", container("securityContext allowPrivilegeEscalation")),
    ("security", "cpu", container("securityContext readOnlyRootFilesystem", False)),
    ("security", "cpu", container("securityContext capabilities", {"drop": ["NET_RAW"]})),
    ("security", "kserve", runtime("containers 0 securityContext seccompProfile")),
    ("security", "kserve", predictor("automountServiceAccountToken")),
    ("volumes", "cpu", container("volumeMounts 2")),
    ("volumes", "cpu", container("volumeMounts 0 readOnly", False)),
    ("volumes", "cpu", container("args 1", "--model-repository=/elsewhere")),
    ("volumes", "cpu", pod("volumes 1 emptyDir medium")),
    ("volumes", "cpu", pod("volumes 1 emptyDir sizeLimit")),
    ("volumes", "cpu", pod("volumes 2 emptyDir sizeLimit")),
    ("volumes", "cpu", container("volumeMounts 1 mountPath", "/shm")),
    ("volumes", "cpu", without("PersistentVolumeClaim", "models")),
    ("volumes", "copy", without("PersistentVolumeClaim", "models")),
    ("volumes", "kserve", predictor("model storageUri", "pvc://others")),
    ("resources", "cpu", container("resources limits memory")),
    ("resources", "cpu", container("resources requests cpu")),
    ("resources", "cpu", container("resources requests memory", "256Mi")),
    ("resources", "cpu", container("resources limits memory", "1Gi")),
    ("updates", "cpu", set_at("Deployment", "triton", "spec replicas", 3)),
    ("updates", "cpu", set_at("Deployment", "gateway", "spec replicas", 1)),
    ("updates", "cpu", set_at("Deployment", "gateway", "spec strategy")),
    ("updates", "cpu", without("PodDisruptionBudget", "triton")),
    ("updates", "cpu", without("HorizontalPodAutoscaler", "triton")),
    (
        "updates",
        "cpu",
        set_at("HorizontalPodAutoscaler", "triton", "spec scaleTargetRef name", "tritons"),
    ),
    ("updates", "kserve", predictor("minReplicas", 1)),
    ("updates", "kserve", predictor("deploymentStrategy rollingUpdate maxUnavailable", "25%")),
    ("images", "cpu", container("image", "oneflow-serving-kit")),
    ("images", "cpu", container("image", "registry.example.com:5000/oneflow-serving-kit")),
    ("images", "gpu", container("image", "oneflow-serving-kit:latest")),
    ("runtime", "kserve", runtime("supportedModelFormats 0 autoSelect")),
    ("runtime", "kserve", runtime("protocolVersions", ["v1"])),
    ("runtime", "kserve", runtime("containers 0 name", "triton")),
    ("runtime", "kserve", predictor("model modelFormat name", "onnx")),
    (
        "runtime",
        "kserve",
        set_at(
            "InferenceService",
            "oneflow",
            "metadata annotations serving.kserve.io/deploymentMode",
            "Knative",
        ),
    ),
]


@pytest.mark.parametrize("number", range(len(MISTAKES)))
def test_a_mistake_is_found_by_its_rule(objects_of, number):
    rule, overlay, mistake = MISTAKES[number]
    objects = objects_of(overlay)
    mistake(objects)
    assert list(kubernetes_rules.RULES[rule](objects))


def test_every_rule_has_a_mistake():
    assert {rule for rule, _, _ in MISTAKES} == kubernetes_rules.RULES.keys()


@pytest.mark.parametrize(
    ("overlay", "mistake"),
    [
        ("cpu", container("lifecycle preStop sleep seconds", "ten")),
        ("cpu", container("readinesProbe", READY)),
        ("cpu", set_at("HorizontalPodAutoscaler", "triton", "apiVersion", "autoscaling/v2beta2")),
        ("cpu", monitor("podMetricsEndpoint", [])),
        ("cpu", monitor("podMetricsEndpoints 0 interval", "15")),
        ("kserve", runtime("supportedModelFormats 0 autoselect", True)),
        ("kserve", runtime("protocolVersions 0", "v3")),
        ("kserve", runtime("terminationGracePeriodSeconds", 60)),
        ("kserve", runtime("containers 0 volumeMount", [])),
        ("kserve", runtime("volumes 0 emptyDir medium", 1)),
        ("kserve", predictor("maxReplica", 3)),
        ("kserve", predictor("model storageURI", "pvc://models")),
        ("kserve", predictor("model modelFormat")),
        ("kserve", predictor("deploymentStrategy rolling", {})),
        ("kserve", predictor("terminationGracePeriodSeconds", "60s")),
    ],
)
def test_a_mistake_is_found_by_the_schemas(objects_of, overlay, mistake):
    objects = objects_of(overlay)
    mistake(objects)
    assert list(complaints(objects, VERSION))


def test_an_older_kubernetes_does_not_know_the_pause(objects_of):
    assert any("'sleep' was unexpected" in each for each in complaints(objects_of("cpu"), "1.28"))
