"""What serving adds: the same graph in process, over HTTP, gRPC, shared memory, in a pipeline."""

import contextlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from types import ModuleType

import numpy as np
import tritonclient.grpc as grpcclient
from matplotlib.figure import Figure

from report import Ratio, Section, Table, quotient
from served import style_graph, worker_environment
from serving_kit.client.images import load_image
from serving_kit.client.inference import keep_freed_memory
from serving_kit.http_client import HttpClient
from serving_kit.models import ONE_STYLE as MODEL
from serving_kit.models import SIZE
from serving_kit.paths import CAT, MODEL_REPOSITORY
from serving_kit.server.triton import TritonServer
from turns import Contestant, Summary, Turn, run_of, take_turns, together

#: A process is some percent faster or slower than its twin for as long as it lives; so all of them
#: are started anew, again and again.
SITTINGS, ROUNDS = 10, 50
PIPELINE = "stylize_jpeg"
IN_PROCESS, HTTP, AS_IT_COMES, GRPC, SHARED, ENSEMBLE = (
    "saved graph in process", "HTTP", "HTTP, tritonclient as it comes", "gRPC",
    "HTTP with system shared memory", "ensemble, JPEG in and out",
)  # fmt: skip
#: What a turn does, from the picture as an array to the answer as an array.
Request = Callable[[], np.ndarray]

TEXT = f"""\
`fast_neural_style` at 1x3x{SIZE}x{SIZE}, from array to array. *In process* is the saved graph of
the model repository called without Triton, in a process with the environment of the backend's
workers. The others are requests to one Triton with one instance, one at a time; each copies the
picture into its request, and the answer out. *HTTP*, also with shared memory, is the kit's client
(`http_client.py`), which copies a picture less often than tritonclient's, and reads answers in C;
one row is tritonclient's, as it comes. The ensemble is `{PIPELINE}`: its arrays are the bytes of
the cat's JPEG and those of the painted one, so that it also decodes, resizes and encodes, which the
others leave to the client. A turn is a single run, in another order each round. Processes that are
started alike may differ by some percent for as long as they live, so all were started anew for each
sitting; sittings: {{sittings}}."""


def measure(sittings: int, rounds: int) -> Section:
    """Compare the ways, in so many sittings of so many rounds."""
    return _section(together([sit(rounds) for _ in range(sittings)]), sittings)


def sit(rounds: int) -> dict[str, Summary | str]:
    """Start a server and all who ask, and compare them."""
    image, _, _ = load_image(CAT, SIZE, SIZE)
    graph = style_graph()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        server = stack.enter_context(
            TritonServer(MODEL_REPOSITORY, models=[PIPELINE], mode="local")
        )
        np.save(Path(folder) / "image.npy", image)
        jpeg = np.frombuffer(CAT.read_bytes(), np.uint8)

        def here(way: AbstractContextManager[Request]) -> Turn:
            request = stack.enter_context(way)
            return lambda: run_of(request)

        def alone(layout: str, way: Path | str) -> Turn:
            contestant = process(layout, way, Path(folder))
            return stack.enter_context(contextlib.closing(contestant)).run

        turns = {
            IN_PROCESS: alone("folder", graph),
            HTTP: here(over_http(server.url, {"INPUT_0": image})),
            AS_IT_COMES: alone("HTTP", server.url),
            GRPC: here(by_tritonclient(grpcclient, server.grpc_url, image)),
            SHARED: here(over_shared_memory(server.url, image)),
            ENSEMBLE: here(over_http(server.url, {"PICTURE": jpeg}, "JPEG", PIPELINE)),
        }
        return take_turns(turns, rounds)


def process(layout: str, way: Path | str, folder: Path) -> Contestant:
    """Return a process that has what ``contestants.py`` calls a layout and a way."""
    program = Path(__file__).with_name("contestants.py")
    return Contestant(
        [sys.executable, program, layout, way, folder / "image.npy", folder / "answer.npy"],
        worker_environment(),
    )


