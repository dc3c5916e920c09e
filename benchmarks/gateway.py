"""What the gateway adds: the same Triton, asked directly and through Envoy, in turns."""

import contextlib
import tempfile
from pathlib import Path

import numpy as np
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from matplotlib.figure import Figure

from report import Ratio, Section, Table
from served import style_graph, write_model
from serving_kit.client.images import load_image
from serving_kit.models import ONE_STYLE, SIZE
from serving_kit.paths import CAT
from serving_kit.server.replicated import ReplicatedServer
from turns import Summary, run_of, take_turns
from ways import by_tritonclient

ROUNDS = 100
#: The same bytes there and back, and nothing computed.
IDENTITY, IDENTITY_MODEL = (
    "identity",
    """\
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    def execute(self, requests):
        inputs = [request.inputs()[0].as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT_0", x)]) for x in inputs]
""",
)
TENSOR = "name: '{}_0' data_type: TYPE_FP32 dims: [ 1, 3, {size}, {size} ]"
IDENTITY_CONFIG = (
    f"backend: 'python' input [ {{ {TENSOR.format('INPUT', size=SIZE)} }} ]"
    f" output [ {{ {TENSOR.format('OUTPUT', size=SIZE)} }} ]"
)
APIS = {"HTTP": httpclient, "gRPC": grpcclient}

TEXT = f"""\
A picture of 1x3x{SIZE}x{SIZE}, 786 kB there and back, from array to array: requests of tritonclient
to one Triton, directly and through Envoy before it, one at a time. `{ONE_STYLE}` is the style
network; `{IDENTITY}` returns its input, so that what lies between is not lost in what the network
takes. A turn is a single run, in another order each round; the difference is the median of the
rounds' differences."""


def measure(rounds: int) -> Section:
    """Compare both, in so many rounds."""
    picture = {"INPUT_0": load_image(CAT, SIZE, SIZE)[0]}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        models = Path(folder) / "models"
        write_model(models, ONE_STYLE, style_graph(), "")
        _write_identity(models / IDENTITY)
        server = stack.enter_context(ReplicatedServer(models, replicas=1, mode="local"))
        (triton,) = server.servers
        seen: dict[str, Summary | str] = {}
        for model in (ONE_STYLE, IDENTITY):
            turns = {}
            for name, api in APIS.items():
                for way, urls in (("directly", triton), ("through the gateway", server)):
                    url = urls.url if api is httpclient else urls.grpc_url
                    request = stack.enter_context(
                        by_tritonclient(url, picture, model=model, triton=api)
                    )
                    turns[f"{model}, {name}, {way}"] = lambda request=request: run_of(request)
            seen |= take_turns(turns, rounds)
    return _section(seen)


def _write_identity(folder: Path) -> None:
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.py").write_text(IDENTITY_MODEL)
    (folder / "config.pbtxt").write_text(IDENTITY_CONFIG)


def _section(seen: dict[str, Summary]) -> Section:
    rows, ratios = [], []
    for model in (ONE_STYLE, IDENTITY):
        for api in APIS:
            direct, through = (
                seen[f"{model}, {api}, {way}"] for way in ("directly", "through the gateway")
            )
            difference = added(through, direct)
            rows.append([f"{model}, {api}", direct.median, through.median, difference])
            aim = "3 at most" if model == ONE_STYLE else "none"
            ratios.append(Ratio(f"gateway - direct, {model}, {api}, p50, ms", difference, aim))
    header = ["", "directly, p50, ms", "through the gateway, p50, ms", "difference, ms"]
    title = "What the gateway adds"
    return Section(
        title, TEXT, [Table(header, rows)], ratios, "gateway", lambda f: _draw(f, rows)
    )  # fmt: skip


def added(through: Summary, direct: Summary) -> float:
    """Return the median of the rounds' differences, in ms."""
    pairs = zip(through.turns, direct.turns, strict=True)
    return float(np.median([np.median(mine) - np.median(its) for mine, its in pairs]))


def _draw(figure: Figure, rows: list[list]) -> None:
    axes = figure.subplots()
    bars = axes.barh([row[0] for row in reversed(rows)], [row[3] for row in reversed(rows)])
    axes.bar_label(bars, [f" {row[3]:.2f}" for row in reversed(rows)])
    axes.margins(x=0.25)
    axes.set_xlabel("milliseconds that the gateway adds, p50")
