"""Start, find, watch and stop Triton Inference Server.

- ``triton`` has TritonServer, the one class for notebooks and commands;
- ``spec`` says what is to be served and how, ``choice`` picks the way by looking at the machine;
- ``embedded`` launches the Triton of the Python packages, ``docker`` the two images;
- ``supervisor`` is the process that owns a Triton: it ends it with its owner, restarts a dead stub,
  and cleans up;
- ``runs`` has the folder of each run, ``registry`` the servers that outlive their owner;
- ``ports`` finds free ports, ``triton_log`` the cause of a failed start.
"""

from serving_kit.server.triton import TritonServer, choose, running_servers
from serving_kit.server.triton_log import causes_in

__all__ = ["TritonServer", "causes_in", "choose", "running_servers"]
