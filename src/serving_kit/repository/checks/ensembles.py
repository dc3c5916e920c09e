"""What Triton expects of an ensemble: its steps, the tensors between them, and what fits.

The rules are those of Triton 2.51.0, ``ValidateEnsembleSchedulingConfig`` in
src/model_config_utils.cc and ``ValidateEnsembleConfig`` in src/ensemble_scheduler/ensemble_utils.cc
of https://github.com/triton-inference-server/core, told all at once and with the line.
"""

from collections.abc import Iterator
from typing import NamedTuple

from serving_kit.repository.checks.findings import Finding, Written, did_you_mean
from serving_kit.repository.checks.folders import ModelFolder
from serving_kit.repository.checks.rules import ENSEMBLE, completed, served_versions
from serving_kit.repository.config import as_triton_has_it

STEP = ("ensemble_scheduling", 0, "step")
NOT_FOR_ENSEMBLES = ("instance_group", "optimization", "model_warmup")


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


def check_ensemble(
    written: Written, variant: str, models: dict[str, ModelFolder]
) -> Iterator[Finding]:
    """Check one configuration of an ensemble; ``models`` are all those beside it, by name."""
    config = written.config
    if config.platform != ENSEMBLE and not config.HasField("ensemble_scheduling"):
        return
    if config.platform != ENSEMBLE or config.backend:
        yield written.error(
            "ensemble-platform",
            'an ensemble has platform: "ensemble" and no backend; write so',
            "backend" if config.backend else "ensemble_scheduling",
        )
    for field in NOT_FOR_ENSEMBLES:
        if field in [descriptor.name for descriptor, _ in config.ListFields()]:
            yield written.error(
                "ensemble-field",
                f"{field} is not for an ensemble, which runs nowhere itself; leave it out, or put "
                "it into the models of its steps",
                field,
            )
    if not config.ensemble_scheduling.step:
        yield written.error(
            "ensemble-step",
            "an ensemble needs ensemble_scheduling { step [ ... ] }; name its models there",
            "ensemble_scheduling",
        )
        return
    incomplete = [*_check_whole(written)]
    yield from incomplete
    yield from _check_steps(written, variant, models)
    if not incomplete:
        yield from _check_flow(written)
    yield from _check_fit(written, variant, models)


def _check_whole(written: Written) -> Iterator[Finding]:
    """Check that each step has its fields."""
    for i, step in enumerate(written.config.ensemble_scheduling.step):
        for field in ("model_name", "input_map", "output_map"):
            if not getattr(step, field):
                sentence = f"step {i + 1} has no {field}, which every step needs; write it"
                yield written.error("ensemble-step", sentence, *STEP, i)


def _check_steps(
    written: Written, variant: str, models: dict[str, ModelFolder]
) -> Iterator[Finding]:
    """Check that each step's model is there, and has the tensors that the step names."""
    for i, step in enumerate(written.config.ensemble_scheduling.step):
        if not step.model_name:
            continue
        others = [name for name in models if name != written.model]
        if step.model_name not in models:
            yield written.error(
                "ensemble-model",
                f'there is no model "{step.model_name}" in the repository; '
                f"{did_you_mean(step.model_name, others)}",
                *STEP,
                i,
                "model_name",
            )
            continue
        if _leads_to(step.model_name, written.model, variant, models):
            yield written.error(
                "ensemble-model",
                f'the step "{step.model_name}" is, or leads to, this ensemble again; take it out',
                *STEP,
                i,
                "model_name",
            )
            continue
        step_model = models[step.model_name].config_beside(variant)
        if step_model:
            yield from _check_version(written, i, step_model, models[step.model_name])
            yield from _check_maps(written, i, _config_of(step, variant, models))


def _leads_to(name: str, target: str, variant: str, models: dict[str, ModelFolder]) -> bool:
    """Tell whether an ensemble's steps, and theirs, come to a model."""
    seen, waiting = set(), [name]
    while waiting:
        name = waiting.pop()
        if name == target:
            return True
        written = models[name].config_beside(variant) if name in models else None
        if written and name not in seen:
            waiting += [step.model_name for step in written.config.ensemble_scheduling.step]
        seen.add(name)
    return False


