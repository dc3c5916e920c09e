"""The last step of ``stylize_jpeg``: the model's output becomes a JPEG.

``IMAGE``, float32 (1, 3, 256, 256), RGB, 0 to 255, and ``SIZE``, the width and height of the
picture that came in, give ``JPEG``, the bytes of a file of that size. Of a picture with a side
above 4096 it is the largest one of the same shape without such a side.
"""

import numpy as np
import pictures
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """What Triton calls."""

    def execute(self, requests):
        """Respond to each request, which holds one picture."""
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        image = pb_utils.get_input_tensor_by_name(request, "IMAGE").as_numpy()
        size = pb_utils.get_input_tensor_by_name(request, "SIZE").as_numpy()
        try:
            width, height = pictures.result_size(*size.tolist())
        except pictures.PictureError as error:
            wrong = pb_utils.TritonError(f"the picture {error}", pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse(error=wrong)
        jpeg = pictures.encode_jpeg(pictures.recover_image(image, height, width))
        return pb_utils.InferenceResponse([pb_utils.Tensor("JPEG", np.frombuffer(jpeg, np.uint8))])
