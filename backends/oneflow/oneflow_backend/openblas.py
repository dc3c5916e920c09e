"""Which kernels OneFlow's OpenBLAS is to use on this CPU.

OneFlow 0.9.0 carries an OpenBLAS that does not know AMD's and Intel's recent cores, and takes slow
kernels for them: a large matmul runs at half its speed on a Zen 4, at a quarter of it on an Ice
Lake. The variable ``OPENBLAS_CORETYPE`` overrules it, but is read only once, when OneFlow is
imported; so it has to be in the environment of the process from its start. The backend's workers
get it from here. For a program of your own::

    env $(python backends/oneflow/oneflow_backend/openblas.py) python my_program.py
"""

import os
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "OPENBLAS_CORETYPE"
#: Kernels for AVX2 and FMA: the fastest of those tried on a Zen 4. On an Ice Lake, which has
#: AVX-512, those of SKYLAKEX gave the same bits in the same time.
KERNELS = "HASWELL"
#: A CPU without these would end the process at the first matmul.
NEEDED = {"avx2", "fma"}


def environment(
    variables: Mapping[str, str] = os.environ, cpu_info: Path = Path("/proc/cpuinfo")
) -> dict[str, str]:
    """Return the variables to add to the environment of a process that imports OneFlow.

    Args:
        variables: the environment as it is; a choice made there is left alone.
        cpu_info: the kernel's description of the CPU.

    Returns:
        ``OPENBLAS_CORETYPE``, or nothing: where it is set already, or the CPU has no AVX2 and FMA
        or cannot be looked at.
    """
    if VARIABLE in variables:
        return {}
    try:
        first = cpu_info.read_text().partition("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    flags = {flag for name, _, value in pairs if name.strip() == "flags" for flag in value.split()}
    return {VARIABLE: KERNELS} if flags >= NEEDED else {}


if __name__ == "__main__":
    for name, value in environment().items():
        print(f"{name}={value}")
