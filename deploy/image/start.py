"""Process 1 of the kit's image: the supervisor, with the command that the container is given.

Without a command it serves the models in /models, on a GPU where OneFlow can use one.
"""

import sys

from gpus import find_gpus
from supervisor import run

SERVE = ("tritonserver", "--model-repository=/models")
#: What has Triton read each model's configs/cpu.pbtxt, and keeps it from looking for a GPU.
ON_CPU = (
    "--model-config-name=cpu",
    "--allow-gpu-metrics=false",
    "--pinned-memory-pool-byte-size=0",
)


def default_command() -> list[str]:
    """Return Triton's command line for this machine; say so where it is the one for the CPU."""
    gpus = find_gpus()
    if gpus and gpus[0].runs_oneflow:
        return list(SERVE)
    why = f"OneFlow 0.9.0 has no kernels for {gpus[0]}" if gpus else "no GPU can be seen here"
    print(f"{why}: the models are served on the CPU, with {ON_CPU[0]}", file=sys.stderr, flush=True)
    return [*SERVE, *ON_CPU]


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:] or default_command()))
