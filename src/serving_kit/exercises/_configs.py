"""Reading the configurations, or lines of one, that a learner wrote."""

from tritonclient.grpc.model_config_pb2 import ModelConfig

from serving_kit.errors import ConfigError
from serving_kit.exercises._answers import NotYet
from serving_kit.language import _
from serving_kit.repository.config import CONFIG
from serving_kit.repository.config_text import parse_config


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
