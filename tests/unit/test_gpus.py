"""What nvidia-smi says about GPUs, with a stand-in for it on PATH."""

import pytest

from serving_kit import gpus
from serving_kit.gpus import Gpu, find_gpus


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Put a shell script called nvidia-smi in front of PATH."""

    def write(script):
        file = tmp_path / "nvidia-smi"
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    return write


def test_every_gpu_is_listed(nvidia_smi):
    nvidia_smi(
        '[ "$*" = "--query-gpu=index,name,compute_cap --format=csv,noheader" ] || exit 2\n'
        "echo '0, NVIDIA A10, 8.6'\necho '1, NVIDIA H100 80GB, HBM3, 9.0'"
    )
    assert find_gpus() == (
        Gpu(0, "NVIDIA A10", (8, 6)),
        Gpu(1, "NVIDIA H100 80GB, HBM3", (9, 0)),
    )
    assert str(find_gpus()[0]) == "GPU 0 (NVIDIA A10, compute capability 8.6)"


@pytest.mark.parametrize(
    "script",
    [
        "echo 'No devices were found'",
        "echo 'Field \"compute_cap\" is not a valid field to query.'",
        "echo '0, Some GPU, [N/A]'",
        "echo '0, Some GPU, 8.6'; exit 9",
        "printf '\\377\\376'",
        "true",
    ],
)
def test_an_answer_that_is_none_counts_as_no_gpu(nvidia_smi, script):
    nvidia_smi(script)
    assert find_gpus() == ()


def test_without_nvidia_smi_there_is_no_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_gpus() == ()


def test_nvidia_smi_that_hangs_is_not_waited_for(nvidia_smi, monkeypatch):
    nvidia_smi("exec sleep 600")
    monkeypatch.setattr(gpus, "ANSWER_SECONDS", 0.2)
    assert find_gpus() == ()


@pytest.mark.parametrize(
    ("capability", "runs"),
    [((5, 2), False), ((6, 0), True), ((8, 6), True), ((8, 9), True), ((9, 0), False)],
)
def test_where_oneflow_has_kernels(capability, runs):
    assert Gpu(0, "a GPU", capability).runs_oneflow is runs