@contextlib.contextmanager
def over_http(
    url: str, inputs: dict[str, np.ndarray], output: str = "OUTPUT_0", model: str = MODEL
) -> Iterator[Request]:
    """Give a request over HTTP by the kit's client."""
    with HttpClient(url) as client:
        yield lambda: client.infer(model, inputs, [output])[0]


@contextlib.contextmanager
def by_tritonclient(triton: ModuleType, url: str, image: np.ndarray) -> Iterator[Request]:
    """Give a request by one of tritonclient's clients, as it comes."""
    with triton.InferenceServerClient(url) as client:

        def request() -> np.ndarray:
            tensor = triton.InferInput("INPUT_0", image.shape, "FP32")
            tensor.set_data_from_numpy(image)
            return client.infer(MODEL, [tensor]).as_numpy("OUTPUT_0")

        yield request


@contextlib.contextmanager
def over_shared_memory(url: str, image: np.ndarray) -> Iterator[Request]:
    """Give a request over HTTP whose tensors lie in memory that client and server share."""
    with contextlib.ExitStack() as stack:
        memory = SharedMemory(create=True, size=2 * image.nbytes)
        stack.callback(memory.unlink)
        stack.callback(memory.close)
        client = stack.enter_context(HttpClient(url))
        region = "/v2/systemsharedmemory/region/pictures"
        where = {"key": f"/{memory.name}", "offset": 0, "byte_size": memory.size}
        client.ask("POST", f"{region}/register", [json.dumps(where).encode()])
        stack.callback(client.ask, "POST", f"{region}/unregister")
        place = {"shared_memory_region": "pictures", "shared_memory_byte_size": image.nbytes}
        answer = {"shared_memory_offset": image.nbytes}
        tensors = {
            "inputs": [
                {
                    "name": "INPUT_0", "shape": image.shape, "datatype": "FP32",
                    "parameters": place,
                }
            ],
            "outputs": [{"name": "OUTPUT_0", "parameters": place | answer}],
        }  # fmt: skip
        body = [json.dumps(tensors).encode()]

        def request() -> np.ndarray:
            # Made anew each time: memory that an array looks at cannot be closed.
            both = np.ndarray((2, *image.shape), image.dtype, buffer=memory.buf)
            both[0] = image
            client.ask("POST", f"/v2/models/{MODEL}/infer", body)
            return both[1].copy()

        yield request


def _section(seen: dict[str, Summary | str], sittings: int) -> Section:
    rows = []
    for name, s in seen.items():
        if isinstance(s, str):
            rows.append([name, f"not measured: {s}", "", "", "", ""])
        else:
            rows.append(
                [name, s.median, s.p95, s.least, s.runs, quotient(s, seen[IN_PROCESS])]
            )  # fmt: skip
    return Section(
        "In process against served",
        TEXT.format(sittings=sittings),
        [Table(["", "p50, ms", "p95, ms", "least", "runs", "times in process"], rows)],
        [
            Ratio.of(f"{name} / in process, p50", seen[name], seen[IN_PROCESS], f"{aim} at most")
            for name, aim in ((HTTP, 1.05), (SHARED, 1.02))
        ],
        "ways",
        lambda figure: _draw(figure, seen),
    )  # fmt: skip


def _draw(figure: Figure, seen: dict[str, Summary | str]) -> None:
    found = {name: s for name, s in reversed(seen.items()) if isinstance(s, Summary)}
    axes = figure.subplots()
    for height, (label, color) in enumerate((("p95", "#a8c0d8"), ("p50", "#4878a8"))):
        values = [s.median if label == "p50" else s.p95 for s in found.values()]
        places = [place + 0.2 - 0.4 * (1 - height) for place in range(len(found))]
        bars = axes.barh(places, values, 0.38, label=label, color=color)
        axes.bar_label(bars, [f" {value:.1f}" for value in values])
    axes.set_yticks(range(len(found)), list(found))
    axes.margins(x=0.25)  # for the figures and the legend
    axes.set_xlabel("milliseconds")
    axes.legend(loc="lower right", reverse=True)
