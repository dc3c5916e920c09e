"""``preprocess``, ``stylize_jpeg`` and ``postprocess`` on a real server: right and bad pictures.

The rules for all kinds of pictures are test_pictures.py's and test_images.py's; here are some of
each kind, to see that the models follow these rules, and what that costs.
"""

import contextlib
import io
import os
import random
import struct
import subprocess
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import which
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import cv2
import numpy as np
import psutil
import pytest
import tritonclient.http as httpclient
from PIL import Image, ImageOps
from tritonclient.utils import InferenceServerException

from serving_kit.client.inference import stylize
from serving_kit.paths import CAT
from serving_kit.server import supervisor

MODEL = "stylize_jpeg"
#: For one request, on a busy machine: nothing may hang.
SECONDS = 60
MB = 1 << 20


def send(server, content, model=MODEL):
    """Return the status and the JPEG, or Triton's answer, for the bytes of a picture."""
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


def pixels_of(jpeg):
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)


def saved(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def photo(mode="RGB", size=(451, 300)):
    with Image.open(CAT) as cat:
        return cat.convert(mode).resize(size)


def stub_of(server, model):
    """Return the process in which Triton's python backend runs a model."""
    for pid in supervisor.processes_of(server.run_dir):
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            words = process.cmdline()
            if supervisor.STUB in words[0] and f"/{model}/" in words[1]:
                return process
    raise LookupError(model)


@contextlib.contextmanager
def memory_of(process):
    """Give a list that has, at the end, how many bytes more the process has had meanwhile."""
    status, more = Path(f"/proc/{process.pid}/status"), []
    before = process.memory_info().rss
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # the peak begins anew
    yield more
    (peak,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    more.append(int(peak.split()[1]) * 1024 - before)


@pytest.fixture(scope="module")
def cat(server):
    """The cat's bytes, and those of the answer."""
    content = CAT.read_bytes()
    status, jpeg = send(server, content)
    assert status == 200
    return content, jpeg


@pytest.fixture
def still_well(server, cat):
    """See at the end that the server is as it was: same processes, same bytes."""
    stubs = [stub_of(server, model).pid for model in ("preprocess", "postprocess")]
    yield
    assert send(server, cat[0]) == (200, cat[1])
    assert [stub_of(server, model).pid for model in ("preprocess", "postprocess")] == stubs


# --- Good pictures ----------------------------------------------------------------------------


GOOD = {
    "photo.jpg": CAT.read_bytes,
    "alpha.png": lambda: cv2.imencode(
        ".png", np.random.default_rng(0).integers(0, 256, (90, 70, 4), np.uint8)
    )[1].tobytes(),
    "picture.webp": lambda: saved(photo(), "WebP"),
    "one_pixel.png": lambda: saved(photo(size=(1, 1)), "PNG"),
    "tall.jpg": lambda: saved(photo(size=(20, 2000)), "JPEG"),
}


@pytest.mark.parametrize("name", GOOD)
def test_it_gives_the_very_file_that_the_kits_client_writes(server, tmp_path, name):
    (tmp_path / name).write_bytes(GOOD[name]())
    before = stylize(tmp_path / name, tmp_path / "result.jpg", url=server.url).before
    status, jpeg = send(server, (tmp_path / name).read_bytes())
    assert status == 200
    assert (tmp_path / "result.jpg").read_bytes() == jpeg
    assert pixels_of(jpeg).shape == before.shape


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP"])
def test_a_photo_is_turned_as_its_camera_noted(server, kind):
    """Pillow turns it by its own rules; what comes back must lie as that one does."""
    exif = Image.Exif()
    exif[0x0112] = 6
    content = saved(photo(size=(120, 80)), kind, exif=exif, quality=95)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    upright.info.clear()
    (status, jpeg), (_, expected) = send(server, content), send(server, saved(upright, "PNG"))
    assert status == 200
    assert pixels_of(jpeg).shape == (upright.height, upright.width, 3) == (120, 80, 3)
    assert cv2.absdiff(pixels_of(jpeg), pixels_of(expected)).mean() < 3


def test_a_large_photo_takes_memory_for_its_pixels_and_not_much_more(server, still_well):
    content = cv2.imencode(".jpg", np.full((6000, 8000, 3), 99, np.uint8))[1].tobytes()
    with memory_of(stub_of(server, "preprocess")) as more:
        status, jpeg = send(server, content)
    assert (status, pixels_of(jpeg).shape) == (200, (3072, 4096, 3))
    assert more[0] < 400 * MB  # 137 MB of pixels, and OpenCV's copy of them


def test_40_mb_of_noise_in_a_picture_are_painted(server, still_well):
    pixels = np.random.default_rng(0).integers(0, 256, (3700, 3700, 3), np.uint8)
    content = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 0])[1].tobytes()
    assert len(content) > 40_000_000
    with memory_of(stub_of(server, "preprocess")) as more:
        status, jpeg = send(server, content)
    assert (status, pixels_of(jpeg).shape) == (200, (3700, 3700, 3))
    assert more[0] < 400 * MB


