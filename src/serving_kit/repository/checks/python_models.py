"""The source of models for Triton's python backend."""

import ast
import warnings
from collections.abc import Iterator

from serving_kit.repository.checks.findings import Finding, Written
from serving_kit.repository.checks.folders import VERSION, ModelFolder
from serving_kit.repository.checks.versions import served_versions
from serving_kit.repository.config import LARGEST_BYTES


def check_python(written: Written, model: ModelFolder) -> Iterator[Finding]:
    """Check the source of a python model, as far as that goes without running it."""
    name = written.config.default_model_filename or "model.py"
    for version in served_versions(written.config, model.versions):
        if not VERSION.fullmatch(model.versions[version]):
            continue
        file = model.path / str(version) / name

        def error(message: str, line: int | None = None, file=file) -> Finding:
            return Finding("error", "python-model", file, line, message, model.name)

        if not file.is_file():
            yield error(
                "is missing, and Triton's python backend waits forever without it; put the model's "
                "source there"
            )
            continue
        try:
            with file.open("rb") as opened, warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a doubtful escape sequence, for example
                source = opened.read(LARGEST_BYTES)
                ast.parse(source)
        except SyntaxError as wrong:
            yield error(f"is not Python: {wrong.msg}; fix this line", wrong.lineno)
        except (ValueError, RecursionError, MemoryError) as wrong:
            yield error(f"is not Python ({wrong}); put the model's source there")
        else:
            if b"TritonPythonModel" not in source:
                yield error(
                    "has no class TritonPythonModel, which Triton looks for; give the model's "
                    "class this name"
                )
