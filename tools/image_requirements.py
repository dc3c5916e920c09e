"""Print what docker/Dockerfile installs, as a requirements file with hashes.

``python tools/image_requirements.py > requirements.txt``; for demo.zip: ``demo_requirements``.

The packages are the groups of environment.yml whose comment ends with ``[image]``, and all that
these need in turn; the versions and hashes are those of environment.lock. OpenCV becomes the one
of environment-headless.lock: the image has no desktop.

Standard library only: it runs inside the image that is being built.
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MARK = "[image]"
#: What demo.zip installs: the image's packages, those of the web page, a Triton and its client,
#: OpenCV, and the installers that tools/set_up.sh looks for.
DEMO_MARKS = (MARK, "[demo]")
DEMO_PACKAGES = ("nvidia-pytriton", "tritonclient", "opencv-python", "pip", "uv")


@dataclass(frozen=True)
class Entry:
    """A package of a lock: its lines, and the packages that need it."""

    text: str
    needed_by: frozenset[str]


def marked_packages(environment: str, marks: tuple[str, ...] = (MARK,)) -> set[str]:
    """Return the names in the marked groups of environment.yml, whose text is given."""
    names, marked = set(), False
    for line in map(str.strip, environment.splitlines()):
        if line.startswith("#"):
            marked = line.endswith(marks)
        elif marked and (pin := re.match(r"- ([a-z0-9-]+)", line)):
            names.add(pin[1])
    return names


def read_lock(lock: str) -> dict[str, Entry]:
    """Return the packages of a lock, as ``uv pip compile`` writes it, by name."""
    entries = {}
    for found in re.finditer(r"^([a-z0-9-]+)==.*\n((?: .*\n)*)", lock, re.M):
        lines = found[0].splitlines()
        comments = " ".join(line.strip(" #") for line in lines if line.lstrip().startswith("#"))
        kept = [line for line in lines if not line.lstrip().startswith("#")]
        needed_by = frozenset(comments.removeprefix("via ").split())
        entries[found[1]] = Entry("\n".join(kept), needed_by)
    return entries


def with_needs(names: set[str], entries: dict[str, Entry]) -> set[str]:
    """Return these packages and all that they need, and so on.

    Raises:
        KeyError: a package is not in the lock.
    """
    chosen, new = set(), {name for name in names if entries[name]}
    while new:
        chosen |= new
        new = {name for name, entry in entries.items() if entry.needed_by & chosen} - chosen
    return chosen


def requirements(
    environment: str,
    lock: str,
    headless_lock: str,
    marks: tuple[str, ...] = (MARK,),
    packages: tuple[str, ...] = (),
) -> str:
    """Return a requirements file, from the texts of environment.yml and its two locks.

    Args:
        environment: the list.
        lock: its lock.
        headless_lock: that of the other OpenCV.
        marks: the groups of the list to be installed.
        packages: further ones of the list.

    Raises:
        ValueError: no group is marked, or the lock was made from another list.
    """
    names, entries = marked_packages(environment, marks), read_lock(lock)
    if not names:
        raise ValueError(
            f"environment.yml has no group of packages for the image: end the comment of one "
            f"with {MARK}"
        )
    try:
        chosen = with_needs({*names, *packages}, entries)
    except KeyError as name:
        raise ValueError(f'environment.lock lacks {name}: run "make lock"') from None
    entries |= {"opencv-python": read_lock(headless_lock)["opencv-python-headless"]}
    return "".join(f"{entries[name].text}\n" for name in sorted(chosen))


def demo_requirements() -> str:
    """Return the requirements of demo.zip; see ``requirements``."""
    return requirements(*_lists(), DEMO_MARKS, DEMO_PACKAGES)


def _lists() -> list[str]:
    names = ("environment.yml", "environment.lock", "environment-headless.lock")
    return [(ROOT / name).read_text() for name in names]


def main() -> None:
    """Print the requirements of the image."""
    try:
        print(requirements(*_lists()), end="")
    except ValueError as error:
        sys.exit(f"image: {error}")


if __name__ == "__main__":
    main()
