"""A simulated machine on which Triton and a web page start, become ready, and end."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from serving_kit.exercises._answers import NotYet, call
from serving_kit.language import _

#: How long Triton may take to become ready, and how much later is still in time.
READY_SECONDS, SLACK = 60, 5
#: More looks than this without a sleep, or with none worth the name, keep a core busy.
MAX_LOOKS = 100
SHORTEST_SLEEP = 0.01
SIGTERM_CODE = -15


@dataclass
class Machine:
    """Triton, a page, and a clock that only ``sleep`` and ``wait`` move.

    Attributes:
        ready: seconds after which Triton's models are ready.
        triton_ends, page_ends: seconds after which each ends by itself.
    """

    ready: float = math.inf
    triton_ends: float = math.inf
    page_ends: float = math.inf
    now: float = 0.0
    looks: int = 0
    started: dict[str, "Process"] = field(default_factory=dict)

    def watch(self, case: str, run: Callable) -> object:
        """Let a learner's function run the two; return what it returned.

        Raises:
            NotYet: it did not run them as asked.
        """
        try:
            code = call(
                run,
                lambda: self._start("Triton", self.triton_ends),
                self._start_page,
                self._is_ready,
                self._sleep,
            )
            self._check_end()
        except Wrong as wrong:
            raise NotYet(_("when {case}, {wrong}").format(case=case, wrong=wrong)) from None
        return code

    def _check_end(self) -> None:
        if "Triton" not in self.started:
            raise Wrong(_("Triton is never started."))
        for name, process in self.started.items():
            if process.terminated and not process.waited:
                raise Wrong(
                    _("nobody waits for {name} after terminate(): it still runs.").format(name=name)
                )
            if process.is_running():
                raise Wrong(_("{name} is left running.").format(name=name))
        ready = self.ready < min(self.triton_ends, READY_SECONDS)
        if ready and _("the page") not in self.started:
            raise Wrong(_("the page is never started."))
        end = min(self.triton_ends, self.page_ends if ready else READY_SECONDS)
        if self.now < end:
            raise Wrong(
                _("your function ends both after {now:g} s, while all is well.").format(
                    now=self.now
                )
            )
        if self.now > end + SLACK:
            raise Wrong(
                _("your function returns after {now:g} s; {end:g} s is expected.").format(
                    now=self.now, end=end
                )
            )

    def _start(self, name: str, ends: float) -> "Process":
        if name in self.started:
            raise Wrong(_("{name} is started twice.").format(name=name))
        self.started[name] = Process(self, name, ends)
        return self.started[name]

    def _start_page(self) -> "Process":
        if not self._is_ready():
            raise Wrong(
                _("the page starts at {now:g} s, and Triton is not ready.").format(now=self.now)
            )
        return self._start(_("the page"), self.page_ends)

    def _is_ready(self) -> bool:
        self.look()
        triton = self.started.get("Triton")
        return bool(triton) and triton.is_running() and self.now >= self.ready

    def _sleep(self, seconds: float) -> None:
        self.now += seconds
        if seconds >= SHORTEST_SLEEP:
            self.looks = 0
        if self.now > 10 * READY_SECONDS:
            raise Wrong(_("your function goes on forever."))

    def look(self) -> None:
        """Count a look at something that can change only while the clock moves."""
        self.looks += 1
        if self.looks > MAX_LOOKS:
            raise Wrong(_("your function looks again and again without a sleep."))


class Wrong(BaseException):
    """What a learner's function does wrong; no ``except Exception`` of its own catches it."""


@dataclass
class Process:
    """What ``subprocess.Popen`` would return."""

    machine: Machine
    name: str
    ends: float
    terminated: bool = False
    waited: bool = False

    def is_running(self) -> bool:
        """Tell whether it runs."""
        return self.machine.now < self.ends

    def poll(self) -> int | None:
        """Return its exit code; None while it runs."""
        self.machine.look()
        return None if self.is_running() else self._code()

    def terminate(self) -> None:
        """End it a moment later."""
        if self.is_running():
            self.terminated = True
            self.ends = self.machine.now + 1

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended; the clock moves on until then."""
        if self.ends == math.inf:
            dead = [
                _("{name} has ended at {ends:g} s").format(name=other.name, ends=other.ends)
                for other in self.machine.started.values()
                if other.ends < math.inf
            ]
            reason = dead[0] if dead else _("nothing will end it")
            raise Wrong(
                _("your function waits for {name} forever, although {reason}.").format(
                    name=self.name, reason=reason
                )
            )
        self.machine.now = max(self.machine.now, self.ends)
        self.waited = True
        return self._code()

    def _code(self) -> int:
        return SIGTERM_CODE if self.terminated else 1
