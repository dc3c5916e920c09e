"""Send the examples to the served model, and compare the responses with eager mode.

python client.py [--http HOST:PORT] [--grpc HOST:PORT] [--version VERSION]

It needs tritonclient, NumPy and expected/, and nothing else of this project.
"""

import argparse
import contextlib
from pathlib import Path

import numpy as np
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from tritonclient.utils import np_to_triton_dtype

HERE = Path(__file__).resolve().parent
NAME = HERE.name


def ask(triton, url, inputs, outputs, version=""):
    """Send one request; return the outputs as arrays, by name.

    ``triton`` is the module ``httpclient`` or ``grpcclient``; both have the same names in them.
    """
    tensors = []
    for name, array in inputs.items():
        kind = np_to_triton_dtype(array.dtype)
        tensors.append(triton.InferInput(name, array.shape, kind).set_data_from_numpy(array))
    with contextlib.closing(triton.InferenceServerClient(url)) as client:
        response = client.infer(NAME, tensors, model_version=version)
    return {name: response.as_numpy(name) for name in outputs}


def load_expected(version):
    """Return inputs and outputs of eager mode, as export.py saved them."""
    with np.load(HERE / "expected" / f"{version}.npz") as file:
        arrays = dict(file)
    inputs = {name: array for name, array in arrays.items() if name.startswith("INPUT")}
    return inputs, {name: array for name, array in arrays.items() if name.startswith("OUTPUT")}


def difference(served, expected):
    """Return how far two dicts of arrays are apart, at most.

    A score a row has the shape (n,) in eager mode, and (n, 1) in Triton.
    """
    return max(
        float(abs(served[name].reshape(array.shape) - array).max(initial=0))
        for name, array in expected.items()
    )


def main():
    """Send the rows one by one, over HTTP and over gRPC, and print the differences."""
    parser = argparse.ArgumentParser(description="Ask the served model.")
    parser.add_argument("--http", default="127.0.0.1:8000")
    parser.add_argument("--grpc", default="127.0.0.1:8001")
    parser.add_argument("--version", default="1")
    options = parser.parse_args()
    inputs, outputs = load_expected(options.version)
    rows = len(inputs["INPUT_0"])
    for triton, url in ((httpclient, options.http), (grpcclient, options.grpc)):
        largest = 0.0
        for i in range(rows):
            row = {name: array[i : i + 1] for name, array in inputs.items()}
            expected = {name: array[i : i + 1] for name, array in outputs.items()}
            served = ask(triton, url, row, outputs, options.version)
            largest = max(largest, difference(served, expected))
        protocol = "HTTP" if triton is httpclient else "gRPC"
        print(f"{protocol}: {rows} rows, served and eager differ by at most {largest:.1e}")


if __name__ == "__main__":
    main()
