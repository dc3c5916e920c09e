"""Limits the memory that decoding may take, whatever a decoder makes of a file."""

import contextlib
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

#: More than the dearest picture that is taken needs; see docs/security.md.
MOST_BYTES = 1 << 30

#: The limit is the whole process's, so that one at a time may change it.
_one_at_a_time = threading.Lock()


@contextlib.contextmanager
def limited_memory() -> Iterator[None]:
    """Let the process have no more than ``MOST_BYTES`` more meanwhile; beyond, allocations fail."""
    with _one_at_a_time:
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + MOST_BYTES
        limits = [each for each in (limit, soft, hard) if each != resource.RLIM_INFINITY]
        resource.setrlimit(resource.RLIMIT_AS, (min(limits), hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
