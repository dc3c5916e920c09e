"""What the objects of Kubernetes say of each other: pods, labels, ports, and who reaches whom."""

import functools
import re
import shutil
import subprocess

import yaml

from serving_kit.paths import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
SECONDS = 60
KIT = "app.kubernetes.io/name"
PART = "app.kubernetes.io/component"


def kubectl(*arguments, cwd=ROOT):
    return subprocess.run(
        ["kubectl", *arguments], cwd=cwd, capture_output=True, text=True, timeout=SECONDS
    )


@functools.cache
def why_no_kubectl():
    """Return why nothing can be rendered here; empty if it can."""
    if not shutil.which("kubectl"):
        return "kubectl is not installed"
    found = re.search(r"Kustomize Version: v(\d+)", kubectl("version", "--client").stdout)
    if not found or int(found[1]) < 5:
        return "this kubectl is older than 1.27, which brought kustomize 5"
    return ""


@functools.cache
def render():
    """Return the objects of each overlay."""
    objects = {}
    for overlay in ("cpu", "gpu", "kserve", "models", "prometheus"):
        done = kubectl("kustomize", f"deploy/kubernetes/{overlay}")
        assert (done.returncode, done.stderr) == (0, ""), overlay
        objects[overlay] = list(yaml.load_all(done.stdout, yaml.CSafeLoader))
    # What is applied together, or after it.
    copier = list(yaml.safe_load_all((FOLDER / "models" / "copy.yaml").read_text()))
    objects["copy"] = objects["models"] + copier
    objects["cpu"] += objects["prometheus"]
    return objects


def named(objects, kind, name):
    (found,) = [each for each in of_kind(objects, kind) if each["metadata"]["name"] == name]
    return found


def of_kind(objects, *kinds):
    return [each for each in objects if each["kind"] in kinds]


def pods_of(objects):
    """Return name, labels and spec of each kind of pod that the objects make."""
    for each in objects:
        if each["kind"] == "Deployment":
            template = each["spec"]["template"]
            yield each["metadata"]["name"], template["metadata"]["labels"], template["spec"]
        elif each["kind"] == "Pod":
            yield each["metadata"]["name"], {}, each["spec"]
        elif each["kind"] == "ServingRuntime":
            (service,) = of_kind(objects, "InferenceService")
            yield each["metadata"]["name"], {}, kserve_pod(each, service)


def kserve_pod(runtime, service):
    """Return the pod that KServe makes of the two, in the parts that matter here."""
    predictor, spec = service["spec"]["predictor"], runtime["spec"]
    claim = predictor["model"]["storageUri"].removeprefix("pvc://")
    mount = {"name": "models", "mountPath": "/mnt/models", "readOnly": True}
    volume = {"name": "models", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
    (container,) = spec["containers"]
    container = container | {"volumeMounts": [*container["volumeMounts"], mount]}
    keys = ("terminationGracePeriodSeconds", "automountServiceAccountToken", "enableServiceLinks")
    return {key: predictor[key] for key in keys if key in predictor} | {
        "containers": [container],
        "volumes": [*spec["volumes"], volume],
    }


def matches(selector, labels):
    return selector.get("matchLabels", {}).items() <= labels.items()


def is_triton(container):
    return container.get("args", [""])[0] == "tritonserver"


def port_names(spec):
    return {port["name"]: port["containerPort"] for port in spec["containers"][0].get("ports", [])}


def peers_of(policy):
    for direction, side in (("ingress", "from"), ("egress", "to")):
        for rule in policy["spec"].get(direction, []):
            yield from rule.get(side, [])


def ports_of(each):
    spec = each["spec"]
    if each["kind"] == "Service":
        headless = spec.get("clusterIP") == "None"
        for port in spec["ports"]:
            number = {"number": port["port"]} if headless else {}
            yield {"matchLabels": spec["selector"]}, {"port": port["targetPort"]} | number
    elif each["kind"] == "PodMonitor":
        for end in spec["podMetricsEndpoints"]:
            yield spec["selector"], end
    else:
        for rule in spec.get("ingress", []):
            for port in rule["ports"]:
                yield spec["podSelector"], port
        for rule in spec.get("egress", []):
            for peer in rule["to"]:
                if "namespaceSelector" not in peer:
                    for port in rule["ports"]:
                        yield peer["podSelector"], port


# --- Who reaches whom ---------------------------------------------------------------------------


def may_reach(objects, source, target, port):
    """Tell whether the policies let a pod reach a named port of another.

    Args:
        source: the namespace, empty for the objects' own, and the labels of the pod that connects.
        target: the labels of the other pod, in the objects' namespace.
    """
    inside = _allowed(objects, "Ingress", target, source, port)
    if source[0]:  # of other namespaces' policies nothing is known
        return inside
    return inside and _allowed(objects, "Egress", source[1], ("", target), port)


def _allowed(objects, direction, labels, other, port):
    side = {"Ingress": "from", "Egress": "to"}[direction]
    policies = [
        each["spec"]
        for each in of_kind(objects, "NetworkPolicy")
        if direction in each["spec"]["policyTypes"] and matches(each["spec"]["podSelector"], labels)
    ]
    rules = [rule for policy in policies for rule in policy.get(direction.lower(), [])]
    return not policies or any(
        port in [each["port"] for each in rule["ports"]]
        and (side not in rule or any(_is_peer(peer, *other) for peer in rule[side]))
        for rule in rules
    )


def _is_peer(peer, namespace, labels):
    if "namespaceSelector" in peer:
        name = {"kubernetes.io/metadata.name": namespace}
        return matches(peer["namespaceSelector"], name) and matches(peer["podSelector"], labels)
    return not namespace and matches(peer["podSelector"], labels)
