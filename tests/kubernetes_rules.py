"""What must be true of the objects in deploy/kubernetes, and no schema of Kubernetes says.

Each rule takes the objects of an overlay and returns its complaints, one a sentence.
"""

import re

import yaml
from kubernetes_objects import is_triton, matches, of_kind, peers_of, pods_of, port_names, ports_of

from serving_kit.server.supervisor.alone import EXIT_TIMEOUT_SECONDS, FURTHER_SECONDS
from serving_kit.server.supervisor.probe import RUN_SECONDS, SECONDS

#: Of the container with all five models, in MiB (deploy/image/README.md).
MEASURED_MEMORY = 500
UNITS = {"Mi": 1, "Gi": 1024}


def selectors(objects):
    """Whatever is selected by labels is there, and a Deployment selects its own pods."""
    pods = {name: labels for name, labels, _ in pods_of(objects)}
    wanted = []
    for each in of_kind(objects, "Deployment"):
        name, spec = each["metadata"]["name"], each["spec"]
        if not matches(spec["selector"], pods[name]):
            yield f"Deployment {name} does not select its own pods"
        spread = spec["template"]["spec"]["topologySpreadConstraints"]
        if not all(matches(each["labelSelector"], pods[name]) for each in spread):
            yield f"Deployment {name} does not spread its own pods"
    for each in of_kind(objects, "Service"):
        wanted.append(("Service", each, {"matchLabels": each["spec"]["selector"]}))
    for each in of_kind(objects, "PodDisruptionBudget", "PodMonitor"):
        wanted.append((each["kind"], each, each["spec"]["selector"]))
    for each in of_kind(objects, "NetworkPolicy"):
        wanted.append(("NetworkPolicy", each, each["spec"]["podSelector"]))
        for peer in peers_of(each):
            if "namespaceSelector" not in peer and "podSelector" in peer:
                wanted.append(("NetworkPolicy", each, peer["podSelector"]))
    for kind, each, selector in wanted:
        found = [name for name, labels in pods.items() if matches(selector, labels)]
        name = each["metadata"]["name"]
        if not found or (kind in ("Service", "PodDisruptionBudget") and found != [name]):
            yield f"{kind} {name} selects {found or 'nothing'}"


def ports(objects):
    """Every port that is named has a container; a headless Service has the containers' numbers."""
    pods = list(pods_of(objects))
    for name, _, spec in pods:
        for probe_name, each in probes_of(spec["containers"][0]):
            port = each.get("httpGet", {}).get("port")
            if port and port not in port_names(spec):
                yield f"the {probe_name} of {name} asks port {port}"
    for each in of_kind(objects, "Service", "NetworkPolicy", "PodMonitor"):
        for selector, port in ports_of(each):
            for name, labels, spec in pods:
                number = port_names(spec).get(port["port"])
                where = f"{each['kind']} {each['metadata']['name']}"
                if matches(selector, labels) and number is None:
                    yield f"{where} names port {port['port']}, which {name} does not have"
                elif matches(selector, labels) and port.get("number", number) != number:
                    yield f"{where} has {port['number']} for {port['port']} of {name}"


def gateway(objects):
    """The gateway's configuration fits to the objects: names, ports, and what it is mounted as."""
    configs = {each["metadata"]["name"]: each["data"] for each in of_kind(objects, "ConfigMap")}
    services = {each["metadata"]["name"]: each["spec"] for each in of_kind(objects, "Service")}
    for name, _, spec in pods_of(objects):
        for volume in spec["volumes"]:
            if "configMap" not in volume:
                continue
            text = configs.get(volume["configMap"]["name"], {}).get("envoy.yaml")
            if text is None:
                yield f"{name} mounts the ConfigMap {volume['configMap']['name']}, which is missing"
                continue
            listening = {
                each["address"]["socket_address"]["port_value"]
                for each in yaml.load(text, yaml.CSafeLoader)["static_resources"]["listeners"]
            }
            if listening != set(port_names(spec).values()):
                yield f"Envoy listens at {listening}, and {name} has {port_names(spec)}"
            for host, port in servers_of(yaml.load(text, yaml.CSafeLoader)):
                service = services.get(host, {"ports": []})
                if service.get("clusterIP") != "None":
                    yield f"the gateway wants a headless Service {host}"
                if port not in [each["port"] for each in service["ports"]]:
                    yield f"the gateway wants port {port} of {host}"


