"""Start, find, watch and stop Triton Inference Server.

- ``triton`` has TritonServer, the one class for notebooks and commands; ``running`` is what can be
  done with a server that was started, here or elsewhere;
- ``spec`` says what is to be served and how; ``choice`` picks the way by looking at the machine;
- ``launcher`` is what the ways have in common: ``embedded``, the Triton of the Python packages,
  ``kit_image`` and ``original_image``, which run in the engine that ``docker`` asks;
- ``gateway`` is Envoy in front of several servers, ``access`` its login and TLS; ``replicated`` has
  ReplicatedServer, which starts all of them;
- ``supervisor`` is the process that owns a Triton: it ends it with its owner, starts it again after
  a crash, replaces a dead stub, and cleans up;
- ``runs`` has the folder of each run, ``registry`` the servers that outlive their owner;
- ``c_api`` is a Triton in this process, without a port;
- ``cells`` ends a server whose notebook cell is run again;
- ``ports`` finds free ports, ``triton_log`` the cause of a failed start.
"""

from serving_kit.server.access import Access
from serving_kit.server.choice import Choice, choose
from serving_kit.server.replicated import ReplicatedServer
from serving_kit.server.running import RunningServer, running_servers
from serving_kit.server.spec import ServerSpec
from serving_kit.server.triton import TritonServer
from serving_kit.server.triton_log import causes_in

__all__ = [
    "Access",
    "Choice",
    "ReplicatedServer",
    "RunningServer",
    "ServerSpec",
    "TritonServer",
    "causes_in",
    "choose",
    "running_servers",
]