# --- Bad pictures -----------------------------------------------------------------------------


def chunk(kind, data=b""):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_bomb(width, height):
    """Return a whole PNG that is small as long as nobody decodes it."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(height * (1 + (width + 7) // 8)), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND")


def jpeg_bomb():
    """Return a small JPEG that says of itself that it is huge."""
    content = bytearray(saved(photo(size=(64, 64)), "JPEG"))
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 9] = struct.pack(">HH", 65_500, 65_500)
    return bytes(content)


ONE_OF_THREE = "; expected a JPEG, PNG or WebP"
BAD = {
    "empty": (lambda: b"", f"the picture is empty{ONE_OF_THREE}"),
    "text": (lambda: b"not a picture", f"the picture is text{ONE_OF_THREE}"),
    "40 MB of noise": (
        lambda: random.Random(0).randbytes(40 * MB),
        f"the picture is of an unknown format{ONE_OF_THREE}",
    ),
    "truncated JPEG": (
        lambda: CAT.read_bytes()[:20_000],
        "the picture is a JPEG that was cut off; expected a complete file",
    ),
    "damaged PNG": (
        lambda: png_bomb(50, 50).replace(b"IDAT", b"IDAX"),
        "the picture is a damaged PNG: its part IDAX is unknown; save or export it again",
    ),
    "HEIC": (
        lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(1000),
        f"the picture is a HEIC{ONE_OF_THREE}: export it as JPEG on the phone",
    ),
    "JPEG whose marker hides the size": (
        lambda: jpeg_bomb().replace(b"\xff\xc0", b"\xff\x01\xff\xc0"),
        "the picture has 65500 x 65500 pixels, 4290 million; expected 52 million at most",
    ),
    "PNG without picture data": (
        lambda: png_bomb(9, 9)[:33] + chunk(b"IEND") + b"\x7f\xff\xff\xfftEXt1234",
        "the picture is a damaged PNG: it has no picture data; save or export it again",
    ),
    "PNG bomb": (
        lambda: png_bomb(10_000, 10_000),
        "the picture has 10000 x 10000 pixels, 100 million; expected 52 million at most",
    ),
    "JPEG bomb": (jpeg_bomb, "the picture has 65500 x 65500 pixels, 4290 million; expected 52"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_picture_is_refused_with_one_sentence(server, still_well, name):
    make, sentence = BAD[name]
    content = make()
    with memory_of(stub_of(server, "preprocess")) as more:
        status, answer = send(server, content)
    assert (status, sentence in answer) == (400, True), answer
    assert more[0] < 2 * len(content) + 50 * MB


def test_good_and_bad_ones_at_the_same_time(server, still_well, cat):
    bad = [make() for make, _ in BAD.values()]
    contents = [content for one in bad for content in (one, cat[0])]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda content: send(server, content), contents))
    assert [status for status, _ in answers[::2]] == [400] * len(bad)
    assert answers[1::2] == [(200, cat[1])] * len(bad)


@pytest.mark.parametrize("size", [(0, 10), (-5, 10)])
def test_postprocess_refuses_a_size_that_no_picture_has(server, size):
    image = httpclient.InferInput("IMAGE", (1, 3, 256, 256), "FP32")
    image.set_data_from_numpy(np.zeros((1, 3, 256, 256), np.float32))
    wanted = httpclient.InferInput("SIZE", (2,), "INT32")
    wanted.set_data_from_numpy(np.array(size, np.int32))
    with (
        httpclient.InferenceServerClient(server.url) as client,
        pytest.raises(InferenceServerException, match=rf"\[400\] the picture has {size[0]} x 10 "),
    ):
        client.infer("postprocess", [image, wanted])


# --- curl -------------------------------------------------------------------------------------


@pytest.mark.skipif(not which("curl") and os.environ.get("CI") != "true", reason="there is no curl")
def test_one_curl_gives_a_jpeg(server, cat, tmp_path):
    command = (
        f"curl --silent --request POST --upload-file {CAT} "
        f"--header 'Inference-Header-Content-Length: 0' http://{server.url}/v2/models/{MODEL}/infer"
        r""" | LC_ALL=C sed '1s/^{"model[^\xff]*//'"""
    )
    assert run(command) == cat[1]
    (tmp_path / "text.jpg").write_text("not a picture")
    assert run(command.replace(str(CAT), str(tmp_path / "text.jpg"))).startswith(b'{"error":')


def run(command):
    return subprocess.run(
        ["sh", "-c", command], capture_output=True, timeout=SECONDS, check=True
    ).stdout
