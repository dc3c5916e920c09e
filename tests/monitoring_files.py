"""deploy/monitoring/ as the tests read it: rules, the dashboard's expressions, names of metrics."""

import json
import re

import yaml

from serving_kit.paths import ROOT

MONITORING = ROOT / "deploy" / "monitoring"
RULE_FILES = sorted((MONITORING / "rules").glob("*.yml"))
DASHBOARD = MONITORING / "grafana" / "dashboard.json"

#: What Prometheus itself makes.
OF_PROMETHEUS = {"up", "ALERTS"}
WORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan"}


def rules():
    """Every rule, with the file that it stands in."""
    for file in RULE_FILES:
        for group in yaml.safe_load(file.read_text())["groups"]:
            for rule in group["rules"]:
                yield file, rule


def recorded():
    return {rule["record"] for _, rule in rules() if "record" in rule}


def alerts():
    return {rule["alert"]: rule for _, rule in rules() if "alert" in rule}


def dashboard():
    return json.loads(DASHBOARD.read_text())


def panels():
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def filled_in(expression):
    """An expression of the dashboard, with the values that Grafana puts in for "All"."""
    return expression.replace("$__rate_interval", "1m").replace("$model", ".+")


def expressions_of_panels():
    return [filled_in(target["expr"]) for panel in panels() for target in panel["targets"]]


def metrics_in(expression):
    """The names of the metrics in an expression: what is neither a word of PromQL nor a label."""
    text = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]', " ", re.sub(r'"[^"]*"', " ", expression))
    text = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", text)
    names = re.findall(r"(?<![\w:.])[a-zA-Z_:][\w:]*(?!\s*\()(?![\w:])", text)
    return set(names) - WORDS
