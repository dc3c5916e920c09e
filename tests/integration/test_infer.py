"""infer.py of demo.zip, and the client below it, with a real Triton."""

import importlib
import threading

import cv2
import numpy as np
import pytest

from serving_kit.client.images import read_image, recover_image, to_model
from serving_kit.client.inference import DEFAULT_URLS
from serving_kit.client.inference import infer as ask
from serving_kit.errors import ClientError, NoAnswerError
from serving_kit.paths import CAT, ROOT
from serving_kit.stylenet.styles import SIZE, STYLES

FILES = ROOT / "demo.zip-builder" / "files"


@pytest.fixture
def infer(monkeypatch):
    monkeypatch.syspath_prepend(FILES)
    return importlib.import_module("infer")


@pytest.fixture(params=["http", "grpc"])
def service(request, server):
    """A protocol, and the address of Triton's service for it."""
    return {
        "protocol": request.param,
        "url": getattr(server, "grpc_url" if request.param == "grpc" else "url"),
    }


def test_a_style_and_a_blend(infer, service, tmp_path):
    """As the model answers to rows made by hand; its own answers are test_backend.py's."""
    photo = read_image(CAT)
    rows = np.zeros((2, len(STYLES)), np.float32)
    rows[0, STYLES.index("red_ember")] = 1
    rows[1, [STYLES.index("starry_night"), STYLES.index("red_ember")]] = 0.7, 0.3
    images = to_model(photo, SIZE, SIZE).repeat(2, axis=0)
    painted = ask(images, rows, model="multi_style", **service)
    blend = {"starry_night": 0.7, "red_ember": 0.3}
    for row, style in zip(painted, ("red_ember", blend), strict=True):
        infer.stylize(CAT, tmp_path / "painted.png", style, **service)
        expected = recover_image(row[None], *photo.shape[:2])
        assert cv2.absdiff(read_image(tmp_path / "painted.png"), expected).max() <= 1
    assert np.abs(painted[0] - painted[1]).mean() > 5


def test_the_command(infer, service, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(DEFAULT_URLS, service["protocol"], service["url"])
    assert infer.main(["--image", str(CAT), "--protocol", service["protocol"]]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("result.jpg: 451 x 300 pixels, painted in ") and said.err == ""
    assert read_image("result.jpg").shape == (300, 451, 3)


def test_a_request_that_triton_refuses(service):
    with pytest.raises(ClientError, match=r"refused the request: .*unexpected shape") as caught:
        ask(np.zeros((1, 3, 8, 8), np.float32), **service)
    assert not isinstance(caught.value, NoAnswerError)


def test_a_model_that_is_not_there_at_the_moment(service):
    with pytest.raises(NoAnswerError, match="does not serve painter at the moment"):
        ask(np.zeros((1, 3, 8, 8), np.float32), model="painter", **service)


def test_the_wrong_service(infer, service, server, tmp_path):
    other = server.grpc_url if service["protocol"] == "http" else server.url
    with pytest.raises(NoAnswerError, match=f"Triton does not respond at {other}"):
        infer.stylize(CAT, tmp_path / "x.png", url=other, protocol=service["protocol"])


def test_many_threads_at_once(infer, service, tmp_path):
    """A page calls stylize from several threads: each has a client of its own."""
    files = [tmp_path / f"{i}.png" for i in range(6)]
    threads = [
        threading.Thread(target=infer.stylize, args=(CAT, file), kwargs=service) for file in files
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    pictures = [read_image(file) for file in files]
    assert all(np.array_equal(picture, pictures[0]) for picture in pictures)
