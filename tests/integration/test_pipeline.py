"""``preprocess``, ``stylize_jpeg`` and ``postprocess`` on a real server: right and bad pictures."""

from urllib.error import HTTPError
from urllib.request import Request, urlopen

import cv2
import numpy as np
import pytest

from serving_kit.client import stylize
from serving_kit.paths import CAT

MODEL = "stylize_jpeg"
SECONDS = 60


def send(server, content, model=MODEL):
    """Return the status and the JPEG, or Triton's sentence, for the bytes of a picture."""
    request = Request(
        f"http://{server.url}/v2/models/{model}/infer",
        content,
        {"Inference-Header-Content-Length": "0", "Content-Type": "application/octet-stream"},
    )
    try:
        with urlopen(request, timeout=SECONDS) as answer:
            start = int(answer.headers["Inference-Header-Content-Length"])
            return answer.status, answer.read()[start:]
    except HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture(scope="module")
def cat(server):
    """The cat's bytes, and those of the answer."""
    content = CAT.read_bytes()
    status, jpeg = send(server, content)
    assert status == 200
    return content, jpeg


def test_a_jpeg_gives_the_very_file_that_the_kits_client_writes(server, cat, tmp_path):
    stylize(CAT, tmp_path / "result.jpg", url=server.url)
    assert (tmp_path / "result.jpg").read_bytes() == cat[1]


def test_text_is_refused(server):
    status, sentence = send(server, b"not a picture")
    assert status == 400
    assert "the picture is text; expected a JPEG, PNG or WebP" in sentence


def test_the_answer_has_the_size_of_the_picture(server):
    tall = cv2.imencode(".png", np.full((300, 20, 3), 99, np.uint8))[1].tobytes()
    status, jpeg = send(server, tall)
    assert status == 200
    assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape == (300, 20, 3)
