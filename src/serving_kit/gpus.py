"""The NVIDIA GPUs of this machine, and whether OneFlow 0.9.0 computes on them."""

import subprocess
from dataclasses import dataclass

NVIDIA_SMI = ("nvidia-smi", "--query-gpu=index,name,compute_cap", "--format=csv,noheader")
#: nvidia-smi answers within a second or two; one that waits for a broken driver may never.
ANSWER_SECONDS = 10

#: Compute capabilities of the first and last GPU that the wheel's machine code runs on: it was
#: built for 6.0, 6.1, 7.0, 7.5, 8.0 and 8.6, without PTX, and 8.9 runs the code for 8.6.
ONEFLOW_FIRST, ONEFLOW_LAST = (6, 0), (8, 9)


@dataclass(frozen=True)
class Gpu:
    """One GPU, as nvidia-smi describes it."""

    index: int
    name: str
    compute_capability: tuple[int, int]

    @property
    def runs_oneflow(self) -> bool:
        """Whether the OneFlow 0.9.0 wheel has kernels for it."""
        return ONEFLOW_FIRST <= self.compute_capability <= ONEFLOW_LAST

    def __str__(self) -> str:
        major, minor = self.compute_capability
        return f"GPU {self.index} ({self.name}, compute capability {major}.{minor})"


def find_gpus() -> tuple[Gpu, ...]:
    """Return the GPUs that nvidia-smi lists; none where it is missing, fails or is unclear."""
    try:
        answer = subprocess.run(
            NVIDIA_SMI,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=ANSWER_SECONDS,
            check=True,
        )
        return tuple(_read_line(line) for line in answer.stdout.splitlines() if line.strip())
    except (OSError, subprocess.SubprocessError, ValueError):
        return ()


def _read_line(line: str) -> Gpu:
    """Read a line as ``0, NVIDIA A10, 8.6``; a name may have commas of its own."""
    index, rest = line.split(",", 1)
    name, capability = rest.rsplit(",", 1)
    major, minor = capability.split(".")
    return Gpu(int(index), name.strip(), (int(major), int(minor)))