def servers_of(envoy):
    """Yield the names and ports of the servers behind an Envoy."""
    for cluster in envoy["static_resources"]["clusters"]:
        for group in cluster["load_assignment"]["endpoints"]:
            for each in group["lb_endpoints"]:
                address = each["endpoint"]["address"].get("socket_address")
                if address:
                    yield address["address"], address["port_value"]


def probes_of(container):
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        if name in container:
            yield name, container[name]


def probes(objects):
    """Start on ready, liveness on live alone, and readiness by a request to every model."""
    for name, _, spec in pods_of(objects):
        container = spec["containers"][0]
        if not is_triton(container):
            continue
        found = dict(probes_of(container))
        paths = {
            which: each["httpGet"]["path"] for which, each in found.items() if "httpGet" in each
        }
        if paths != {"startupProbe": "/v2/health/ready", "livenessProbe": "/v2/health/live"}:
            yield f"the probes of {name} ask {paths}"
        readiness = found.get("readinessProbe", {})
        command = readiness.get("exec", {}).get("command")
        if command != ["python3", "-IS", "/opt/serving-kit/supervisor", "probe"]:
            yield f"the readiness probe of {name} does not infer"
        # The index, two statistics and the configuration, and the request itself.
        if readiness.get("timeoutSeconds", 1) <= 4 * SECONDS + RUN_SECONDS:
            yield f"the readiness probe of {name} may take longer than its timeout"
        if any(each.get("timeoutSeconds", 1) < 5 for each in found.values()):
            yield f"a probe of {name} waits for less than 5 s"
        if any(each.get("failureThreshold", 3) < 3 for each in found.values()):
            yield f"one failure of a probe decides about {name}"


def grace(objects):
    """A pod may stop in its own time: preStop, Triton's time for requests, the supervisor's."""
    for name, _, spec in pods_of(objects):
        container = spec["containers"][0]
        pause = needed = pause_of(container)
        if is_triton(container):
            given = re.search(r"--exit-timeout-secs=(\d+)", " ".join(container["args"]))
            needed += int(given[1]) if given else EXIT_TIMEOUT_SECONDS
            needed += FURTHER_SECONDS
        if pause < 10 and container.get("ports"):
            yield f"{name} pauses for {pause} s only before it stops"
        if spec.get("terminationGracePeriodSeconds", 30) <= needed:
            yield f"{name} needs more than {needed} s to stop"


def pause_of(container):
    hook = container.get("lifecycle", {}).get("preStop", {})
    found = re.search(r"time\.sleep\((\d+)\)", hook.get("exec", {}).get("command", [""])[-1])
    return int(found[1]) if found else hook.get("sleep", {}).get("seconds", 0)


