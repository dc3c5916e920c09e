"""The tensors between the steps of an ensemble: each is written once, read, and fits."""

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import NamedTuple

from serving_kit.errors import did_you_mean
from serving_kit.repository.checks.findings import Finding, Written
from serving_kit.repository.checks.folders import ModelFolder
from serving_kit.repository.checks.graphs import completed
from serving_kit.repository.checks.versions import served_versions
from serving_kit.repository.config import as_triton_has_it

STEP = ("ensemble_scheduling", 0, "step")


class Tensor(NamedTuple):
    """A tensor as one model declares it."""

    data_type: str
    dims: tuple[int, ...]
    batched: bool
    model: str

    def fits(self, other: "Tensor") -> bool:
        """Tell whether two shapes agree, without the batch or with it."""
        return _same(self.dims, other.dims) or _same(self._whole(), other._whole())

    def _whole(self) -> tuple[int, ...]:
        return (-1, *self.dims) if self.batched else self.dims

    def __str__(self) -> str:
        return f"{self.data_type} {list(self._whole())} in {self.model}"


def _tensor(data_type: str, dims: list, batched: bool, model: str) -> Tensor:
    return Tensor(str(data_type), tuple(map(int, dims)), batched, model)


def _same(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return len(one) == len(other) and all(
        a == b or -1 in (a, b) for a, b in zip(one, other, strict=True)
    )


def config_of(step, variant: str, models: dict[str, ModelFolder]) -> dict | None:
    """Return the configuration of a step's model, completed as the backend does it."""
    folder = models.get(step.model_name)
    written = folder and folder.config_beside(variant)
    if not written:
        return None
    return completed(
        written, folder, max(served_versions(written.config, folder.versions), default=0)
    )


def check_flow(written: Written) -> Iterator[Finding]:
    """Check that every tensor comes from somewhere and is used."""
    config = written.config
    steps = config.ensemble_scheduling.step
    inputs = {tensor.name for tensor in config.input}
    outputs = {tensor.name for tensor in config.output}
    wrote: dict[str, int] = {}
    for i, step in enumerate(steps):
        for key, name in step.output_map.items():
            if name in wrote or name in inputs:
                source = f"step {wrote[name] + 1}" if name in wrote else "the ensemble's input"
                sentence = f'the tensor "{name}" comes from {source} already; give it another name'
                yield written.error("ensemble-tensor", sentence, *STEP, i, "output_map", key)
            wrote.setdefault(name, i)
    broken = False
    for i, step in enumerate(steps):
        for key, name in step.input_map.items():
            if name not in wrote and name not in inputs:
                broken = True
                sentence = (
                    f'the tensor "{name}" is neither an input of the ensemble nor written by a '
                    f"step; {did_you_mean(name, inputs | set(wrote))}"
                )
                yield written.error("ensemble-tensor", sentence, *STEP, i, "input_map", key)
    for i, tensor in enumerate(config.output):
        if tensor.name not in wrote:
            broken = True
            sentence = (
                f'no step writes the output "{tensor.name}"; name it in an output_map, or '
                f"{did_you_mean(tensor.name, wrote)}"
            )
            yield written.error("ensemble-tensor", sentence, "output", i, "name")
    if not broken:  # else what seems to be unused may be what is missing elsewhere
        yield from _check_use(written, outputs)
    yield from _check_order(written, inputs, wrote)


def _check_use(written: Written, outputs: set[str]) -> Iterator[Finding]:
    """Find inputs and steps' outputs that nothing reads, which Triton refuses."""
    steps = written.config.ensemble_scheduling.step
    read = {name for step in steps for name in step.input_map.values()}
    for i, tensor in enumerate(written.config.input):
        if tensor.name not in read:
            sentence = f'no step reads the input "{tensor.name}"; name it in an input_map'
            yield written.error("ensemble-tensor", sentence, "input", i, "name")
    for i, step in enumerate(steps):
        for key, name in step.output_map.items():
            if name not in read and name not in outputs:
                sentence = (
                    f'the tensor "{name}" is used by no step and is not an output of the ensemble; '
                    "leave it out of output_map, or use it"
                )
                yield written.error("ensemble-tensor", sentence, *STEP, i, "output_map", key)


def _check_order(written: Written, ready: set[str], wrote: dict[str, int]) -> Iterator[Finding]:
    """Find steps that wait for each other."""
    steps = written.config.ensemble_scheduling.step
    waits = {
        i: {wrote[name] for name in step.input_map.values() if name in wrote and name not in ready}
        for i, step in enumerate(steps)
    }
    try:
        TopologicalSorter(waits).prepare()
    except CycleError as error:
        i = min(error.args[1])
        sentence = f"the step {steps[i].model_name} waits for what comes after it; break the cycle"
        yield written.error("ensemble-tensor", sentence, *STEP, i)


def check_fit(written: Written, variant: str, models: dict[str, ModelFolder]) -> Iterator[Finding]:
    """Check that what one step writes is what the next one takes."""
    ensemble = written.config
    own = as_triton_has_it(ensemble)
    first: dict[str, Tensor] = {}
    for tensor in own["input"] + own["output"]:
        dims = tensor["reshape"].get("shape", []) if "reshape" in tensor else tensor["dims"]
        batched = ensemble.max_batch_size > 0
        first[tensor["name"]] = _tensor(tensor["data_type"], dims, batched, written.model)
    for i, step in enumerate(ensemble.ensemble_scheduling.step):
        config = config_of(step, variant, models)
        if not config:
            continue
        largest = config["max_batch_size"]
        if 0 < largest < ensemble.max_batch_size:
            yield written.error(
                "ensemble-batch",
                f"max_batch_size is {ensemble.max_batch_size}, but {step.model_name} takes "
                f"{largest} at most; write that",
                "max_batch_size",
            )
        for kind, mapping in (("input", step.input_map), ("output", step.output_map)):
            declared = {entry["name"]: entry for entry in config[kind]}
            for key in sorted(set(mapping) & set(declared)):
                entry = declared[key]
                here = _tensor(entry["data_type"], entry["dims"], largest > 0, step.model_name)
                before = first.setdefault(mapping[key], here)
                if before.data_type != here.data_type or not before.fits(here):
                    yield written.error(
                        "ensemble-fit",
                        f'the tensor "{mapping[key]}" is {before}, but {here}; '
                        + _warning_on(mapping[key], own),
                        *STEP,
                        i,
                        f"{kind}_map",
                        key,
                    )


def _warning_on(name: str, ensemble: dict) -> str:
    """Say what to do about a tensor that does not fit; Triton compares dims, not reshaped."""
    reshaped = [t["name"] for t in ensemble["input"] + ensemble["output"] if "reshape" in t]
    if name in reshaped:
        return "leave its reshape out of the ensemble, which has its steps' dims"
    return "make them the same"
