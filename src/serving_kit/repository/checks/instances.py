"""Compares where a model is to run with the GPUs of this machine."""

from collections.abc import Iterator

from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from serving_kit.gpus import Gpu
from serving_kit.repository.checks.findings import Finding, Written
from serving_kit.repository.config import CPU_CONFIG


def check_instances(
    written: Written, has_cpu_variant: bool, gpus: tuple[Gpu, ...]
) -> Iterator[Finding]:
    """Check where a model is to run.

    Args:
        written: the configuration.
        has_cpu_variant: whether it may ask for a GPU that is not here, because another one of
            the model serves on the CPU.
        gpus: those of this machine.
    """
    config = written.config
    usable = usable_gpus(config, gpus)
    for i, group in enumerate(config.instance_group):
        if group.kind not in ModelInstanceGroup.Kind.values():
            sentence = f"there is no kind {group.kind}; write KIND_CPU or KIND_GPU"
            yield written.error("kind", sentence, "instance_group", i, "kind")
            continue
        kind = ModelInstanceGroup.Kind.Name(group.kind)
        if kind == "KIND_AUTO" and not usable:
            kind = "KIND_CPU"
        place = ("instance_group", i, "gpus")
        strange = [index for index in group.gpus if index not in [gpu.index for gpu in usable]]
        if group.gpus and kind not in ("KIND_GPU", "KIND_AUTO"):
            yield written.error(
                "gpus",
                f"gpus: {list(group.gpus)} is only for kind: KIND_GPU, and this is "
                f"{kind}{' on a machine without a usable GPU' if not group.kind else ''}; "
                "leave gpus out",
                *place,
            )
        elif kind == "KIND_GPU" and any(index < 0 for index in group.gpus):
            yield written.error("gpus", "GPUs are counted from 0; write gpus: [ 0 ]", *place)
        elif kind == "KIND_GPU" and not usable and not has_cpu_variant:
            yield written.error(
                "kind-gpu",
                f"kind: KIND_GPU, but {_no_gpu(gpus)}; write kind: KIND_CPU without gpus, or put "
                f"such a configuration beside it as {CPU_CONFIG}",
                "instance_group",
                i,
                "kind",
            )
        elif kind == "KIND_GPU" and usable and strange:
            yield written.error(
                "gpus",
                f"there is no GPU {strange[0]} here that the backend {config.backend} runs on, "
                f"but {', '.join(map(str, usable))}; write gpus: [ {usable[0].index} ]",
                *place,
            )


def usable_gpus(config: ModelConfig, gpus: tuple[Gpu, ...]) -> tuple[Gpu, ...]:
    """Return the GPUs on which a model's backend runs."""
    return tuple(gpu for gpu in gpus if config.backend != "oneflow" or gpu.runs_oneflow)


def wants_gpu(written: Written) -> bool:
    """Tell whether a model is told to run on a GPU."""
    return any(g.kind == ModelInstanceGroup.KIND_GPU for g in written.config.instance_group)


def _no_gpu(gpus: tuple[Gpu, ...]) -> str:
    if gpus:
        return f"OneFlow 0.9.0 has no kernels for {', '.join(map(str, gpus))}"
    return "this machine has no GPU (nvidia-smi lists none)"