def _check_version(
    written: Written, i: int, step_model: Written, folder: ModelFolder
) -> Iterator[Finding]:
    wanted = written.config.ensemble_scheduling.step[i].model_version
    served = served_versions(step_model.config, folder.versions)
    if wanted != -1 and served and wanted not in served:
        yield written.error(
            "ensemble-version",
            f"the step wants version {wanted} of {folder.name}, which serves "
            f"{', '.join(map(str, served))}; write model_version: -1 for the newest",
            *STEP,
            i,
            "model_version",
        )


def _config_of(step, variant: str, models: dict[str, ModelFolder]) -> dict | None:
    """Return the configuration of a step's model, completed as the backend does it."""
    folder = models.get(step.model_name)
    written = folder and folder.config_beside(variant)
    if not written:
        return None
    return completed(
        written, folder, max(served_versions(written.config, folder.versions), default=0)
    )


def _check_maps(written: Written, i: int, config: dict) -> Iterator[Finding]:
    """Check that a step names tensors that its model has, and all inputs that it needs."""
    step = written.config.ensemble_scheduling.step[i]
    for kind, mapping in (("input", step.input_map), ("output", step.output_map)):
        names = [tensor["name"] for tensor in config[kind]]
        if not names:  # a python model may tell Triton only when it is loaded
            continue
        unknown = [key for key in mapping if key not in names]
        for key in unknown:
            sentence = f'{step.model_name} has no {kind} "{key}"; {did_you_mean(key, names)}'
            yield written.error("ensemble-tensor", sentence, *STEP, i, f"{kind}_map", key)
        needed = [t["name"] for t in config[kind] if kind == "input" and not t.get("optional")]
        for name in needed:
            if name and mapping and not unknown and name not in mapping:
                sentence = (
                    f'the step leaves out the input "{name}" of {step.model_name}; add '
                    f'input_map {{ key: "{name}" value: "..." }}'
                )
                yield written.error("ensemble-tensor", sentence, *STEP, i)


def _check_flow(written: Written) -> Iterator[Finding]:
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
                    f'the tensor "{name}" is used by no step and is no output of the ensemble; '
                    "leave it out of output_map, or use it"
                )
                yield written.error("ensemble-tensor", sentence, *STEP, i, "output_map", key)


def _check_order(written: Written, ready: set[str], wrote: dict[str, int]) -> Iterator[Finding]:
    """Find steps that wait for each other."""
    steps = list(enumerate(written.config.ensemble_scheduling.step))
    ready = set(ready)
    while steps:
        can_run = [
            entry
            for entry in steps
            if all(name in ready or name not in wrote for name in entry[1].input_map.values())
        ]
        if not can_run:
            i, step = steps[0]
            sentence = f"the step {step.model_name} waits for what comes after it; break the circle"
            yield written.error("ensemble-tensor", sentence, *STEP, i)
            return
        steps = [entry for entry in steps if entry not in can_run]
        ready |= {name for _, step in can_run for name in step.output_map.values()}


def _check_fit(written: Written, variant: str, models: dict[str, ModelFolder]) -> Iterator[Finding]:
    """Check that what one step writes is what the next one takes."""
    ensemble = written.config
    own = as_triton_has_it(ensemble)
    first: dict[str, Tensor] = {}
    for tensor in own["input"] + own["output"]:
        dims = tensor["reshape"].get("shape", []) if "reshape" in tensor else tensor["dims"]
        batched = ensemble.max_batch_size > 0
        first[tensor["name"]] = _tensor(tensor["data_type"], dims, batched, written.model)
    for i, step in enumerate(ensemble.ensemble_scheduling.step):
        config = _config_of(step, variant, models)
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
                        f'the tensor "{mapping[key]}" is {before}, but {here}; make them the same',
                        *STEP,
                        i,
                        f"{kind}_map",
                        key,
                    )
