"""deploy/: what is sent to the engine, and linters for what cannot be built or run in the tests."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from serving_kit.server import supervisor
from serving_kit.server.launcher import CPU_OPTIONS
from serving_kit.server.supervisor import alone

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "deploy" / "image" / "Dockerfile"
GATEWAY = ROOT / "deploy" / "gateway"
DEPLOY = ROOT / "deploy"
COMPOSE, GPU, ACCESS = (DEPLOY / f"compose{part}.yaml" for part in ("", ".gpu", ".access"))
STACK, STACK_ACCESS = DEPLOY / "swarm" / "stack.yaml", DEPLOY / "swarm" / "access.yaml"
COMPOSE_FILES = [COMPOSE, GPU, ACCESS, STACK, STACK_ACCESS]
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


@pytest.mark.parametrize("file", [DOCKERFILE, GATEWAY / "Dockerfile"], ids=["image", "gateway"])
def test_the_dockerfile_is_clean(file):
    done = hadolint(file)
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


@pytest.mark.parametrize("file", COMPOSE_FILES, ids=lambda file: file.name)
def test_the_compose_file_is_clean(file):
    done = check_compose(file)
    assert done.returncode == 0, done.stdout + done.stderr


def test_mistakes_in_the_compose_file_are_found(tmp_path):
    text = COMPOSE.read_text()
    for right, wrong in (
        ("read_only: true", "readonly: true"),
        ("shm_size: 1gb", "shm_size: [1gb]"),
        ("build: gateway", "build: 5"),
    ):
        assert right in text
        text = text.replace(right, wrong)
    (tmp_path / "compose.yaml").write_text(text)
    done = check_compose(tmp_path / "compose.yaml")
    assert done.returncode == 1
    for name in ("readonly", "shm_size", "build"):
        assert name in done.stdout


# --- What no linter knows ---------------------------------------------------------------------


def services(file):
    return yaml.safe_load(file.read_text())["services"]


@pytest.mark.parametrize("file", [COMPOSE, STACK], ids=lambda file: file.name)
@pytest.mark.parametrize("name", ["triton", "gateway"])
def test_a_service_is_locked_down(file, name):
    service = services(file)[name]
    assert service["user"] == "1000:1000"
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    if file == COMPOSE:  # a stack has no such option
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_compose_serves_the_models_of_the_kit_from_images_that_it_can_build():
    triton, gateway = (services(COMPOSE)[name] for name in ("triton", "gateway"))
    (models,) = triton["volumes"]
    source = re.fullmatch(r"\$\{MODELS:-(.+)\}", models["source"])[1]
    assert models["read_only"] and (COMPOSE.parent / source).is_dir()
    assert (COMPOSE.parent / triton["build"]["context"]).resolve() == ROOT
    assert (ROOT / triton["build"]["dockerfile"]).samefile(DOCKERFILE)
    assert (COMPOSE.parent / gateway["build"]).samefile(GATEWAY)
    assert services(GPU).keys() == {"triton"}


@pytest.mark.parametrize("file", [COMPOSE, STACK], ids=lambda file: file.name)
def test_the_gateway_alone_has_ports(file):
    assert "ports" not in services(file)["triton"]
    ports = services(file)["gateway"]["ports"]
    if file == COMPOSE:
        assert [port.partition("}:")[0] for port in ports] == ["${ADDRESS:-127.0.0.1"] * 3
    else:
        assert [port["target"] for port in ports] == [8000, 8001, 8002]
        assert {port["mode"] for port in ports} == {"host"}


def test_the_stack_needs_no_ipvs_and_gives_a_triton_time_to_end():
    triton, gateway = (services(STACK)[name] for name in ("triton", "gateway"))
    assert {service["deploy"]["endpoint_mode"] for service in (triton, gateway)} == {"dnsrr"}
    assert triton["deploy"]["update_config"]["order"] == "start-first"
    drain = int(triton["environment"][supervisor.DRAIN_VARIABLE])
    grace = int(triton["stop_grace_period"].removesuffix("s"))
    assert grace > drain + alone.EXIT_TIMEOUT_SECONDS + alone.FURTHER_SECONDS


def test_the_gateway_asks_for_the_name_of_the_service():
    clusters = yaml.safe_load((GATEWAY / "envoy.yaml").read_text())["static_resources"]["clusters"]
    names = re.findall(r"'address': '([a-z]+)'", str(clusters))
    assert set(names) == {"triton"} and len(names) == 2
    assert "triton" in services(COMPOSE) and "triton" in services(STACK)


def test_the_image_says_cpu_as_the_kit_does():
    """The image has nothing of the kit but the supervisor, so its start has the options again."""
    found = re.search(r"^ON_CPU = (\(.+?\n\))", read("deploy/image/start.py"), re.M | re.S)
    assert ast.literal_eval(found[1]) == CPU_OPTIONS


def test_every_stage_has_the_same_base():
    """Python 3.10, for OneFlow and for the stub of Triton's python backend, on Debian 12."""
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE.read_text(), re.M)
    bases += re.findall(r"^FROM (\S+)", (GATEWAY / "Dockerfile").read_text(), re.M)
    assert set(bases) == {"python:3.10-slim-bookworm"}
