"""A served model, made up, on which a learner's roll-out of a new version is tried."""

from dataclasses import dataclass, field

from tritonclient.utils import InferenceServerException

from serving_kit.language import _

OLD, NEW = "1", "2"
#: Requests to each version while the roll-out waits.
REQUESTS = 50
#: What the old version takes for a request today; it was slower in former times.
SECONDS = 0.05


@dataclass
class Model:
    """One trial: how the new version behaves, and what the roll-out did.

    Args:
        about: what the trial is about, for the learner.
        kept: the version that is to be served at the end.
        loads: whether the new version can be loaded.
        failures: how many of the new version's requests fail.
        seconds: what the new version takes for a request.
        warm_up: what its warm-up took, which Triton counts like a request.
    """

    about: str
    kept: str
    loads: bool = True
    failures: int = 0
    seconds: float = SECONDS
    warm_up: float = 0.3
    served: tuple[str, ...] = (OLD,)
    #: Whether clients have used the new version.
    tried: bool = False
    #: What a request met that found its version missing.
    missing: str = ""
    _counted: dict[str, list] = field(default_factory=lambda: {OLD: [100_000, 12, 20_000.0]})

    def serve(self, *versions: str) -> None:
        """Serve these versions and no others."""
        for version in versions:
            if version not in (OLD, NEW):
                raise InferenceServerException(f"there is no version {version!r}")
        if NEW in versions and not self.loads:
            raise InferenceServerException(f"version {NEW} is at UNAVAILABLE state")
        if not versions:
            self.missing = _("no version was served")
        elif OLD not in versions and not self.tried:
            self.missing = _(
                "version {old} was taken away before clients had tried version {new}"
            ).format(old=OLD, new=NEW)
        self.served = versions
        if NEW in versions:
            self._counted.setdefault(NEW, [1, 0, self.warm_up])

    def count(self, version: str) -> tuple[int, int, float]:
        """Return requests, failures and the seconds of all requests since the start."""
        if version not in self._counted:
            raise InferenceServerException(f"version {version} has no counters: it is not served")
        return tuple(self._counted[version])

    def wait(self) -> None:
        """Let clients send requests to what is served."""
        for version in self.served:
            failures, seconds = (self.failures, self.seconds) if version == NEW else (0, SECONDS)
            counted = self._counted[version]
            counted[:] = (
                counted[0] + REQUESTS, counted[1] + failures, counted[2] + REQUESTS * seconds
            )  # fmt: skip
        self.tried = self.tried or NEW in self.served


def trials() -> list[Model]:
    """Return what a roll-out has to cope with."""
    return [
        Model(_("the new version is as good as the old one"), kept=NEW),
        Model(_("the new version cannot be loaded"), kept=OLD, loads=False),
        Model(_("3 of 50 requests to the new version fail"), kept=OLD, failures=3),
        Model(_("the new version takes three times as long as the old one does now"), kept=OLD,
              seconds=3 * SECONDS),
        Model(_("the new version takes 1.8 times as long as the old one"), kept=NEW,
              seconds=1.8 * SECONDS),
        Model(_("only the warm-up of the new version was slow"), kept=NEW, warm_up=9.0),
    ]  # fmt: skip
