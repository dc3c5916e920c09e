"""What Triton's log says about a failed start, and about restarts after a crash."""

import re

#: How the lines look that give a cause; ``why`` is the cause, ``model`` whose it is.
CAUSES = (
    r"Error parsing text-format inference\.ModelConfig: (?P<why>.+)",
    r"Poll failed for model directory '(?P<model>[^']+)': (?P<why>.+)\"$",
    r"failed to load '(?P<model>[^']+)' version \d+: (?P<why>.+)\"$",
    r"failed to load model '(?P<model>[^']+)': (?P<why>.+)\"$",
    r"error: creating server: Invalid argument - (?P<why>.+)",
    r"(?P<why>failed to start .+ service: .+)",
    r"tritonserver: (?P<why>unrecognized option .+)",
    r"^docker: (?P<why>.+)",
)
#: Who says it, which is of no use to a learner.
WRAPPING = re.compile(r"^((Internal|Invalid argument|TritonModelException): )+")
#: Lines that every start has, and those of a shutdown.
NOISE = re.compile(
    r"\] $|pinned_memory|cuda_memory|CudaDriver|metrics\.cc|server\.cc:3\d\d\]|load all models"
)

#: What the supervisor writes, see its ``restarts.announce``.
RESTART = re.compile(r"^W supervisor: ((?:Triton|Envoy) .+); started again\b", re.M)


def causes_in(log: str) -> list[str]:
    """Pick out of Triton's log why it did not start, one sentence for each cause."""
    causes = []
    for line in log.splitlines():
        match = next(filter(None, (re.search(pattern, line) for pattern in CAUSES)), None)
        if match:
            # A Python exception follows with its traceback, on the same line.
            why = WRAPPING.sub("", match["why"].split(r"\n")[0])
            model = match.groupdict().get("model")
            cause = f"model {model}: {why}" if model else why
            if cause not in causes:
                causes.append(cause)
    return causes


def last_lines(log: str, count: int = 6) -> list[str]:
    """Return the last lines that say something: not Triton's tables, nor how it shuts down."""
    lines = [line for line in log.splitlines() if line and line[0] not in "+| \t"]
    return [line for line in lines if not NOISE.search(line)][-count:]


def restarts_in(log: str) -> list[str]:
    """Return how Triton ended before each of its restarts, one sentence for each."""
    return RESTART.findall(log)
