"""The builder of demo.zip: what it takes, what it refuses, and how it packs."""

import importlib
import sys
import zipfile

import numpy as np
import pytest

from serving_kit.errors import ExportError
from serving_kit.paths import MODEL_REPOSITORY, ROOT


@pytest.fixture
def builder(monkeypatch):
    """The modules build and verify, as ``python demo.zip-builder`` imports them."""
    monkeypatch.syspath_prepend(ROOT / "demo.zip-builder")
    for name in ("build", "verify"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module("build")
    for name in ("build", "verify"):
        sys.modules.pop(name)


@pytest.fixture
def verify(builder):
    return sys.modules["verify"]


def test_a_missing_file_is_named(builder, tmp_path, monkeypatch):
    for name in set(builder.NEEDED) - {"server.py"}:
        (tmp_path / name).touch()
    monkeypatch.setattr(builder, "FILES", tmp_path)
    with pytest.raises(builder.BuildError, match=rf"^{tmp_path}/server\.py is missing; nothing"):
        builder.gather()


def test_a_file_of_ones_own_takes_the_place_of_one_that_is_copied(builder, tmp_path, monkeypatch):
    for name in (*builder.NEEDED, "cat.jpg"):
        (tmp_path / name).write_text("mine" if name.endswith(".jpg") else "")
    monkeypatch.setattr(builder, "FILES", tmp_path)
    content = builder.gather()
    assert content["cat.jpg"] == b"mine" and content["coffee.jpg"] != b"mine"


def test_the_modules_that_are_imported_and_theirs(builder, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import json, serving_kit.server.ports\nfrom serving_kit.client import pictures\n"
        "def late():\n    from serving_kit.paths import ROOT\n    from runs import go\n"
    )
    modules = builder.kit_modules([program])
    assert {
        "serving_kit/__init__.py", "serving_kit/server/__init__.py", "serving_kit/server/ports.py",
        "serving_kit/client/pictures/__init__.py", "serving_kit/client/pictures/png.py",
        "serving_kit/paths.py", "serving_kit/errors.py",
    } <= set(modules)  # fmt: skip
    assert "serving_kit/cli.py" not in modules
    assert modules["serving_kit/paths.py"].name == "zip_paths.py"
    rules = modules["serving_kit/client/pictures/png.py"]  # by a link; demo.zip gets a copy
    assert builder.read(rules) == (MODEL_REPOSITORY / "preprocess/1/pictures/png.py").read_bytes()


def test_a_folder_as_it_is_packed(builder, tmp_path):
    (tmp_path / "b" / "__pycache__").mkdir(parents=True)
    (tmp_path / "b" / "empty").mkdir()
    (tmp_path / "b" / "__pycache__" / "x.pyc").touch()
    (tmp_path / "b" / "export.json").touch()
    (tmp_path / "b" / ".hidden").touch()
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "link.txt").symlink_to("a.txt")
    assert builder.tree(tmp_path, "x/") == {
        "x/a.txt": b"a", "x/b/empty/": b"", "x/link.txt": b"a"
    }  # fmt: skip


def test_the_order_in_which_files_were_found_does_not_matter(builder, tmp_path):
    content = {"b.sh": b"b", "a/": b"", "c.py": b"c" * 999}
    builder.pack(content, tmp_path / "one.zip")
    builder.pack(dict(reversed(content.items())), tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as packed:
        assert packed.namelist() == ["a/", "b.sh", "c.py"]
        assert packed.read("c.py") == content["c.py"]
        assert [entry.external_attr >> 16 for entry in packed.infolist()] == [
            0o40755, 0o100755, 0o100644
        ]  # fmt: skip


def test_a_zip_that_is_too_large_is_not_left_behind(builder, tmp_path, monkeypatch):
    monkeypatch.setattr(builder, "MOST_BYTES", 100)
    with pytest.raises(builder.BuildError, match=r"would have 0 MB, but at most 0 MB are allowed"):
        builder.pack({"noise": np.random.default_rng(0).bytes(999)}, tmp_path / "demo.zip")
    with pytest.raises(builder.BuildError, match=r"demo\.zip cannot be written: No such file"):
        builder.pack({}, tmp_path / "none" / "demo.zip")
    assert not list(tmp_path.iterdir())


def test_requirements_are_the_lock_beside_the_builder(builder):
    lock = ROOT / "demo.zip-builder" / "requirements.lock"
    assert builder.gather()["requirements.txt"] == lock.read_bytes()


def test_answers_that_differ_are_refused(verify):
    own = np.full((1, 3, 4, 4), 200, np.float32)
    assert verify.compare("painter", own + 0.0001, own) == pytest.approx(0.0001, rel=0.5)
    with pytest.raises(ExportError, match=r"painter: served and in-process results differ by 0\.5"):
        verify.compare("painter", own + 0.5, own)
    with pytest.raises(ExportError, match="differ by nan"):
        verify.compare("painter", own * np.nan, own)
    with pytest.raises(ExportError, match=r"shape \(1, 3, 4, 2\) when served"):
        verify.compare("painter", own[..., :2], own)


def test_the_newest_version_is_the_one_that_is_served(verify, tmp_path):
    for name in ("2/model", "10/model", "11", "old/model"):
        (tmp_path / name).mkdir(parents=True)
    assert verify.newest_graph(tmp_path) == tmp_path / "10" / "model"
    assert verify.newest_graph(tmp_path / "11") is None
