"""Tell Prometheus which servers run on this machine: *.targets.json beside its configuration.

It lists what ``make serve`` left running, each Triton behind a gateway, and the gateway itself. Run
it again after a start or a stop; Prometheus reads the files again by itself.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from serving_kit.files import write_file
from serving_kit.server import RunningServer, running_servers
from serving_kit.server.running import RunningGateway

FOLDER = Path(__file__).parent


def write_targets(job: str, servers: Iterable[RunningServer]) -> None:
    """Write where the servers of a job have their metrics, and print it."""
    addresses = [urlsplit(server.metrics_url).netloc for server in servers]
    write_file(FOLDER / f"{job}.targets.json", json.dumps([{"targets": addresses}]))
    print(f"{job:8}", *addresses)


def main() -> None:
    """Write one file for each job of prometheus.yml."""
    servers = running_servers()
    gateways = [server for server in servers if isinstance(server, RunningGateway)]
    behind = [server for gateway in gateways for server in gateway.servers]
    write_targets("triton", [*behind, *(server for server in servers if server not in gateways)])
    write_targets("gateway", gateways)


if __name__ == "__main__":
    main()
