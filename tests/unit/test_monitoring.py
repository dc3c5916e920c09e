"""deploy/monitoring/: valid for Prometheus and Grafana, and every rule does what its test says."""

import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml
from monitoring_files import (
    DASHBOARD,
    MONITORING,
    alerts,
    dashboard,
    expressions_of_panels,
    metrics_in,
    panels,
    recorded,
    rules,
)
from notebook_parts import prose, read

from serving_kit.paths import ROOT

SECONDS = 120
RULE_TESTS = sorted((MONITORING / "tests").glob("*.yml"))
SCHEMA = Path(__file__).parent.parent / "grafana_dashboard.schema.json"


@pytest.fixture(scope="session")
def promtool():
    """Runs promtool; returns its exit code and what it printed."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")

    def promtool(*arguments):
        done = subprocess.run(
            ["promtool", *arguments], capture_output=True, text=True, timeout=SECONDS, check=False
        )
        return done.returncode, done.stdout + done.stderr

    return promtool


# --- Prometheus -------------------------------------------------------------------------------


def test_the_configuration_is_valid(promtool):
    code, output = promtool("check", "config", MONITORING / "prometheus.yml")
    assert code == 0, output
    assert "2 rule files found" in output


def test_the_rules_do_what_their_tests_say(promtool):
    code, output = promtool("test", "rules", *RULE_TESTS)
    assert code == 0, output


def test_the_readme_has_the_same_commands():
    text = (MONITORING / "README.md").read_text()
    folder = MONITORING.relative_to(ROOT)
    assert f"promtool check config {folder}/prometheus.yml\n" in text
    (tests,) = re.findall(r"^promtool test rules (.+)$", text, re.M)
    assert set(tests.split()) == {str(file.relative_to(ROOT)) for file in RULE_TESTS}
    for source in re.findall(r'source="\$PWD/(.+?)"', text):
        assert (ROOT / source).exists()
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert link.startswith("https://") or (MONITORING / link).exists()


def test_every_rule_has_a_test_and_every_alert_one_that_stays_silent():
    files = [yaml.safe_load(file.read_text()) for file in RULE_TESTS]
    tests = [test for file in files for test in file["tests"]]
    expected = [e for test in tests for e in test.get("promql_expr_test", ())]
    counted = {name for e in expected if e["exp_samples"] for name in metrics_in(e["expr"])}
    assert counted == recorded()
    of_alerts = [each for test in tests for each in test.get("alert_rule_test", ())]
    assert {each["alertname"] for each in of_alerts if each["exp_alerts"]} == set(alerts())
    assert {each["alertname"] for each in of_alerts if not each["exp_alerts"]} == set(alerts())


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "expression"),
    [("alert", "vector(1) == 2"), ("alert", "vector(7)"), ("record", "vector(7)")],
)
def test_the_tests_notice_a_wrong_rule(promtool, tmp_path, kind, expression):
    """All alerts are silent; all fire; all recorded numbers are 7."""
    shutil.copytree(MONITORING / "tests", tmp_path / "tests")
    shutil.copytree(MONITORING / "rules", tmp_path / "rules")
    for file in (tmp_path / "rules").iterdir():
        content = yaml.safe_load(file.read_text())
        for group in content["groups"]:
            for rule in group["rules"]:
                if kind in rule:
                    rule["expr"] = expression
                    rule.pop("for", None)
        file.write_text(yaml.safe_dump(content))
    code, output = promtool("test", "rules", *(tmp_path / "tests").iterdir())
    assert code == 1
    named = re.findall(r"alertname: (\w+)" if kind == "alert" else r'expr: "(.+?)"', output)
    names = set(named) if kind == "alert" else {name for e in named for name in metrics_in(e)}
    assert names == (set(alerts()) if kind == "alert" else recorded())


def test_every_alert_says_what_how_much_and_what_to_do():
    headings = re.findall(r"^##+ (.+)$", (ROOT / "docs" / "troubleshooting.md").read_text(), re.M)
    anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in headings}
    for name, rule in alerts().items():
        assert re.fullmatch(r"([A-Z][a-z]+)+|OneFlow\w+", name)
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        annotations = rule["annotations"]
        assert set(annotations) == {"summary", "description", "runbook"}
        assert "$value" in annotations["description"]
        page, anchor = annotations["runbook"].split("#")
        assert page == "docs/troubleshooting.md" and anchor in anchors


def test_the_alerts_of_lesson_10_are_these():
    text = prose(read(ROOT / "notebooks" / "10_roll_out_new_version.ipynb"))
    (table,) = re.findall(r"(?:^\|.*\n)+", text[text.index("The first eleven look at") :], re.M)
    named = set(re.findall(r"`((?:[A-Z]\w+){2,})`", table))
    assert len(named) >= 8 and named <= set(alerts())
    of_triton = [rule for file, rule in rules() if file.name == "triton.yml" and "alert" in rule]
    assert len(of_triton) == 11
    for counter in re.findall(r"`((?:nv|oneflow)_\w+)`", table):
        assert any(counter in rule["expr"] for _, rule in rules()), counter


def test_names_are_found_in_expressions():
    expression = (
        'sum by (model, le) (rate(a_b{x=~"c|d", y="e{f}"}[5m])) / on (job) group_left () '
        "(clamp_min(level:g:rate1m offset 5m, 1e6) > 0) or up unless histogram_quantile(0.5, h)"
    )
    assert metrics_in(expression) == {"a_b", "level:g:rate1m", "up", "h"}


# --- Grafana ----------------------------------------------------------------------------------


def schema_errors(text):
    validator = jsonschema.Draft7Validator(json.loads(SCHEMA.read_text()))
    return [error.message for error in validator.iter_errors(json.loads(text))]


def test_the_dashboard_fits_the_schema():
    assert schema_errors(DASHBOARD.read_text()) == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ('"schemaVersion": 39', '"schemaVersion": "39"'),
        ('"type": "timeseries"', '"type": "graph"'),
        ('"expr"', '"expression"'),
        ('"unit": "reqps"', '"unit": "requests"'),
        ('"uid": "${datasource}"', '"uid": "prometheus"'),
        ('"gridPos"', '"position"'),
    ],
)
def test_a_mistake_in_the_dashboard_is_found(right, wrong):
    text = DASHBOARD.read_text()
    assert right in text
    assert schema_errors(text.replace(right, wrong))


def test_panels_have_numbers_and_places_of_their_own():
    everything = dashboard()["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    assert len({panel["title"] for panel in everything}) == len(everything)
    for one, other in itertools.combinations((panel["gridPos"] for panel in everything), 2):
        apart_x = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart_y = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart_x or apart_y
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in everything)


def test_prometheus_understands_every_panel(promtool, tmp_path):
    expressions = expressions_of_panels()
    assert len(expressions) >= len(panels()) > 10
    assert not any("$" in expression for expression in expressions)
    # promtool 2.42 reads expressions in rules only.
    made = [{"record": f"panel:{i}", "expr": e} for i, e in enumerate(expressions)]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": made}]}))
    code, output = promtool("check", "rules", file)
    assert code == 0, output
    file.write_text(file.read_text().replace("sum(", "sum(("))
    assert promtool("check", "rules", file)[0] == 1


def test_what_grafana_is_provisioned_with_fits_together():
    folder = MONITORING / "grafana" / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text())[
        "datasources"
    ]
    assert source["type"] == "prometheus"
    prometheus = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    assert source["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]
    (provider,) = yaml.safe_load((folder / "dashboards" / "kit.yml").read_text())["providers"]
    assert provider["type"] == "file"
    variables = {variable["name"] for variable in dashboard()["templating"]["list"]}
    assert variables == {"datasource", "model"}
