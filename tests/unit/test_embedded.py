"""The embedded Triton, and an installed one in its place, as they would be started."""

import subprocess
import sys

import pytest

from serving_kit.errors import ServerError
from serving_kit.server import TritonServer, choose
from serving_kit.server.embedded import TRITON_VARIABLE, EmbeddedLauncher
from serving_kit.server.spec import ServerSpec

A10, H100 = "0, NVIDIA A10, 8.6", "0, NVIDIA H100, 9.0"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A folder like /opt/tritonserver; no Triton is run from it."""
    home = tmp_path / "triton"
    parts = ("triton_python_backend_stub", "libtriton_python.so")
    for name in ("bin/tritonserver", *(f"backends/python/{part}" for part in parts)):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).touch()
    monkeypatch.setenv(TRITON_VARIABLE, str(home / "bin" / "tritonserver"))
    return home


@pytest.fixture
def gpu(tmp_path, monkeypatch):
    """Give the machine a GPU, or none, and no Docker."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("SERVING_KIT_SERVER", raising=False)

    def gpu(line):
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\necho '{line}'\n")
        program.chmod(0o755)

    return gpu


def command(repository, **settings):
    """Return the words of the command that starts Triton by hand."""
    return TritonServer(repository, **settings).command().replace("\\\n", "").split()


@pytest.mark.parametrize(("line", "device"), [(A10, "gpu"), (H100, "cpu"), ("", "cpu")])
def test_an_installed_triton_uses_a_gpu_that_oneflow_can_use(
    installed, tmp_path, gpu, line, device
):
    gpu(line)
    assert choose("local").device == device
    choice = choose()  # there is no Docker here: what is chosen is told as it will be
    assert (choice.mode, choice.device) == ("local", device)
    assert choice.why == "there is no docker command on this machine"
    words = command(tmp_path, options=["--x"])
    assert str(installed / "bin" / "tritonserver") in words and words[-1] == "--x"
    assert ("--model-config-name=cpu" in words) == (device == "cpu")


def test_the_embedded_one_computes_on_the_cpu(tmp_path, monkeypatch, gpu):
    monkeypatch.delenv(TRITON_VARIABLE, raising=False)
    gpu(A10)
    assert choose().device == "cpu"
    assert "--model-config-name=cpu" in command(tmp_path)


def test_an_installed_one_is_no_stand_in_for_the_embedded_one(installed, tmp_path, monkeypatch):
    def spec():
        server = TritonServer(tmp_path, mode="local")
        server.command()
        return server.spec

    one = spec()
    assert spec() == one
    monkeypatch.delenv(TRITON_VARIABLE)
    assert spec() != one


def test_each_is_called_what_it_is():
    title = EmbeddedLauncher(ServerSpec(mode="local", image="/opt/tritonserver")).title
    assert title("2.51.0", "127.0.0.1:8000") == "installed Triton 2.51.0 on 127.0.0.1:8000"
    title = EmbeddedLauncher(ServerSpec(mode="local", image="")).title
    assert title("2.51.0", "127.0.0.1:8000") == "embedded Triton 2.51.0 on 127.0.0.1:8000"


def test_an_installed_triton_is_laid_out_with_its_own_stub(installed, tmp_path):
    (tmp_path / "run").mkdir()
    launcher = EmbeddedLauncher(ServerSpec(tmp_path, mode="local"))
    order = launcher.order(tmp_path / "run", (1, 2, 3))
    assert order["command"][0] == str(installed / "bin" / "tritonserver")
    stub = tmp_path / "run" / "backends" / "python" / "triton_python_backend_stub"
    assert stub.is_file() and not stub.is_symlink()
    assert (tmp_path / "run" / "backends" / "oneflow" / "model.py").is_file()


def test_what_is_in_its_library_path_stays(installed, tmp_path, monkeypatch):
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/tritonserver/lib:/usr/local/cuda/lib64")
    environment = EmbeddedLauncher(ServerSpec(tmp_path, mode="local")).environment(tmp_path)
    assert environment["LD_LIBRARY_PATH"].endswith(":/opt/tritonserver/lib:/usr/local/cuda/lib64")


def test_threads_can_start_servers_at_once():
    """The first to ask Python for its folders is not overtaken by one that gets half of them."""
    program = """if True:
        import sys
        from concurrent.futures import ThreadPoolExecutor
        from serving_kit.server import embedded

        sys.setswitchinterval(1e-6)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: embedded._library_path(), range(8)))
    """
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_no_triton_where_the_variable_says(tmp_path, monkeypatch):
    monkeypatch.setenv(TRITON_VARIABLE, str(tmp_path / "bin" / "tritonserver"))
    with pytest.raises(ServerError, match=r"SERVING_KIT_TRITON names .* but there is no Triton wi"):
        choose("local")
