"""deploy/: what is sent to the engine, and linters for what cannot be built or run in the tests."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "deploy" / "image" / "Dockerfile"
COMPOSE = ROOT / "deploy" / "compose.yaml"
COMMANDS = Path(sys.executable).parent
SECONDS = 120


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def run(*command, **options):
    return subprocess.run(
        command, capture_output=True, text=True, timeout=SECONDS, check=False, **options
    )


# --- What is sent to the engine ---------------------------------------------------------------


def test_nothing_is_sent_to_the_engine_but_what_is_copied():
    copied = set()
    for arguments in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE.read_text(), re.M):
        copied |= set(arguments.split()[:-1])
    assert all((ROOT / name).exists() for name in copied)
    rules = [line for line in read(".dockerignore").splitlines() if not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied


# --- Linters ----------------------------------------------------------------------------------


def hadolint(file):
    return run(COMMANDS / "hadolint", "--no-color", "--failure-threshold", "style", file)


def check_compose(file):
    return run(COMMANDS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", file)


def test_the_dockerfile_is_clean():
    done = hadolint(DOCKERFILE)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("right", "wrong", "rule"),
    [
        (":3.10-slim-bookworm\n", "\n", "DL3006"),
        ("--no-cache-dir ", "", "DL3042"),
        ("USER 1000:1000", "USER root", "DL3002"),
        ("/build/requirements.lock \\", "$UNQUOTED \\", "SC2086"),
        ('start.py"]', "", "DL3025"),
    ],
)
def test_a_mistake_in_the_dockerfile_is_found(tmp_path, right, wrong, rule):
    text = DOCKERFILE.read_text()
    assert right in text
    (tmp_path / "Dockerfile").write_text(text.replace(right, wrong))
    done = hadolint(tmp_path / "Dockerfile")
    assert done.returncode == 1
    assert rule in done.stdout + done.stderr


def test_the_compose_file_is_clean():
    done = check_compose(COMPOSE)
    assert done.returncode == 0, done.stdout + done.stderr


def test_mistakes_in_the_compose_file_are_found(tmp_path):
    text = COMPOSE.read_text()
    for right, wrong in (
        ("read_only: true", "readonly: true"),
        ("shm_size: 1gb", "shm_size: [1gb]"),
        ("profiles: [cpu]", "profiles: cpu"),
    ):
        assert right in text
        text = text.replace(right, wrong)
    (tmp_path / "compose.yaml").write_text(text)
    done = check_compose(tmp_path / "compose.yaml")
    assert done.returncode == 1
    for name in ("readonly", "shm_size", "profiles"):
        assert name in done.stdout


# --- What no linter knows ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gpu", "cpu"])
def test_a_service_is_locked_down(name):
    service = yaml.safe_load(COMPOSE.read_text())["services"][name]
    assert service["profiles"] == [name]
    assert service["user"] == "1000:1000"
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert [port.split(":")[0] for port in service["ports"]] == ["127.0.0.1"] * 3
    (models,) = service["volumes"]
    assert models["read_only"] and (COMPOSE.parent / models["source"]).is_dir()
    assert (COMPOSE.parent / service["build"]["context"]).resolve() == ROOT
    assert (ROOT / service["build"]["dockerfile"]).samefile(DOCKERFILE)


def test_every_stage_has_the_same_base():
    """Python 3.10, for OneFlow and for the stub of Triton's python backend, on Debian 12."""
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE.read_text(), re.M)
    assert set(bases) == {"python:3.10-slim-bookworm"}
