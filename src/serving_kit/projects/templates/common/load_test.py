"""Put load on the running server: python load_test.py [--grpc HOST:PORT].

The measurements are kept in load_test.json, by the settings that the server had.
"""

import argparse
import contextlib
import json
from pathlib import Path

import tritonclient.grpc as grpcclient
from client import HERE, NAME, load_expected

from serving_kit.client import analyze
from serving_kit.errors import ClientError
from serving_kit.projects import settings_of

REPORT = Path(HERE, "load_test.json")
AT_ONCE = (1, 5, 9)
#: Of one of the three windows that are measured. Take 5000 where the numbers have to be good.
MILLISECONDS = 300
MOST_MILLISECONDS = 30_000


def measure(grpc_url):
    """Measure with 1, 5 and 9 requests at once; return the settings and one Load for each."""
    with contextlib.closing(grpcclient.InferenceServerClient(grpc_url)) as client:
        settings = settings_of(client.get_model_config(NAME).config)
    inputs, _ = load_expected(1)
    loads = analyze_in_windows([array[0] for array in inputs.values()], grpc_url, MILLISECONDS)
    report = json.loads(REPORT.read_text()) if REPORT.exists() else {}
    report[settings] = [vars(load) for load in loads]
    REPORT.write_text(json.dumps(report, indent=2) + "\n")
    return settings, loads


def analyze_in_windows(row, grpc_url, window):
    """Measure; take longer windows if no response came within one, as of a slow model."""
    options = "--concurrency-range=1:9:4", f"--measurement-interval={window}"
    try:
        loads = analyze(NAME, row, grpc_url, *options)
    except ClientError as error:
        if "time window" not in str(error) or window > MOST_MILLISECONDS:
            raise
        loads = []
    if len(loads) < len(AT_ONCE) and window <= MOST_MILLISECONDS:
        return analyze_in_windows(row, grpc_url, 4 * window)
    return loads


def main():
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description="Put load on the served model.")
    parser.add_argument("--grpc", default="127.0.0.1:8001")
    settings, loads = measure(parser.parse_args().grpc)
    print(settings)
    print("at once  rows/s   p50 ms   p95 ms")
    for load in loads:
        print(f"{load.concurrency:7}{load.rate:8.0f}{load.p50:9.1f}{load.p95:9.1f}")


if __name__ == "__main__":
    main()
