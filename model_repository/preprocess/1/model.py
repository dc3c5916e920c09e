"""The first step of ``stylize_jpeg``: the bytes of a picture become the model's input.

``PICTURE``, the bytes of a JPEG, PNG or WebP, gives ``IMAGE``, float32 (1, 3, 256, 256), RGB, 0
to 255, and ``SIZE``, the picture's width and height, for ``postprocess``. A bad picture gets the
status 400 and one sentence.
"""

import json

import numpy as np
import pictures
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """What Triton calls."""

    def initialize(self, args):
        """Read from config.pbtxt which height and width the model takes."""
        config = json.loads(args["model_config"])
        (dims,) = (tensor["dims"] for tensor in config["output"] if tensor["name"] == "IMAGE")
        self._height, self._width = map(int, dims[-2:])

    def execute(self, requests):
        """Respond to each request, which holds one picture."""
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        content = pb_utils.get_input_tensor_by_name(request, "PICTURE").as_numpy().tobytes()
        try:
            picture = pictures.decode(content)
        except pictures.PictureError as error:
            wrong = pb_utils.TritonError(f"the picture {error}", pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse(error=wrong)
        height, width = picture.shape[:2]
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor("IMAGE", pictures.to_model(picture, self._height, self._width)),
                pb_utils.Tensor("SIZE", np.array([width, height], np.int32)),
            ]
        )
