"""What a server serves, compared and recorded; and that the kit asks servers in one way."""

import ast
import json
from pathlib import Path

import pytest

from serving_kit.errors import ServerError
from serving_kit.paths import MODEL_REPOSITORY
from serving_kit.server import ServerSpec, TritonServer, supervisor

FULL = {
    "models": ["a", "b"],
    "mode": "local",
    "device": "cpu",
    "image": "",
    "address": "0.0.0.0",
    "model_control": True,
    "shared_memory": True,
    "json": False,
    "options": ["--log-verbose=1"],
}


@pytest.mark.parametrize("settings", [{}, FULL])
def test_a_record_gives_an_equal_spec(tmp_path, settings):
    spec = ServerSpec(tmp_path, **settings)
    again = ServerSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again == spec and hash(again) == hash(spec)


@pytest.mark.parametrize("name", FULL)
def test_any_difference_makes_another_spec(tmp_path, name):
    assert ServerSpec(tmp_path, **{name: FULL[name]}) != ServerSpec(tmp_path)
    assert ServerSpec(tmp_path, **FULL) != ServerSpec(tmp_path.parent, **FULL)


def test_one_folder_by_two_names_is_the_same(tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    (tmp_path / "link").symlink_to("models")
    monkeypatch.chdir(tmp_path)
    assert ServerSpec("models") == ServerSpec(str(tmp_path / "link"))
    assert TritonServer().spec == ServerSpec(MODEL_REPOSITORY)


def test_lists_and_tuples_are_the_same(tmp_path):
    one = ServerSpec(tmp_path, models=["a"], options=["--x"])
    assert one == ServerSpec(tmp_path, models=("a",), options=("--x",))
    assert ServerSpec(tmp_path, models=[]) != ServerSpec(tmp_path)  # none, and all


def test_another_version_s_record_is_refused(tmp_path):
    entries = ServerSpec(tmp_path).to_json()
    for changed in (entries | {"shiny": 1}, {"mode": "local"}):
        with pytest.raises(ValueError, match="not the fields of a ServerSpec"):
            ServerSpec.from_json(changed)


@pytest.mark.parametrize(
    "option", ["--id=mine", "--id", "--http-restricted-api=statistics,metadata:key=x"]
)
def test_an_option_that_would_hide_which_server_it_is(option):
    with pytest.raises(ServerError, match=f"the option {option} cannot be used: the kit "):
        ServerSpec(options=["--log-info=1", option])


def test_other_restricted_groups_are_the_user_s_business():
    ServerSpec(options=["--http-restricted-api=model-repository:metadata=health"])


def test_servers_are_asked_in_one_way_only():
    """``supervisor.request`` is the one HTTP client of the kit's server code."""
    clients = {"HTTPConnection", "urlopen", "InferenceServerClient", "requests"}
    users = {
        file.name
        for file in Path(supervisor.__file__).parents[1].rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if getattr(node, "attr", getattr(node, "id", "")) in clients
    }
    assert users == {"web.py"}
