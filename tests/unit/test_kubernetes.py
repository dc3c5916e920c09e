"""deploy/kubernetes, without a cluster: rendered by kubectl, and held against schemas and rules."""

import shutil
import subprocess

import kubernetes_rules
import pytest
import yaml
from kubernetes_objects import FOLDER, KIT, PART, SECONDS, may_reach, named, render, why_no_kubectl
from kubernetes_schemas import complaints

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
    for version in VERSIONS:
        assert not list(complaints(objects, version))
    for rule in kubernetes_rules.RULES.values():
        assert not list(rule(objects)), rule.__name__


# --- What the overlays differ in, and who reaches whom ------------------------------------------


def test_a_gpu_goes_with_the_configuration_that_asks_for_one(rendered):
    specs = {}
    for overlay in ("cpu", "gpu"):
        triton = named(rendered[overlay], "Deployment", "triton")
        specs[overlay] = triton["spec"]["template"]["spec"]
    cpu, gpu = (specs[overlay]["containers"][0] for overlay in ("cpu", "gpu"))
    assert cpu["args"] == [*gpu["args"], "--model-config-name=cpu"]
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
