"""Send pictures to a running Triton: tritonclient, and pictures in and out of the model.

- ``inference`` sends requests: ``infer`` for arrays, ``stylize`` for picture files;
- ``images`` reads, writes and scales pictures; ``pictures``, a link into the model repository, are
  the rules that the models ``preprocess`` and ``postprocess`` share with it;
- ``display`` shows pictures and plots in a notebook;
- ``uploads`` checks pictures from strangers before they are decoded;
- ``perf_analyzer`` puts load on a model.
"""

from serving_kit.client.display import show, show_figure
from serving_kit.client.images import (
    contact_sheet,
    decode_image,
    load_image,
    read_image,
    recover_image,
    resize,
    to_model,
    write_image,
)
from serving_kit.client.inference import infer, stylize
from serving_kit.client.perf_analyzer import analyze

__all__ = [
    "analyze",
    "contact_sheet",
    "decode_image",
    "infer",
    "load_image",
    "read_image",
    "recover_image",
    "resize",
    "show",
    "show_figure",
    "stylize",
    "to_model",
    "write_image",
]
