"""What several questions need of a server: a repository of their own, and its processes."""

from pathlib import Path

import psutil

from serving_kit.models import ONE_STYLE, repository_for
from serving_kit.server import supervisor
from serving_kit.server.triton import TritonServer

MB = 1_000_000


def style_graph() -> Path:
    """Return the saved graph of the kit's own fast_neural_style, exported if need be."""
    repository = repository_for(models=[ONE_STYLE], device="cpu")
    return repository / ONE_STYLE / "1" / "model"


def write_model(repository: Path, name: str, graph: Path, config: str) -> None:
    """Add a model to a repository: a link to a saved graph, and its configuration."""
    (repository / name / "1").mkdir(parents=True)
    (repository / name / "1" / "model").symlink_to(graph)
    (repository / name / "config.pbtxt").write_text(f'backend: "oneflow"\n{config}')


def processes(server: TritonServer) -> dict[str, psutil.Process]:
    """Return the processes of a server that serves one model, by what they are."""
    found = {}
    for pid in supervisor.processes_of(server.run_dir):
        process = psutil.Process(pid)
        words = " ".join(process.cmdline()[:2])
        for kind in ("tritonserver", supervisor.STUB, "worker.py", "supervisor"):
            if f"/{kind}" in words:
                found[kind.removesuffix(".py")] = process
                break
    return found


def peak(process: psutil.Process) -> float:
    """Return the most memory that a process has had, in MB: VmHWM, shared memory counted."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / MB
