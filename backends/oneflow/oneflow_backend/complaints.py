"""Explains in one sentence why OneFlow gave up, and what to do.

OneFlow ends its process, or raises an error, with a check of its C++ source, as "Check failed:
idx < depth (5 vs. 3)". The source file that it names tells which operator that was.
"""

import re
import signal
from dataclasses import dataclass

#: How glog begins the line over which a process ends: level, date, time, thread, file:line].
_FATAL = re.compile(r"^F\d+ [\d:.]+ +\d+ ([\w.]+):\d+\] (.*)", re.M)
#: What the names of kernels' sources end with.
_SOURCE_END = re.compile(r"(_kernels?|_util|_op|_functor)*\.(cpp|cc|cu|cuh|h|hpp)$")
#: So much of OneFlow's text is kept.
MOST_WORDS = 2000
_COLOURS = re.compile(r"\x1b\[[\d;]*m")
_INDEX = "an id or index is outside the table that it is looked up in"
_CHECK_IDS = "check the ids before you send them"


@dataclass(frozen=True)
class Known:
    """A complaint of OneFlow's, and what it means."""

    pattern: str
    #: May use the groups of the pattern.
    sentence: str


_CRASH = "OneFlow itself crashed"
_NOW_AND_THEN = "which occasionally happens with short graphs; send the request again"
#: What glibc says of memory that such a crash has spoilt.
_SPOILT = r"double free or corruption|free\(\): |malloc\(\)|corrupted |munmap_chunk\(\)"
_MEMORY = (
    "there is not enough memory for the graph's results; free memory on this machine, serve fewer "
    "models or instances, or export the graph for smaller inputs"
)
KNOWN = (
    Known(_SPOILT, f"{_CRASH}, {_NOW_AND_THEN}"),
    Known(
        r"(\w+) not a attr name for op: broadcast_isclose_neq_nan",
        "OneFlow 0.9.0 saves the operator isclose in a form that it cannot load; write "
        "(x - y).abs() <= atol + rtol * y.abs() in the model, and save it again",
    ),
    Known(
        r"(\w+) not a attr name for op: (\w+)",
        r"OneFlow 0.9.0 saves the operator \2 in a form that it cannot load (attribute \1); "
        "write it with other operators in the model, and save it again",
    ),
    Known(
        r"inv_kernels?.*(?:singular|inversion could not be completed)",
        "a matrix cannot be inverted, because it is singular (operator inverse); send matrices "
        "that have an inverse",
    ),
    Known(
        r"gather_kernel_util.*indices\[i\] >= 0 \((-?\d+) vs",
        rf"{_INDEX}: \1 is negative (operator gather, as used by an embedding); {_CHECK_IDS}",
    ),
    Known(
        r"embedding_kernel_util.*indice >= 0 && indice < emb_size",
        f"{_INDEX} (operator embedding); {_CHECK_IDS}",
    ),
    Known(
        r"index (?:element )?(-?\d+) is out of bounds for dimension (\d+) with size (\d+)",
        rf"{_INDEX}: \1, where dimension \2 has \3 entries; {_CHECK_IDS}",
    ),
    Known(
        r"one_hot_kernel.*\((-?\d+) vs\. (-?\d+)\)",
        rf"a class is out of range: \1, where the limit is \2 (operator one_hot); {_CHECK_IDS}",
    ),
    Known(
        r"Check failed: .*prob(?:ability)? [<>]= ",
        "a probability is not between 0 and 1 (operator bernoulli); send numbers from 0 to 1",
    ),
    Known(
        r"binary_cross_entropy_kernel.*input_val",
        "a probability is not between 0 and 1 (operator binary_cross_entropy); send numbers from "
        "0 to 1",
    ),
    Known(
        r"std::bad_alloc|allocate failed|[Oo]ut of memory|[Cc]annot allocate|OUT_OF_MEMORY",
        _MEMORY,
    ),
)

