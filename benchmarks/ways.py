"""What serving adds: the same graph in process, over HTTP, gRPC, shared memory, in a pipeline."""

import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from types import ModuleType

import numpy as np
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from matplotlib.figure import Figure
from tritonclient.utils import np_to_triton_dtype

from oneflow_backend.worker_process import environment as worker_environment
from report import Ratio, Section, Table, quotient
from served import style_graph
from serving_kit.client.images import load_image
from serving_kit.models import ONE_STYLE as MODEL
from serving_kit.models import SIZE
from serving_kit.paths import CAT, MODEL_REPOSITORY
from serving_kit.server.triton import TritonServer
from turns import Contestant, Summary, Turn, run_of, take_turns, together

#: A process is some percent faster or slower than its twin for as long as it lives; so all of them
#: are started anew, again and again.
SITTINGS, ROUNDS = 10, 50
PIPELINE = "stylize_jpeg"
IN_PROCESS, HTTP, GRPC, SHARED, ENSEMBLE = (
    "saved graph in process", "HTTP", "gRPC", "HTTP with system shared memory",
    "ensemble, JPEG in and out",
)  # fmt: skip
#: What a turn does, from the picture as an array to the answer as an array.
Request = Callable[[], np.ndarray]

TEXT = f"""\
`fast_neural_style` at 1x3x{SIZE}x{SIZE}, from array to array. *In process* is the saved graph of
the model repository, called without Triton, in a process with the environment of the backend's
workers. The others are requests of tritonclient to one Triton with one instance, one at a time;
each copies the picture into its request, and the result out of the response. The ensemble is
`{PIPELINE}`: its arrays are the bytes of the cat's JPEG and of the painted one. It therefore also
decodes, resizes and encodes, which the others leave to the client. A turn is a single run, in a
different order each round. Processes that are started alike may differ by some percent for as long
as they live, so all were restarted for each sitting; sittings: {{sittings}}."""


def measure(sittings: int, rounds: int) -> Section:
    """Compare the ways, in so many sittings of so many rounds."""
    return _section(together([sit(rounds) for _ in range(sittings)]), sittings)


def sit(rounds: int) -> dict[str, Summary | str]:
    """Start a server and its clients, and compare them."""
    image, _, _ = load_image(CAT, SIZE, SIZE)
    graph = style_graph()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        server = stack.enter_context(
            TritonServer(MODEL_REPOSITORY, models=[PIPELINE], mode="local", shared_memory=True)
        )
        np.save(Path(folder) / "image.npy", image)
        jpeg = np.frombuffer(CAT.read_bytes(), np.uint8)

        def here(way: AbstractContextManager[Request]) -> Turn:
            request = stack.enter_context(way)
            return lambda: run_of(request)

        in_process = stack.enter_context(contextlib.closing(process(graph, Path(folder))))
        picture = {"INPUT_0": image}
        turns = {
            IN_PROCESS: in_process.run,
            HTTP: here(by_tritonclient(server.url, picture)),
            GRPC: here(by_tritonclient(server.grpc_url, picture, triton=grpcclient)),
            SHARED: here(over_shared_memory(server.url, image)),
            ENSEMBLE: here(by_tritonclient(server.url, {"PICTURE": jpeg}, "JPEG", PIPELINE)),
        }
        return take_turns(turns, rounds)


def process(graph: Path, folder: Path) -> Contestant:
    """Return a process that runs a saved graph on the picture in a folder."""
    program = Path(__file__).with_name("contestants.py")
    return Contestant(
        [sys.executable, program, "folder", graph, folder / "image.npy", folder / "answer.npy"],
        worker_environment(),
    )


@contextlib.contextmanager
def by_tritonclient(
    url: str,
    inputs: dict[str, np.ndarray],
    output: str = "OUTPUT_0",
    model: str = MODEL,
    triton: ModuleType = httpclient,
) -> Iterator[Request]:
    """Give a request by one of tritonclient's clients, as it comes: the one for HTTP or gRPC."""
    wanted = [triton.InferRequestedOutput(output)]
    with triton.InferenceServerClient(url) as client:

        def request() -> np.ndarray:
            tensors = [
                triton.InferInput(name, array.shape, np_to_triton_dtype(array.dtype))
                .set_data_from_numpy(array)
                for name, array in inputs.items()
            ]  # fmt: skip
            return client.infer(model, tensors, outputs=wanted).as_numpy(output)

        yield request


@contextlib.contextmanager
def over_shared_memory(url: str, image: np.ndarray) -> Iterator[Request]:
    """Give a request over HTTP whose tensors lie in memory that client and server share."""
    region, size = "pictures", image.nbytes
    with contextlib.ExitStack() as stack:
        memory = SharedMemory(create=True, size=2 * size)
        stack.callback(memory.unlink)
        stack.callback(memory.close)
        client = stack.enter_context(httpclient.InferenceServerClient(url))
        client.register_system_shared_memory(region, f"/{memory.name}", memory.size)
        stack.callback(client.unregister_system_shared_memory, region)
        tensor = httpclient.InferInput("INPUT_0", image.shape, "FP32")
        tensor.set_shared_memory(region, size)
        wanted = httpclient.InferRequestedOutput("OUTPUT_0")
        wanted.set_shared_memory(region, size, offset=size)

        def request() -> np.ndarray:
            # Made anew each time: memory that an array looks at cannot be closed.
            both = np.ndarray((2, *image.shape), image.dtype, buffer=memory.buf)
            both[0] = image
            client.infer(MODEL, [tensor], outputs=[wanted])
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
            for name, aim in ((HTTP, "1.10"), (SHARED, "1.02"))
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
