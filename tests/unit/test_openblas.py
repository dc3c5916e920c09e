"""OpenBLAS is told which kernels to use only where that is known to be right."""

import subprocess
import sys

import pytest

from oneflow_backend import openblas
from oneflow_backend.openblas import environment

HASWELL = {"OPENBLAS_CORETYPE": "HASWELL"}
CPUS = {
    "Zen 4": ("AuthenticAMD", "fpu sse2 fma avx avx2 avx512f", HASWELL),
    "Hygon's Zen": ("HygonGenuine", "fpu sse2 fma avx avx2", HASWELL),
    "AMD without AVX2": ("AuthenticAMD", "fpu sse2 fma4 avx", {}),
    "AMD, FMA masked": ("AuthenticAMD", "fpu sse2 avx avx2", {}),
    "Ice Lake": ("GenuineIntel", "fpu sse2 fma avx avx2 avx512f", HASWELL),
    "Intel without AVX2": ("GenuineIntel", "fpu sse2 avx", {}),
    "no flags": ("GenuineIntel", "", {}),
}


@pytest.fixture
def cpu_info(tmp_path):
    def write(vendor, flags):
        file = tmp_path / "cpuinfo"
        core = f"processor\t: 0\nvendor_id\t: {vendor}\nmodel name\t: X: Y\nflags\t\t: {flags}\n\n"
        file.write_text(core * 2)
        return file

    return write


@pytest.mark.parametrize("cpu", CPUS)
def test_by_cpu(cpu_info, cpu):
    vendor, flags, expected = CPUS[cpu]
    assert environment({}, cpu_info(vendor, flags)) == expected


def test_a_choice_that_was_made_is_left_alone(cpu_info):
    file = cpu_info("AuthenticAMD", "fma avx2")
    assert environment({"OPENBLAS_CORETYPE": "ZEN"}, file) == {}


def test_a_cpu_that_cannot_be_looked_at(tmp_path):
    assert environment({}, tmp_path / "none") == {}
    (tmp_path / "empty").write_text("")
    assert environment({}, tmp_path / "empty") == {}


def test_on_the_command_line_it_prints_what_env_takes():
    done = subprocess.run(
        [sys.executable, openblas.__file__],
        env={},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "".join(f"{name}={value}\n" for name, value in environment({}).items())
