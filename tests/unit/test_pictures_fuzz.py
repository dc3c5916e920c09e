"""2,000 damaged picture files: each is decoded to the size that was checked, or refused."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from serving_kit.client.pictures.memory import MOST_BYTES

PROGRAM = Path(__file__).parents[1] / "fuzz_pictures.py"
FILES = 2000
#: For all of them on a busy machine, and of the processor for one.
SECONDS, SECONDS_A_FILE = 300, 10
#: Beside the decoder's memory: copies of files of some kB, and what the process has at the time.
MARGIN = 50_000_000


@pytest.mark.long
def test_damaged_files_are_decoded_as_checked_or_refused(tmp_path):
    report = tmp_path / "report.json"
    done = subprocess.run(
        [sys.executable, PROGRAM, "0", str(FILES), report],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"file {report.read_text()}: {done.stderr[-3000:]}"
    found = json.loads(report.read_text())
    assert found["decoded"] + found["refused"] == FILES
    assert found["decoded"] > FILES / 10 and found["refused"] > FILES / 10
    assert found["most_bytes"] < MOST_BYTES + MARGIN
    assert found["most_seconds"] < SECONDS_A_FILE
    assert all(
        sentence.startswith(("is ", "has ", "cannot be ")) for sentence in found["sentences"]
    )
