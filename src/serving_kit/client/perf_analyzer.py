"""Put load on a served model with perf_analyzer, Triton's own load generator.

tritonclient's wheel carries the program, nvidia-pytriton's the libraries that it links to.
"""

import csv
import os
import subprocess
import sysconfig
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tritonclient.utils import InferenceServerException

from serving_kit.errors import ClientError

PROGRAM = Path(sysconfig.get_path("scripts")) / "perf_analyzer"
#: What it links to, and what these libraries are called where the wheel keeps them.
LIBRARIES = {"libb64.so.0d": "libb64-*.so.0d", "libcudart.so.12": "libcudart-*.so.12*"}
WHEEL = Path(sysconfig.get_path("purelib")) / "nvidia_pytriton.libs"
SECONDS = 300
#: In what Triton says where the kit has closed shared memory.
CLOSED = "serving-kit-shared-memory"


@dataclass(frozen=True)
class Load:
    """What a model achieved with a given number of requests at once."""

    concurrency: int
    #: Rows answered in a second.
    rate: float
    #: Milliseconds from question to answer, of the median request and of the 95th of 100.
    p50: float
    p95: float


def analyze(
    model: str, row: np.ndarray | Sequence[np.ndarray], grpc_url: str, *options: str
) -> list[Load]:
    """Measure a model that accepts batches, over gRPC.

    Exactly three windows are measured; whether they are stable is for the reader to judge.

    Args:
        model: its name.
        row: what every request holds, without the batch: the array for INPUT_0, or arrays for
            INPUT_0, INPUT_1 and so on. (perf_analyzer's own random inputs are random bits,
            denormal numbers among them, which are slow.)
        grpc_url: host and port of Triton's gRPC service.
        options: perf_analyzer's, ``"--concurrency-range=1:16:5"`` for example.

    Returns:
        One ``Load`` for each number of requests at once, in order.

    Raises:
        ClientError: perf_analyzer cannot run here, or could not measure.
    """
    if any(option.startswith("--shared-memory") for option in options):
        _check_shared_memory(grpc_url)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _link_libraries(folder / "libraries")
        (folder / "inputs").mkdir()
        for i, array in enumerate([row] if isinstance(row, np.ndarray) else row):
            np.ascontiguousarray(array).tofile(folder / "inputs" / f"INPUT_{i}")
        done = subprocess.run(
            [
                PROGRAM,
                *("-m", model, "-i", "grpc", "-u", grpc_url, "-f", "report.csv"),
                *("--input-data", "inputs", "--percentile", "95"),
                *("--max-trials", "3", "--stability-percentage", "999"),
                *options,
            ],
            cwd=folder,
            env={**os.environ, "LD_LIBRARY_PATH": str(folder / "libraries")},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        report = folder / "report.csv"
        if done.returncode or not report.exists():
            words = f"{done.stdout}\n{done.stderr}".strip().splitlines()
            raise ClientError(
                f"perf_analyzer: {words[-1] if words else f'exit code {done.returncode}'}"
            )
        loads = map(_load_of, csv.DictReader(report.read_text().splitlines()))
        # The file has them in the order of their rates.
        return sorted(loads, key=lambda load: load.concurrency)


def _check_shared_memory(grpc_url: str) -> None:
    """Ask before perf_analyzer makes a segment, which it leaves behind where it is refused.

    Raises:
        ClientError: clients may not register any.
    """
    from tritonclient import grpc  # not at the top: gRPC takes 0.2 s

    with grpc.InferenceServerClient(grpc_url) as client:
        try:
            client.get_system_shared_memory_status(client_timeout=SECONDS)
        except InferenceServerException as error:
            if CLOSED in str(error):
                raise ClientError(
                    f"the server at {grpc_url} does not let clients register shared memory; start "
                    "it with TritonServer(..., shared_memory=True) or serve --shared-memory"
                ) from error
            raise ClientError(f"perf_analyzer: {error}") from error


def _link_libraries(folder: Path) -> None:
    """Make a folder in which perf_analyzer finds its libraries."""
    folder.mkdir()
    for name, pattern in LIBRARIES.items():
        found = next(WHEEL.glob(pattern), None)
        if found is None:
            raise ClientError(
                f"perf_analyzer needs {name}, and nvidia-pytriton has no {pattern}; is it the "
                "version that environment.yml specifies?"
            )
        (folder / name).symlink_to(found)


def _load_of(line: dict[str, str]) -> Load:
    return Load(
        int(line["Concurrency"]),
        float(line["Inferences/Second"]),
        float(line["p50 latency"]) / 1000,
        float(line["p95 latency"]) / 1000,
    )
