"""The benchmarks run, and say what they saw; what it was is nobody's business here."""

import os
import subprocess
import sys

import pytest

from serving_kit.paths import ROOT

SECONDS = 300


def run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, ROOT / "benchmarks", *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


@pytest.mark.long
def test_a_question_is_printed_and_written_with_its_plot(tmp_path):
    done = run("starting", "--quick", "--output", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "| server: start() to ready, with the model |" in done.stdout
    assert "| peak memory of tritonserver, stub and worker, GB |" in done.stdout
    assert "not measured" not in done.stdout
    page = (tmp_path / "README.md").read_text()
    assert "Printed by `python benchmarks starting`" in page
    assert "![Start and memory](starting.svg)" in page
    assert (tmp_path / "starting.svg").read_text().startswith("<?xml")


@pytest.mark.long
def test_what_the_gateway_adds(tmp_path):
    done = run("gateway", "--quick", "--output", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "| gateway - direct, fast_neural_style, gRPC, p50, ms |" in done.stdout
    assert (tmp_path / "gateway.svg").exists()


def test_pytorch_cannot_be_installed(tmp_path):
    done = run("network", "--quick", "--pytorch", "--output", tmp_path, UV_OFFLINE="1")
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "Not measured: uv could not install PyTorch" in done.stdout


def test_an_unknown_question():
    done = run("speed")
    assert done.returncode == 2
    assert "there is no question 'speed'; see --help" in done.stderr
