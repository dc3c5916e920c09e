"""The client, as far as it goes without a server."""

import subprocess
import sys

import numpy as np
import pytest

from serving_kit.client.inference import infer
from serving_kit.errors import ClientError


def test_nobody_answers():
    with pytest.raises(ClientError, match=r"does not answer at 127\.0\.0\.1:9 .*is it started"):
        infer(np.zeros((1, 3, 256, 256), np.float32), url="127.0.0.1:9")


def test_what_is_no_address_is_told():
    url = "http://127.0.0.1:8000"
    with pytest.raises(ClientError, match=f"^'{url}' is not host:port; write it like 127"):
        infer(np.zeros((1, 3, 256, 256), np.float32), url=url)


FAULTS = """
import resource, sys
import numpy as np
from serving_kit.client.inference import keep_freed_memory

def faults_of_a_request():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensor = np.ones((3, 1024, 1024), np.float32).tobytes()
    body = bytearray(b"".join([b"header", tensor]))
    body[6:]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1] == "keep":
    keep_freed_memory()
faults_of_a_request()
print(sum(faults_of_a_request() for _ in range(10)) / 10)
"""


def test_freed_memory_is_kept_for_the_next_request():
    def faults(choice: str) -> float:
        done = subprocess.run(
            [sys.executable, "-c", FAULTS, choice],
            stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        return float(done.stdout)

    assert faults("leave") > 1000  # else there is nothing to cure, and the function can go
    assert faults("keep") < 10
