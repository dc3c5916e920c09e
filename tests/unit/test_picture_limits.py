"""What OpenCV may take at most, wherever it decodes."""

import subprocess
import sys

import pytest

from serving_kit.paths import ROOT

LIMITED = """
import resource
import cv2, numpy as np
from serving_kit.client.pictures import PictureError, decode, memory
content = cv2.imencode(".png", np.full((4000, 4000, 3), 9, np.uint8))[1].tobytes()
before = resource.getrlimit(resource.RLIMIT_AS)
assert decode(content).shape == (4000, 4000, 3)
memory.MOST_BYTES = 40_000_000  # 48 are needed
try:
    decode(content)
except PictureError as error:
    print(error)
assert resource.getrlimit(resource.RLIMIT_AS) == before
"""


def test_decoding_takes_no_more_memory_than_its_limit():
    """In a process that has no memory in store: what a program freed, it may take again."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("cannot be decoded; save or export it again\n", "")


WHERE_OPENCV_DECODES = {
    "preprocess": "sys.path.insert(0, 'model_repository/preprocess/1'); import pictures",
    "postprocess": "sys.path.insert(0, 'model_repository/postprocess/1'); import pictures",
    "the kit": "import serving_kit.client.images",
    "the commands": "import serving_kit.cli, serving_kit.client",
    "the demo": "sys.path.insert(0, 'demo.zip-builder/files'); import infer, painter",
}


@pytest.mark.parametrize("where", WHERE_OPENCV_DECODES)
def test_opencv_itself_has_the_same_limits(where):
    """It reads them when it is imported: each in a process of its own."""
    code = (
        f"import sys, struct, zlib; {WHERE_OPENCV_DECODES[where]}; import cv2, numpy as np\n"
        "for shape in ((52_001, 1000), (1, 65_501), (65_501, 1)):\n"
        "    png = cv2.imencode('.png', np.zeros(shape, np.uint8))[1]\n"
        "    try: cv2.imdecode(png, cv2.IMREAD_UNCHANGED)\n"
        "    except cv2.error as error: assert 'CV_IO_MAX_IMAGE' in str(error)\n"
        "    else: sys.exit(f'{shape} is taken')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