def security(objects):
    """No rights, nothing writable but what is meant to be, and no key to Kubernetes' own API."""
    for name, _, spec in pods_of(objects):
        container = spec["containers"][0]
        own = container["securityContext"]
        context = spec.get("securityContext", {}) | own
        wanted = {
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        for key, value in wanted.items():
            if context.get(key) != value:
                yield f"{name} has {key}: {context.get(key)}"
        if not context.get("runAsUser"):
            yield f"{name} runs as the image's user, which Kubernetes may not know by number"
        if spec.get("automountServiceAccountToken", True):
            yield f"{name} has a token for Kubernetes"
        if spec.get("enableServiceLinks", True):
            yield f"{name} has the addresses of all services in its environment"


def volumes(objects):
    """Every volume is mounted, and every claim is there; Triton has its three."""
    claims = {each["metadata"]["name"] for each in of_kind(objects, "PersistentVolumeClaim")}
    for name, _, spec in pods_of(objects):
        container = spec["containers"][0]
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
        if volumes.keys() != mounts.keys():
            yield f"{name} has the volumes {list(volumes)} and mounts {list(mounts)}"
            continue
        paths = {mount["mountPath"]: volumes[mount["name"]] for mount in mounts.values()}
        for volume in volumes.values():
            claim = volume.get("persistentVolumeClaim", {"claimName": None})["claimName"]
            if claim and claim not in claims:
                yield f"{name} mounts the claim {claim}, which is missing"
        if not is_triton(container):
            continue
        repository = re.search("--model-repository=(\\S+)", " ".join(container["args"]))[1]
        models = [mount for mount in mounts.values() if mount["mountPath"] == repository]
        if not models or not models[0].get("readOnly"):
            yield f"{name} does not mount {repository} read-only"
        shared = paths.get("/dev/shm", {}).get("emptyDir", {})
        if shared.get("medium") != "Memory" or "sizeLimit" not in shared:
            yield f"/dev/shm of {name} is not memory with a limit"
        if "sizeLimit" not in paths.get("/tmp", {}).get("emptyDir", {}):
            yield f"{name} has no /tmp to write to, with a limit"


def mebibytes(quantity):
    return int(quantity[:-2]) * UNITS[quantity[-2:]]


def resources(objects):
    """What is asked for is enough for what was measured, and memory has an end."""
    for name, _, spec in pods_of(objects):
        container = spec["containers"][0]
        found = container.get("resources", {})
        if {"cpu", "memory"} - found.get("requests", {}).keys():
            yield f"{name} does not say what it needs"
        if "memory" not in found.get("limits", {}):
            yield f"{name} may take all memory"
        elif is_triton(container):
            needed = MEASURED_MEMORY
            for volume in spec["volumes"]:
                if volume.get("emptyDir", {}).get("medium") == "Memory":
                    needed += mebibytes(volume["emptyDir"]["sizeLimit"])
            if mebibytes(found["limits"]["memory"]) <= needed:
                yield f"{name} needs {needed} MiB when its /dev/shm is full"
            if mebibytes(found["requests"]["memory"]) <= MEASURED_MEMORY:
                yield f"{name} takes {MEASURED_MEMORY} MiB when it does nothing"


def updates(objects):
    """A pod goes when the next one is there, and two are there at all times."""
    scaled = {
        each["spec"]["scaleTargetRef"]["name"]: each["spec"]
        for each in of_kind(objects, "HorizontalPodAutoscaler")
    }
    budgets = {each["metadata"]["name"] for each in of_kind(objects, "PodDisruptionBudget")}
    deployments = of_kind(objects, "Deployment")
    names = {each["metadata"]["name"] for each in deployments}
    for missing in scaled.keys() - names:
        yield f"the autoscaler's Deployment {missing} is missing"
    for each in deployments:
        name, spec = each["metadata"]["name"], each["spec"]
        if spec.get("strategy", {}).get("rollingUpdate", {}).get("maxUnavailable") != 0:
            yield f"an update takes a pod of {name} away before the next one is there"
        if name in scaled and "replicas" in spec:
            yield f"applying Deployment {name} again undoes what the autoscaler did"
        least = scaled[name]["minReplicas"] if name in scaled else spec.get("replicas", 1)
        if least < 2:
            yield f"{name} is one pod, and none while that is moved"
        if name not in budgets:
            yield f"a drained machine may take all pods of {name}"
    for each in of_kind(objects, "InferenceService"):
        predictor = each["spec"]["predictor"]
        if predictor["deploymentStrategy"]["rollingUpdate"].get("maxUnavailable") != 0:
            yield "an update takes a pod away before the next one is there"
        if predictor["minReplicas"] < 2:
            yield "the predictor is one pod, and none while that is moved"


def images(objects):
    """Every image has a version."""
    for name, _, spec in pods_of(objects):
        image = spec["containers"][0]["image"]
        if not re.fullmatch(r"(?!.*:latest$)[^:]+(:\d+/[^:]+)?:[\w.-]+", image):
            yield f"{name} runs {image}, of no certain version"


def runtime(objects):
    """The InferenceService's model and protocol are those of the runtime, which picks itself."""
    for service in of_kind(objects, "InferenceService"):
        model = service["spec"]["predictor"]["model"]
        mode = service["metadata"].get("annotations", {}).get("serving.kserve.io/deploymentMode")
        if mode != "Standard":
            yield f"KServe's mode is {mode}"
        fits = False
        for each in of_kind(objects, "ServingRuntime"):
            spec = each["spec"]
            formats = [
                form["name"] for form in spec["supportedModelFormats"] if form.get("autoSelect")
            ]
            fits |= (
                model["modelFormat"]["name"] in formats
                and model["protocolVersion"] in spec["protocolVersions"]
            )
            if spec["containers"][0]["name"] != "kserve-container":
                yield "KServe looks for a container called kserve-container"
        if not fits:
            yield "no runtime fits to the InferenceService"


ALL = (selectors, ports, gateway, probes, grace, security, volumes, resources, updates, images)
RULES = {rule.__name__: rule for rule in (*ALL, runtime)}
