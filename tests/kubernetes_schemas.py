"""Schemas: Kubernetes' own out of the package kubernetes-validate, and three of others, by hand.

Those of KServe (v1alpha1 and v1beta1, as in 0.20) and of the Prometheus Operator (v1, as in 0.93)
have megabytes, most of it the schema of a pod again. Here are the fields of their own that
deploy/kubernetes may use; a container and a pod are checked against Kubernetes' own schema.
"""

import jsonschema
import kubernetes_validate
from kubernetes_objects import kserve_pod

TEXT, NUMBER, FLAG = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}
LABELS = {"type": "object", "additionalProperties": TEXT}
PROTOCOLS = {"enum": ["v1", "v2", "grpc-v1", "grpc-v2"]}


def fields(required=(), **properties):
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def list_of(item):
    return {"type": "array", "minItems": 1, "items": item}


RUNTIME = fields(
    ["containers", "supportedModelFormats"],
    supportedModelFormats=list_of(
        fields(["name"], name=TEXT, version=TEXT, autoSelect=FLAG, priority=NUMBER)
    ),
    protocolVersions=list_of(PROTOCOLS),
    annotations=LABELS,
    labels=LABELS,
    multiModel=FLAG,
    disabled=FLAG,
    # Of a pod, these alone: no securityContext and no grace period.
    containers=list_of({"type": "object"}),
    volumes=list_of({"type": "object"}),
    nodeSelector=LABELS,
    affinity={"type": "object"},
    tolerations=list_of({"type": "object"}),
    imagePullSecrets=list_of(fields(["name"], name=TEXT)),
)
#: What a predictor has besides the fields of a pod, and a model besides those of a container.
PREDICTOR = fields(
    ["model"],
    minReplicas=NUMBER,
    maxReplicas=NUMBER,
    scaleMetric={"enum": ["cpu", "memory", "concurrency", "rps"]},
    scaleTarget=NUMBER,
    deploymentStrategy={"type": "object"},
    timeout=NUMBER,
    annotations=LABELS,
    labels=LABELS,
    model=fields(
        ["modelFormat"],
        modelFormat=fields(["name"], name=TEXT, version=TEXT),
        runtime=TEXT,
        protocolVersion=PROTOCOLS,
        storageUri=TEXT,
        resources={"type": "object"},
    ),
)
OF_A_POD = ("automountServiceAccountToken", "enableServiceLinks", "terminationGracePeriodSeconds")
POD_MONITOR = fields(
    ["selector"],
    selector=fields(matchLabels=LABELS),
    jobLabel=TEXT,
    namespaceSelector=fields(any=FLAG, matchNames=list_of(TEXT)),
    podMetricsEndpoints=list_of(
        fields(
            port=TEXT,
            path=TEXT,
            interval={"type": "string", "pattern": r"^\d+(ms|s|m|h)$"},
            scrapeTimeout={"type": "string", "pattern": r"^\d+(ms|s|m|h)$"},
        )
    ),
)
OTHERS = {
    ("serving.kserve.io/v1alpha1", "ServingRuntime"): RUNTIME,
    ("serving.kserve.io/v1beta1", "InferenceService"): fields(["predictor"], predictor=PREDICTOR),
    ("monitoring.coreos.com/v1", "PodMonitor"): POD_MONITOR,
}


def complaints(objects, version):
    """Yield what the schemas of a version of Kubernetes do not allow, strictly."""
    for each in objects:
        spec = OTHERS.get((each["apiVersion"], each["kind"]))
        try:
            if spec is None:
                kubernetes_validate.validate(each, version, strict=True)
            else:
                jsonschema.validate(without_pod(each), fields_of_an_object(spec))
        except (jsonschema.ValidationError, kubernetes_validate.ValidationError) as error:
            yield f"{each['kind']} {each['metadata']['name']}: {error.message}"
        except kubernetes_validate.SchemaNotFoundError as error:
            yield error.message
    for runtime in objects:
        if runtime["kind"] == "ServingRuntime":
            yield from complaints(list(pods_of_kserve(runtime, objects)), version)


def fields_of_an_object(spec):
    return fields(["spec"], apiVersion=TEXT, kind=TEXT, metadata={"type": "object"}, spec=spec)


def without_pod(each):
    """Return an InferenceService without what a pod has, too; all others as they are."""
    predictor = each["spec"].get("predictor")
    if not predictor:
        return each
    rest = {key: value for key, value in predictor.items() if key not in OF_A_POD}
    return each | {"spec": each["spec"] | {"predictor": rest}}


def pods_of_kserve(runtime, objects):
    for service in objects:
        if service["kind"] == "InferenceService":
            spec = kserve_pod(runtime, service)
            yield {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "kserve"}, "spec": spec}
            strategy = service["spec"]["predictor"]["deploymentStrategy"]
            labels = {"a": "b"}
            template = {"metadata": {"labels": labels}, "spec": spec}
            yield {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": "kserve"},
                "spec": {
                    "selector": {"matchLabels": labels},
                    "strategy": strategy,
                    "template": template,
                },
            }
