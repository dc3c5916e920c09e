"""What Triton expects of an ensemble: its steps, and the models that these name.

The rules are those of Triton 2.51.0, ``ValidateEnsembleSchedulingConfig`` in
src/model_config_utils.cc and ``ValidateEnsembleConfig`` in src/ensemble_scheduler/ensemble_utils.cc
of https://github.com/triton-inference-server/core, told all at once and with the line. Those about
the tensors between the steps are in ``ensemble_tensors.py``.
"""

from collections.abc import Iterator

from serving_kit.errors import did_you_mean
from serving_kit.repository.checks.ensemble_tensors import STEP, check_fit, check_flow, config_of
from serving_kit.repository.checks.findings import ENSEMBLE, Finding, Written
from serving_kit.repository.checks.folders import ModelFolder
from serving_kit.repository.checks.versions import served_versions

NOT_FOR_ENSEMBLES = ("instance_group", "optimization", "model_warmup")


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
            'an ensemble has platform: "ensemble" and no backend; write it that way',
            "backend" if config.backend else "ensemble_scheduling",
        )
    for field in NOT_FOR_ENSEMBLES:
        if field in [descriptor.name for descriptor, _ in config.ListFields()]:
            yield written.error(
                "ensemble-field",
                f"{field} is not for an ensemble, which does not run on a device itself; leave it "
                "out, or put it into the models of its steps",
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
        yield from check_flow(written)
    yield from check_fit(written, variant, models)


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
            yield from _check_maps(written, i, config_of(step, variant, models))


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
