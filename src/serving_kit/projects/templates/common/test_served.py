"""The served model gives what eager mode gives: python -m pytest test_served.py."""

import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from client import HERE, ask, difference, load_expected

from serving_kit.repository import read_config
from serving_kit.server import TritonServer

TOLERANCE = 1e-4
REPOSITORY = HERE / "model_repository"
ROWS = read_config(REPOSITORY / HERE.name / "config.pbtxt").max_batch_size


@pytest.fixture(scope="module")
def server():
    """Start a Triton of the tests' own, on free ports."""
    with TritonServer(REPOSITORY, mode="local") as server:
        yield server


def versions(server):
    """Return the versions that are served."""
    with httpclient.InferenceServerClient(server.url) as client:
        return client.get_model_metadata(HERE.name)["versions"]


def part(arrays, rows):
    """Return some rows of all arrays."""
    return {name: array[rows] for name, array in arrays.items()}


@pytest.mark.parametrize("triton", [httpclient, grpcclient], ids=["http", "grpc"])
def test_each_row_alone(server, triton):
    """One row a request, over both protocols, of every version that is served."""
    url = server.url if triton is httpclient else server.grpc_url
    for version in versions(server):
        inputs, outputs = load_expected(version)
        for i in range(len(inputs["INPUT_0"])):
            rows = slice(i, i + 1)
            served = ask(triton, url, part(inputs, rows), outputs, version)
            assert difference(served, part(outputs, rows)) < TOLERANCE


@pytest.mark.skipif(ROWS < 2, reason="config.pbtxt takes one row at a time")
def test_rows_together(server):
    """A request with several rows gives what each of them gives alone."""
    for version in versions(server):
        inputs, outputs = load_expected(version)
        rows = slice(0, ROWS)
        served = ask(httpclient, server.url, part(inputs, rows), outputs, version)
        assert difference(served, part(outputs, rows)) < TOLERANCE
