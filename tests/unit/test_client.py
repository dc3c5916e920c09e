"""The client, as far as it goes without a server."""

import sys

import numpy as np
import pytest
from tritonclient.http import _client

from serving_kit.client import infer
from serving_kit.errors import ClientError


def test_ctrl_c_while_the_client_is_made_is_only_that(monkeypatch):
    said = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(_client, "URL", interrupt)
    with pytest.raises(KeyboardInterrupt):
        infer(np.zeros((1, 3, 256, 256), np.float32))
    assert said == []


def test_nobody_answers():
    with pytest.raises(ClientError, match=r"does not answer at 127\.0\.0\.1:9 .*is it started"):
        infer(np.zeros((1, 3, 256, 256), np.float32), url="127.0.0.1:9")
