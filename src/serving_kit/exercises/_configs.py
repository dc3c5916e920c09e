"""Reading the configurations, or lines of one, that a learner wrote."""

from dataclasses import dataclass

from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig, ModelInstanceGroup

from oneflow_backend.graph_folder import TensorSpec
from serving_kit.errors import ConfigError
from serving_kit.exercises._answers import NotYet
from serving_kit.language import _
from serving_kit.repository.config import CONFIG
from serving_kit.repository.config_text import parse_config


@dataclass(frozen=True)
class Wanted:
    """What a configuration is to say: the model's name, rows a run, instances, and its graph."""

    name: str
    rows: int
    instances: int
    input: tuple[TensorSpec, ...]
    output: tuple[TensorSpec, ...]


def parsed(text: str) -> ModelConfig:
    """Return a configuration as Triton would read it.

    Raises:
        NotYet: Triton could not read it.
    """
    try:
        return parse_config(text, CONFIG)
    except ConfigError as error:
        told = (
            _("Triton could not read this in line {line}: {sentence}.")
            if error.line
            else _("Triton could not read this: {sentence}.")
        )
        raise NotYet(told.format(line=error.line, sentence=error.sentence)) from None


def check_config(text: str, wanted: Wanted) -> None:
    """Compare a learner's configuration with what it is to say.

    Raises:
        NotYet: it says something else.
    """
    config = parsed(text)
    _check_head(config, wanted)
    _check_tensors("input", config.input, wanted.input)
    _check_tensors("output", config.output, wanted.output)
    _check_instances(config, wanted.instances)


def _check_head(config: ModelConfig, wanted: Wanted) -> None:
    if config.name != wanted.name:
        raise NotYet(
            _('the name is "{found}", but the model\'s folder is called {expected}.').format(
                found=config.name, expected=wanted.name
            )
        )
    if config.backend != "oneflow":
        raise NotYet(
            _('the backend is "{backend}"; which one runs saved OneFlow graphs?').format(
                backend=config.backend
            )
        )
    if config.max_batch_size != wanted.rows:
        raise NotYet(
            _("max_batch_size is {rows}; how many may one run take?").format(
                rows=config.max_batch_size
            )
        )


def _check_tensors(kind: str, tensors: list, specs: tuple[TensorSpec, ...]) -> None:
    if len(tensors) != len(specs):
        told = {
            "input": _("the graph has {count} input, and the configuration {found}."),
            "inputs": _("the graph has {count} inputs, and the configuration {found}."),
            "output": _("the graph has {count} output, and the configuration {found}."),
            "outputs": _("the graph has {count} outputs, and the configuration {found}."),
        }[kind if len(specs) == 1 else f"{kind}s"]
        raise NotYet(told.format(count=len(specs), found=len(tensors)))
    by_name = {tensor.name: tensor for tensor in tensors}
    for i, spec in enumerate(specs):
        name = f"{kind.upper()}_{i}"
        if name not in by_name:
            told = {
                "input": _(
                    "the inputs are called {names}; a graph's tensors have no names, so how does "
                    "the backend number them?"
                ),
                "output": _(
                    "the outputs are called {names}; a graph's tensors have no names, so how does "
                    "the backend number them?"
                ),
            }[kind]
            raise NotYet(told.format(names=", ".join(sorted(by_name))))
        tensor, dims = by_name[name], list(by_name[name].dims)
        if tensor.data_type != DataType.Value(spec.triton_type):
            raise NotYet(
                _("the data_type of {name} is not what Triton calls {dtype}.").format(
                    name=name, dtype=spec.dtype
                )
            )
        if dims == list(spec.shape):
            raise NotYet(
                _("{name} has dims {dims}: who puts the batch in front, you or Triton?").format(
                    name=name, dims=dims
                )
            )
        if dims != list(spec.shape[1:]):
            shape = " x ".join(map(str, spec.shape))
            raise NotYet(
                _("{name} has dims {dims}, but was traced as {shape}.").format(
                    name=name, dims=dims, shape=shape
                )
            )


def _check_instances(config: ModelConfig, instances: int) -> None:
    groups = config.instance_group
    if not groups:
        raise NotYet(_("all tensors are right, but where does the model run, and how many of it?"))
    for group in groups:
        if group.kind != ModelInstanceGroup.KIND_CPU:
            raise NotYet(
                _("all tensors are right, but is there an instance that is not on the CPU?")
            )
        if group.gpus:
            raise NotYet(_("all tensors are right; gpus has no place in a group of KIND_CPU."))
    # Triton makes one instance of a group without a count.
    count = sum(group.count or 1 for group in groups)
    if count != instances:
        raise NotYet(
            _(
                "all tensors are right, but this makes {count} of the model; how many instances "
                "are asked for?"
            ).format(count=count)
        )
