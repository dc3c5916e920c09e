"""Steps 3 to 5: the model is configured, and what Triton responds equals eager mode."""

import contextlib
import re
from types import ModuleType

import numpy as np
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from serving_kit.errors import ConfigError, ServerError
from serving_kit.projects.checks.graphs import eager_of, named
from serving_kit.projects.checks.missing import Missing
from serving_kit.projects.evidence import fingerprint, kept
from serving_kit.projects.project import Project, settings_of
from serving_kit.repository import check
from serving_kit.repository.config import read_text
from serving_kit.server import TritonServer

#: How far a response and eager mode may be apart, relative to the largest value.
TOLERANCE = 1e-4
#: What the backend logs where it does not join rows.
NOT_JOINED = re.compile(r"batches run row by row[^\n]*")
LABELS = "labels.txt"


def configured(project: Project) -> str:
    """Check config.pbtxt: nothing is left to fill in, and the repository has no mistakes."""
    try:
        text = read_text(project.config)
    except ConfigError as error:
        raise Missing(_short(error, project)) from None
    for number, line in enumerate(text.splitlines(), start=1):
        if re.search(r":\s*\?|\[\s*\?", line.partition("#")[0]):
            raise Missing(f'config.pbtxt:{number}: fill in each "?" of {line.strip()!r}')
    for finding in check(project.repository):
        if finding.severity == "error":
            where = f"{finding.file.name}{f':{finding.line}' if finding.line else ''}"
            raise Missing(f"{where}: {_short(finding.message, project)}")
    _check_labels(project)
    return f"no mistakes found; {settings_of(project.read_config())}"


def _short(error: object, project: Project) -> str:
    return str(error).replace(f"{project.folder}/", "")


def _check_labels(project: Project) -> None:
    """Check that the file of labels is named, and has a line for each class."""
    named = [each for each in project.read_config().output if each.label_filename]
    if not named and (project.model / LABELS).exists():
        raise Missing(
            f"{LABELS} is in the model's folder, but config.pbtxt does not name it; write "
            f'label_filename: "{LABELS}" into the output with the scores, or remove the file'
        )
    for output in named:
        lines = (project.model / output.label_filename).read_text().splitlines()
        if len(lines) != output.dims[-1]:
            raise Missing(
                f"{output.label_filename} has {len(lines)} lines, but {output.name} has "
                f"{output.dims[-1]} scores; write one label a line, in the order of the scores"
            )


def served(project: Project) -> str:
    """Check that rows alone are served as eager mode has them, over HTTP and gRPC."""
    found = _ask(project)
    versions = named(found["versions"])
    return f"{versions}: HTTP, gRPC and eager mode differ by at most {found['alone']:.1e}"


def batch(project: Project) -> str:
    """Check that rows together are served like rows alone, or that one comes at a time."""
    found = _ask(project)
    if found["rows"] < 2:
        return f"off: max_batch_size is {found['max_batch_size']}, one row a request"
    if not found["together"] <= TOLERANCE:  # also where it is NaN
        raise Missing(
            f"{found['rows']} rows in one request differ from eager mode by "
            f"{found['together']:.2g}; write max_batch_size: 1 until you know why"
        )
    plans = project.read_config().parameters["batch_sizes"].string_value
    chosen = f"plans for {plans} rows, verified at load" if plans else "the backend chose the plans"
    how = found["not_joined"] or chosen
    return f"{found['rows']} rows in one request equal eager mode; {how}"


def _ask(project: Project) -> dict:
    """Start a Triton and ask it, unless that was done with these files.

    Raises:
        Missing: it does not start, refuses a request, or a response differs.
    """
    eager = [project.kept / f"eager_{version}.npz" for version in project.versions()]
    return kept(
        project.kept / "served.json",
        fingerprint(project.folder, [project.repository, *eager]),
        lambda: _ask_now(project),
    )


def _ask_now(project: Project) -> dict:
    try:
        with TritonServer(project.repository, models=[project.name], mode="local") as server:
            return _ask_server(project, server)
    except ServerError as error:
        words = str(error).splitlines()[0]
        raise Missing(f"Triton does not start: {_short(words, project)}") from None
    except InferenceServerException as error:
        raise Missing(f"Triton refuses the examples: {error.message()}") from None


def _ask_server(project: Project, server: TritonServer) -> dict:
    largest = project.read_config().max_batch_size
    with contextlib.closing(httpclient.InferenceServerClient(server.url)) as client:
        versions = client.get_model_metadata(project.name)["versions"]
    alone = together = 0.0
    for version in versions:
        rows = len(eager_of(project, int(version))[0]["INPUT_0"])
        for i in range(rows):
            one = slice(i, i + 1)
            for triton, url in ((httpclient, server.url), (grpcclient, server.grpc_url)):
                alone = float(np.maximum(alone, _differ(triton, url, project, version, one)))
        _check_alone(project, version, alone)
        joined = slice(0, min(rows, largest))
        if largest > 1:
            apart = _differ(httpclient, server.url, project, version, joined)
            together = float(np.maximum(together, apart))
    refused = NOT_JOINED.search(server.log())
    return {
        "versions": versions,
        "alone": alone,
        "together": together,
        "rows": min(rows, largest),
        "max_batch_size": largest,
        "not_joined": refused[0] if refused else "",
    }


def _check_alone(project: Project, version: str, difference: float) -> None:
    if not difference <= TOLERANCE:  # also where it is NaN
        raise Missing(
            f"version {version} is served with results that differ from network({version}) by "
            f"{difference:.2g}; python export.py {version}"
        )


def _differ(triton: ModuleType, url: str, project: Project, version: str, rows: slice) -> float:
    """Send some rows of the examples; return how far the response is from eager mode."""
    inputs, outputs = eager_of(project, int(version))
    tensors = []
    for name, array in inputs.items():
        part = np.ascontiguousarray(array[rows])
        kind = np_to_triton_dtype(part.dtype)
        tensors.append(triton.InferInput(name, part.shape, kind).set_data_from_numpy(part))
    with contextlib.closing(triton.InferenceServerClient(url)) as client:
        response = client.infer(project.name, tensors, model_version=version)
    largest = 0.0
    for name, array in outputs.items():
        expected = array[rows].astype(np.float64)
        # A score a row has the shape (n,) in eager mode, and (n, 1) in Triton.
        found = response.as_numpy(name).reshape(expected.shape)
        scale = max(1.0, np.abs(expected).max(initial=0))
        largest = np.maximum(largest, np.abs(found - expected).max(initial=0) / scale)
    return float(largest)