KNOWN_SIGNALS = {
    4: "the CPU lacks an instruction that OneFlow uses (SIGILL); use an x86-64 CPU with AVX",
    7: "memory could not be allocated (SIGBUS); free memory on this machine or in /dev/shm",
    8: "a whole number was divided by zero (SIGFPE); check the divisors among the inputs",
    9: "it was killed from outside (SIGKILL), as the kernel does when memory runs out; free memory "
    "on this machine, or serve fewer models or instances",
    11: f"{_CRASH} (SIGSEGV), {_NOW_AND_THEN}",
    15: "it was ended from outside (SIGTERM)",
}

_KERNEL = re.compile(
    r"Cannot find the kernel matching Current OperatorConf.*?op_name: (\S+)\s+op_type_name: (\S+)"
    r"\s+DeviceType_Name: k(\S+)(.*?)(?:Error Type|$)",
    re.S,
)
_KERNEL_TYPES = re.compile(r"DataType_Name of \S+: k(\w+)")
_UNKNOWN_OPERATOR = re.compile(r"error: .*?(?:'|unregistered operation )'?oneflow\.(\w+)'")


def explain(code: int, text: str, *, running: bool) -> tuple[str, str]:
    """Say why a process ended.

    Args:
        running: whether it ran the graph then, or loaded it.
        code: its exit code; negative when a signal ended it.
        text: what it wrote to standard error.

    Returns:
        A sentence with what happened and what to do, and OneFlow's own words, which may be empty.
    """
    text = _COLOURS.sub("", text)
    words = _last_words(text, code)
    if operator := _UNKNOWN_OPERATOR.search(text):
        return (
            f"OneFlow 0.9.0 does not know the operator {operator[1]}, or not in the form that the "
            "graph uses; was the graph saved by another version? Save it again with OneFlow 0.9.0",
            words,
        )
    if sentence := _known(words):
        return sentence, words
    if fatal := _FATAL.search(text):
        return _of_source(fatal[1], running=running), words
    if -code in KNOWN_SIGNALS:
        return KNOWN_SIGNALS[-code], words
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return f"OneFlow ended its process ({how}), and its message does not explain why", words


def by_chance(code: int, text: str) -> bool:
    """Return whether a process that ended in this way may succeed if it is run again."""
    return code == -signal.SIGSEGV or (code == -signal.SIGABRT and bool(re.search(_SPOILT, text)))


def explain_error(error: Exception) -> tuple[str, str]:
    """Say why OneFlow raised an error; as ``explain``."""
    text = _COLOURS.sub("", str(error)).strip()[:MOST_WORDS]
    if kernel := _KERNEL.search(text):
        types = ", ".join(dict.fromkeys(map(str.lower, _KERNEL_TYPES.findall(kernel[4]))))
        return (
            f"OneFlow 0.9.0 has no kernel for the operator {kernel[2]} with {types} on a "
            f"{kernel[3]}; cast its inputs to float32 inside the graph, and save it again",
            text,
        )
    if isinstance(error, MemoryError) or _known(text):
        return _known(text) or _MEMORY, text
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    first = lines[0][:300] if lines else type(error).__name__
    return first, text if lines[1:] else ""


def _known(words: str) -> str:
    for known in KNOWN:
        if found := re.search(known.pattern, words, re.S):
            return found.expand(known.sentence)
    return ""


def _of_source(file: str, *, running: bool) -> str:
    source = _SOURCE_END.sub("", file)
    if running:
        return (
            f"an internal check of OneFlow failed ({source}); check whether the inputs contain "
            "values that the graph does not accept, such as ids out of range"
        )
    return (
        f"OneFlow cannot run this graph: an internal check failed ({source}), and the log has its "
        "message; write the model with other operators, and save it again"
    )


def _last_words(text: str, code: int) -> str:
    """Return the line in which OneFlow complains; the last one of an error of Python's."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    complaints = [
        line
        for line in lines
        if _FATAL.match(line) or "Check failed" in line or "error:" in line or "what():" in line
        or "terminate called" in line
        or re.match(_SPOILT, line)
    ]  # fmt: skip
    if code > 0 and not complaints:
        complaints = lines[-1:]
    return " ".join(complaints)[:MOST_WORDS]
