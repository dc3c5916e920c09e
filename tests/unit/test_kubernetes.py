"""deploy/kubernetes, without a cluster: rendered by kubectl, and held against schemas and rules."""

import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import kubernetes_rules
import pytest
import yaml
from kubernetes_objects import (
    FOLDER,
    KIT,
    PART,
    SECONDS,
    kubectl,
    may_reach,
    named,
    of_kind,
    pods_of,
    render,
    why_no_kubectl,
)
from kubernetes_schemas import complaints

from serving_kit.paths import ROOT
from serving_kit.server.embedded import CPU_OPTIONS

#: The oldest that has all that is used (the "sleep" of preStop), and the newest that is known here.
VERSIONS = ("1.30", "1.37")


@pytest.fixture(scope="module")
def rendered():
    if reason := why_no_kubectl():
        pytest.skip(reason)
    return render()


@pytest.mark.parametrize("overlay", ["cpu", "gpu", "kserve", "copy"])
def test_the_objects_keep_to_schemas_and_rules(rendered, overlay):
    objects = rendered[overlay]
    for release in VERSIONS:
        assert not list(complaints(objects, release))
    for rule in kubernetes_rules.RULES.values():
        assert not list(rule(objects)), rule.__name__


def test_envoy_takes_the_gateways_command_and_configuration(rendered, tmp_path):
    (config,) = of_kind(rendered["cpu"], "ConfigMap")
    (tmp_path / "envoy.yaml").write_text(config["data"]["envoy.yaml"])
    deployment = named(rendered["cpu"], "Deployment", "gateway")
    program, *options = deployment["spec"]["template"]["spec"]["containers"][0]["command"]
    options = [word.replace("/etc/envoy", str(tmp_path)) for word in options]
    command = [Path(sys.executable).with_name(program), "--mode", "validate", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("overlay", ["cpu", "gpu", "kserve"])
def test_the_images_have_the_kits_version(rendered, overlay):
    images = {spec["containers"][0]["image"] for _, _, spec in pods_of(rendered[overlay])}
    assert {image.partition(":")[2] for image in images} == {version("serving-kit")}


# --- What the overlays differ in, and who reaches whom ------------------------------------------


def test_a_gpu_goes_with_the_configuration_that_asks_for_one(rendered):
    specs = {}
    for overlay in ("cpu", "gpu"):
        triton = named(rendered[overlay], "Deployment", "triton")
        specs[overlay] = triton["spec"]["template"]["spec"]
    cpu, gpu = (specs[overlay]["containers"][0] for overlay in ("cpu", "gpu"))
    assert cpu["args"] == [*gpu["args"], *CPU_OPTIONS]
    assert gpu["resources"]["limits"] == cpu["resources"]["limits"] | {"nvidia.com/gpu": 1}
    assert {each["key"] for each in specs["gpu"]["tolerations"]} == {"nvidia.com/gpu"}


def part(name):
    return {KIT: "oneflow-serving-kit", PART: name}


PROMETHEUS = ("monitoring", {KIT: "prometheus"})


@pytest.mark.parametrize(
    ("source", "target", "ports"),
    [
        (("", part("gateway")), "triton", {"http", "grpc"}),
        (PROMETHEUS, "triton", {"metrics"}),
        (("elsewhere", PROMETHEUS[1]), "triton", set()),
        (("elsewhere", part("gateway")), "triton", set()),
        (("", part("triton")), "triton", set()),
        (("", part("triton")), "gateway", set()),
        (("elsewhere", {}), "triton", set()),
        (("elsewhere", {}), "gateway", {"http", "grpc"}),
        (PROMETHEUS, "gateway", {"http", "grpc", "metrics"}),
    ],
)
def test_only_the_gateway_and_prometheus_reach_triton(rendered, source, target, ports):
    names = ("http", "grpc", "metrics")
    reached = {port for port in names if may_reach(rendered["cpu"], source, part(target), port)}
    assert reached == ports


def test_without_the_policies_everybody_reaches_triton(rendered):
    objects = [each for each in rendered["cpu"] if each["kind"] != "NetworkPolicy"]
    assert may_reach(objects, ("elsewhere", {}), part("triton"), "http")


# --- The autoscaler's number ----------------------------------------------------------------------


def adapter_rule():
    text = (FOLDER / "prometheus" / "adapter-values.yaml").read_text()
    (rule,) = yaml.safe_load(text)["rules"]["custom"]
    return rule


def test_the_adapter_serves_what_the_autoscaler_asks_for(rendered):
    (metric,) = named(rendered["cpu"], "HorizontalPodAutoscaler", "triton")["spec"]["metrics"]
    assert adapter_rule()["name"]["as"] == metric["pods"]["metric"]["name"]


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_the_number_is_how_long_requests_wait_against_how_long_they_run(tmp_path):
    """As Prometheus computes it: 3 with four clients and one instance, and 0 without requests."""
    query = adapter_rule()["metricsQuery"]
    query = query.replace("<<.LabelMatchers>>", 'namespace="n",pod=~"a|b"')
    query = query.replace("<<.GroupBy>>", "pod")
    series = [
        ("nv_inference_queue_duration_us", "a", "busy", "0+45000000x20"),
        ("nv_inference_compute_infer_duration_us", "a", "busy", "0+15000000x20"),
        ("nv_inference_queue_duration_us", "a", "quiet", "0+100x20"),
        ("nv_inference_compute_infer_duration_us", "a", "quiet", "0+100000x20"),
        ("nv_inference_queue_duration_us", "b", "busy", "5x20"),
        ("nv_inference_compute_infer_duration_us", "b", "busy", "7x20"),
        ("nv_inference_queue_duration_us", "other", "busy", "0+45000000x20"),
    ]
    test = {
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "15s",
                "input_series": [
                    {
                        "series": f'{name}{{namespace="n",pod="{pod}",model="{model}"}}',
                        "values": values,
                    }
                    for name, pod, model, values in series
                ],
                "promql_expr_test": [
                    {
                        "expr": query,
                        "eval_time": "5m",
                        "exp_samples": [
                            {"labels": '{pod="a"}', "value": 3},
                            {"labels": '{pod="b"}', "value": 0},
                        ],
                    }
                ],
            }
        ],
    }
    file = tmp_path / "test.yaml"
    file.write_text(yaml.safe_dump(test))
    done = subprocess.run(
        ["promtool", "test", "rules", file], capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stdout + done.stderr


# --- README.md -----------------------------------------------------------------------------------

README = (FOLDER / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.S | re.M)


@pytest.fixture
def mine(tmp_path):
    """The overlay of one's own that README.md shows, beside a copy of deploy/."""
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    (tmp_path / "mine").mkdir()
    overlay, secret, patch = blocks("yaml")
    (tmp_path / "mine" / "kustomization.yaml").write_text(overlay)

    def with_login():
        (tmp_path / "mine" / "kustomization.yaml").write_text(overlay + patch + secret)
        shutil.copy(ROOT / "deploy" / "gateway" / "envoy.yaml", tmp_path / "mine")

    return tmp_path, with_login


def rendered_in(folder):
    done = kubectl("kustomize", "mine", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    return list(yaml.safe_load_all(done.stdout))


def test_an_overlay_of_ones_own(rendered, mine):
    folder, with_login = mine
    objects = rendered_in(folder)
    used = {spec["containers"][0]["image"] for _, _, spec in pods_of(objects)}
    assert used == {
        f"registry.example.com/{name}:0.1.0"
        for name in ("oneflow-serving-kit", "oneflow-serving-kit-gateway")
    }
    assert named(objects, "PersistentVolumeClaim", "models")["spec"]["accessModes"] == [
        "ReadWriteOnce"
    ]
    with_login()
    objects = rendered_in(folder)
    (secret,) = of_kind(objects, "Secret")
    (volume,) = named(objects, "Deployment", "gateway")["spec"]["template"]["spec"]["volumes"]
    assert volume["secret"]["secretName"] == secret["metadata"]["name"]
    for check in (lambda each: complaints(each, VERSIONS[0]), *kubernetes_rules.RULES.values()):
        assert not list(check(objects))


def test_every_command_is_run_or_needs_a_cluster_a_registry_or_docker(rendered):
    """The rest is checked for what it names: folders, files, objects and the images' names."""
    lines = "".join(blocks("shell")).splitlines()
    assert [line for line in lines if line.startswith("kubectl kustomize")] == [
        "kubectl kustomize mine",  # test_an_overlay_of_ones_own
        "kubectl kustomize deploy/kubernetes/kserve",  # render
    ]
    assert {line.split()[0] for line in lines} == {"make", "docker", "kubectl", "helm"}
    verbs = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert {line.split()[1] for line in lines if line.startswith("make ")} <= verbs
    text = " ".join(lines)
    for path in re.findall(r"(?:deploy/|model_repository)[\w/.-]*", text):
        assert (ROOT / path).exists(), path
    objects = [*rendered["cpu"], *rendered["copy"]]
    for kind, name in re.findall(r"\b(pod|deployment|service)/([\w-]+)", text):
        assert named(objects, kind.capitalize(), name)
    spaces = set(re.findall(r"--namespace (\S+)|(oneflow-[\w-]+)/models:", text))
    assert {a or b for a, b in spaces} - {"monitoring"} == {
        objects[0]["metadata"]["name"] for objects in (rendered["cpu"], rendered["models"])
    }
