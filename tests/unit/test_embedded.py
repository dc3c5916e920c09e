"""The embedded Triton, and an installed one in its place."""

import pytest

from serving_kit.errors import ServerError
from serving_kit.gpus import Gpu
from serving_kit.server import embedded


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A folder like /opt/tritonserver; no Triton is run from it."""
    home = tmp_path / "triton"
    for name in ("bin/tritonserver", "backends/python/triton_python_backend_stub"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).touch()
    monkeypatch.setenv(embedded.TRITON_VARIABLE, str(home / "bin" / "tritonserver"))
    return home


@pytest.mark.parametrize(
    ("capability", "device"), [((8, 6), "gpu"), ((9, 0), "cpu"), (None, "cpu")]
)
def test_an_installed_triton_uses_a_gpu_that_oneflow_can_use(
    installed, tmp_path, monkeypatch, capability, device
):
    gpus = (Gpu(0, "NVIDIA X", capability),) if capability else ()
    monkeypatch.setattr(embedded, "find_gpus", lambda: gpus)
    assert embedded.device() == device
    command = embedded.command(tmp_path / "run", "models", ["--x"])
    assert command[0] == str(installed / "bin" / "tritonserver") and command[-1] == "--x"
    assert ("--model-config-name=cpu" in command) == (device == "cpu")


def test_the_embedded_one_computes_on_the_cpu(tmp_path, monkeypatch):
    monkeypatch.delenv(embedded.TRITON_VARIABLE, raising=False)
    monkeypatch.setattr(embedded, "find_gpus", lambda: (Gpu(0, "NVIDIA X", (8, 6)),))
    assert embedded.device() == "cpu"
    assert "--model-config-name=cpu" in embedded.command(tmp_path / "run", "models", [])


def test_an_installed_triton_is_laid_out_with_its_own_stub(installed, tmp_path):
    (tmp_path / "run").mkdir()
    embedded.lay_out(tmp_path / "run", tmp_path)
    stub = tmp_path / "run" / "backends" / "python" / "triton_python_backend_stub"
    assert stub.is_file() and not stub.is_symlink()
    assert (tmp_path / "run" / "backends" / "oneflow" / "model.py").is_file()


def test_what_is_in_its_library_path_stays(installed, monkeypatch):
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/tritonserver/lib:/usr/local/cuda/lib64")
    assert embedded._library_path().endswith(":/opt/tritonserver/lib:/usr/local/cuda/lib64")


def test_no_triton_where_the_variable_says(tmp_path, monkeypatch):
    monkeypatch.setenv(embedded.TRITON_VARIABLE, str(tmp_path / "bin" / "tritonserver"))
    with pytest.raises(ServerError, match=r"SERVING_KIT_TRITON names .* but there is no Triton wi"):
        embedded.device()
