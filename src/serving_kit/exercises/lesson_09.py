"""Lesson 09, build a pipeline: an ensemble for blended styles, and a look before decoding."""

import random
import shutil
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

from serving_kit.errors import ConfigError
from serving_kit.exercises._answers import NotYet, call, describe
from serving_kit.paths import MODEL_REPOSITORY
from serving_kit.repository import checks
from serving_kit.repository.config import CONFIG, CPU_CONFIG
from serving_kit.repository.config_text import parse_config

NAME = "blend_jpeg"
STEPS = ("preprocess", "multi_style", "postprocess")
INPUTS, OUTPUTS = {"PICTURE", "WEIGHTS"}, {"JPEG"}


def exercise_1(text: str) -> str:
    """Check the config.pbtxt of an ensemble through multi_style, as make check does."""
    try:
        config = parse_config(text, Path(CONFIG))
    except ConfigError as error:
        raise NotYet(f"Triton cannot read it: {error}.") from None
    names = [step.model_name for step in config.ensemble_scheduling.step]
    if sorted(names) != sorted(STEPS):
        raise NotYet(f"its steps are {', '.join(names) or 'none'}; they shall be {_list(STEPS)}.")
    for kind, wanted in (("input", INPUTS), ("output", OUTPUTS)):
        found = {tensor.name for tensor in getattr(config, kind)}
        if found != wanted:
            raise NotYet(
                f"its {kind} is {_list(sorted(found)) or 'not there'}; {_list(sorted(wanted))} "
                "shall it be."
            )
    for finding in _findings(text):
        raise NotYet(f"make check would say: {finding.message}.")
    return "Any of 26 styles, and any blend of them, in one request; the next load will serve it."


def _findings(text: str) -> list[checks.Finding]:
    """Return what is wrong with the ensemble, in a repository with the models of its steps."""
    with tempfile.TemporaryDirectory(prefix="serving-kit-exercise-") as folder:
        for model in STEPS:
            for config in (CONFIG, CPU_CONFIG):
                source, copy = MODEL_REPOSITORY / model / config, Path(folder, model, config)
                if source.exists():
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source, copy)
        (Path(folder) / NAME / "1").mkdir(parents=True)
        (Path(folder) / NAME / CONFIG).write_text(text)
        findings = checks.check(folder)
    return [found for found in findings if (found.model, found.severity) == (NAME, "error")]


def _list(names: tuple[str, ...] | list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def exercise_2(png_size: Callable) -> str:
    """Check a function that reads a PNG's width and height from the first bytes of a file."""
    for width, height in ((451, 300), (1, 1), (30_000, 30_000)):
        found = call(png_size, _start_of_png(width, height))
        if found == (height, width) != (width, height):
            raise NotYet(f"it returned {found} for a PNG {width} wide: the width comes first.")
        if found is None:
            raise NotYet(f"it returned None for a PNG of {width} x {height}.")
        if not isinstance(found, tuple | list) or tuple(found) != (width, height):
            raise NotYet(f"it returned {_short(found)} for a PNG of {width} x {height}.")
    others = {
        "a JPEG": b"\xff\xd8\xff\xe0\0\x10JFIF",
        "text": b"a picture of a cat, in words",
        "an empty file": b"",
        "noise": random.Random(0).randbytes(32),
    }
    for name, start in others.items():
        found = call(png_size, start)
        if found is not None:
            raise NotYet(f"it returned {_short(found)} for {name}; None says that it is no PNG.")
    return "32 bytes are enough to refuse 900 million pixels."


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else describe(value)


def _start_of_png(width: int, height: int) -> bytes:
    """Return the first 32 bytes of a PNG."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    whole = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header
    return (whole + struct.pack(">I", zlib.crc32(header)))[:32]
