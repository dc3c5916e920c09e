"""What a check found, and how it is shown."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tritonclient.grpc.model_config_pb2 import ModelConfig

Severity = Literal["error", "warning"]

#: The platform of a model that chains others.
ENSEMBLE = "ensemble"


@dataclass(frozen=True)
class Finding:
    """One mistake, and how to fix it."""

    #: An "error" keeps Triton from starting or the model from loading; with a "warning" it loads.
    severity: Severity
    #: The kind of mistake, for programs: ``backend-unknown`` for example.
    code: str
    file: Path
    #: Counted from 1; None where no line is to blame.
    line: int | None
    #: What was found, what was expected, what to do.
    message: str
    #: The model's folder name; None where the repository itself is meant.
    model: str | None

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else str(self.file)
        line = f"{self.severity:7}  {place}  {self.message}"
        # Names of files may hold what would break the line, or cannot be printed at all.
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


@dataclass(frozen=True)
class Written:
    """A configuration as it is written in a file, with the line of each of its fields."""

    model: str
    file: Path
    config: ModelConfig
    lines: dict[tuple, int]

    def line(self, *place: str | int) -> int | None:
        """Return the line of a field, ``("input", 1, "dims")``, or of what surrounds it."""
        for end in range(len(place), 0, -1):
            path = place[:end] if isinstance(place[end - 1], int) else (*place[:end], 0)
            for key in (path, place[:end]):
                if key in self.lines:
                    return self.lines[key]
        return None

    def error(self, code: str, message: str, *place: str | int) -> Finding:
        """Return an error about a field."""
        return Finding("error", code, self.file, self.line(*place), message, self.model)

    def warning(self, code: str, message: str, *place: str | int) -> Finding:
        """Return a warning about a field."""
        return Finding("warning", code, self.file, self.line(*place), message, self.model)


def has_errors(findings: list[Finding]) -> bool:
    """Tell whether Triton would refuse something."""
    return any(finding.severity == "error" for finding in findings)


def to_text(findings: list[Finding]) -> str:
    """Return a line for each finding, and one that counts them."""
    return "\n".join([*map(str, findings), _summary(findings)])


def _summary(findings: list[Finding]) -> str:
    errors = sum(finding.severity == "error" for finding in findings)
    warnings = len(findings) - errors
    if not findings:
        return "no mistakes found"
    counted = f"{errors} error{'' if errors == 1 else 's'}"
    return f"{counted}, {warnings} warning{'' if warnings == 1 else 's'}"


def to_json(findings: list[Finding]) -> str:
    """Return the findings as JSON, with the number of errors and of warnings."""
    errors = sum(finding.severity == "error" for finding in findings)
    entries = [{**dataclasses.asdict(each), "file": str(each.file)} for each in findings]
    counts = {"errors": errors, "warnings": len(findings) - errors}
    return json.dumps({**counts, "findings": entries}, indent=2)
