"""The verbs behind the Makefile: ``python -m serving_kit demo | serve | check | ...``."""

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from oneflow_backend import openblas
from serving_kit.paths import CAT, MODEL_REPOSITORY
from serving_kit.programs import run_program
from serving_kit.stylenet.styles import DEFAULT_STYLE, STYLES


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; return its exit code: 0, 1 after printing one sentence, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    os.environ.update(openblas.environment())  # before any verb imports OneFlow
    return run_program(lambda: options.verb(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="serving_kit", description="From a trained OneFlow model to a served one."
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    demo_parser = verbs.add_parser(
        "demo", help="stylize a picture: OneFlow, Triton, result.jpg; the whole road in one go"
    )
    _add_image(demo_parser)
    demo_parser.add_argument(
        "--style", default=DEFAULT_STYLE, help=f"one of the 26 styles (default: {DEFAULT_STYLE})"
    )
    demo_parser.add_argument(
        "--output", type=Path, default=Path("result.jpg"), help="the result (default: result.jpg)"
    )
    demo_parser.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="also compare the served answer with the graph's own",
    )
    _add_server(demo_parser, default="local")
    demo_parser.set_defaults(verb=demo)

    serve_parser = verbs.add_parser(
        "serve", help="start Triton and leave it running, for notebooks and other programs"
    )
    _add_repository(serve_parser)
    _add_server(serve_parser, default="auto")
    serve_parser.add_argument(
        "--image",
        default="oneflow-serving-kit",
        help="the Docker image (default: %(default)s; the page's: oneflowinc/oneflow-serving)",
    )
    serve_parser.add_argument(
        "--port",
        type=int,
        default=8000,
        help="port of HTTP; gRPC and metrics have the next two (default: %(default)s)",
    )
    serve_parser.add_argument(
        "--address",
        default="127.0.0.1",
        help="address to listen on; 0.0.0.0 for the whole network (default: %(default)s)",
    )
    serve_parser.add_argument(
        "--model-control", action="store_true", help="let clients load and unload models"
    )
    serve_parser.add_argument(
        "--dry-run", action="store_true", help="print the command that would run, and run nothing"
    )
    serve_parser.add_argument(
        "options", metavar="-- OPTION", nargs="*", help="further options of tritonserver, after --"
    )
    serve_parser.set_defaults(verb=serve)

    stop_parser = verbs.add_parser("stop", help="stop every server that serve started")
    stop_parser.set_defaults(verb=stop)

    status_parser = verbs.add_parser("status", help="tell which servers run, and what is ready")
    status_parser.set_defaults(verb=status)

    check_parser = verbs.add_parser("check", help="find the mistakes in a model repository")
    check_parser.add_argument(
        "repositories",
        metavar="REPOSITORY",
        nargs="*",
        type=Path,
        default=[Path(os.path.relpath(MODEL_REPOSITORY))],
        help="model repositories that one server shall serve (default: model_repository)",
    )
    check_parser.add_argument("--json", action="store_true", help="print JSON")
    check_parser.set_defaults(verb=check)

    models_parser = verbs.add_parser(
        "models", help="export the models into model_repository/, where they are not yet"
    )
    models_parser.set_defaults(verb=models)

    styles_parser = verbs.add_parser("styles", help="draw all 26 styles on one contact sheet")
    _add_image(styles_parser)
    styles_parser.add_argument(
        "--output", type=Path, default=Path("styles.png"), help="the sheet (default: styles.png)"
    )
    styles_parser.set_defaults(verb=styles)
    return parser


def _add_image(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--image", type=Path, default=CAT, help="any picture that OpenCV reads (default: the cat)"
    )


def _add_repository(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--repository",
        type=Path,
        default=MODEL_REPOSITORY,
        help="the folder of models (default: model_repository)",
    )


def _add_server(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--server",
        default=default,
        help="auto, docker or local: how to start Triton (default: %(default)s)",
    )


def demo(options: argparse.Namespace) -> None:
    """Export the model, start Triton, stylize one picture through it, stop Triton."""
    from serving_kit.client.images import check_writable, read_image, side_by_side, write_image
    from serving_kit.client.inference import MODEL, stylize
    from serving_kit.models import repository_for
    from serving_kit.server import TritonServer, choose

    # Mistakes are told now, not after a server was started.
    read_image(options.image)
    check_writable(options.output)
    device = choose(options.server).device
    repository = repository_for(options.style, models=[MODEL], device=device)
    with TritonServer(repository, models=[MODEL], mode=options.server) as server:
        embedded = " (out of a PyPI package: needs no Docker and no GPU)"
        print(
            f"server    {server}, ready in {server.ready_after:.1f} s"
            f"{embedded if server.choice.mode == 'local' else ''}"
        )
        done = stylize(options.image, options.output, url=server.url)
    height, width = done.before.shape[:2]
    print(
        f"inference {MODEL}, style {options.style}: 1 picture of {width} x {height} "
        f"in {done.milliseconds:.0f} ms"
    )
    if options.verbose:
        difference = np.abs(done.model_output - run_in_process(repository, done.model_input)).max()
        print(f"check     served and in-process answers differ by at most {difference:.6f} of 255")
    both = options.output.with_name("before_after.png")
    write_image(both, side_by_side(done.before, done.after))
    print(f"files     {options.output} ({width} x {height}), {both}")


def serve(options: argparse.Namespace) -> None:
    """Start a detached server, or say how one would be started."""
    from serving_kit.models import repository_for
    from serving_kit.repository import checks
    from serving_kit.server import TritonServer, choose

    if options.repository == MODEL_REPOSITORY and not options.dry_run:
        repository_for(device=choose(options.server, options.image).device)
    server = TritonServer(
        options.repository,
        mode=options.server,
        image=options.image,
        http_port=options.port,
        grpc_port=options.port + 1,
        metrics_port=options.port + 2,
        address=options.address,
        model_control=options.model_control,
        detached=True,
        options=options.options,
    )
    if options.dry_run:
        print(server.command())
        return
    # Of a mistake in the repository, Triton's log tells less than this.
    errors = [each for each in checks.check(options.repository) if each.severity == "error"]
    for error in errors:
        print(error, file=sys.stderr)
    server.start()
    choice = server.choice
    since = (
        "was running already" if server.found_running else f"ready in {server.ready_after:.1f} s"
    )
    print(f"choice    {choice.mode} on the {choice.device.upper()}: {choice.why}")
    print(f"server    {server}, {since}")
    print(f"ports     HTTP {server.url}, gRPC {server.grpc_url}, metrics {server.metrics_url}")
    print(f"models    {_models(server)}")
    if server.is_reachable_from_elsewhere:
        print("careful   whoever can reach this machine can use it: see docs/security.md")
    print("stop      make stop")


def stop(options: argparse.Namespace) -> None:
    """Stop every detached server, and clean up after those that were killed."""
    from serving_kit.server import registry, running_servers, runs

    with registry.one_at_a_time():
        servers = running_servers()
        for server in servers:
            name = str(server)
            server.stop()
            print(f"stopped   {name}")
        runs.sweep()
    if not servers:
        print("no server was running")


def status(options: argparse.Namespace) -> int:
    """Tell which detached servers run; return 1 unless there is one and all are ready."""
    from serving_kit.server import running_servers

    servers = running_servers()
    for server in servers:
        if (code := server.exit_code()) is not None:
            state = f"ended by itself, exit code {code}; start it again with make serve"
        else:
            state = "ready" if server.is_ready() else "not ready"
        print(f"server    {server}: {state}")
        print(f"models    {_models(server)}, from {server.model_repository}")
    if not servers:
        print("no server is running; start one with make serve")
    return 0 if servers and all(server.is_ready() for server in servers) else 1


def _models(server) -> str:
    return ", ".join(
        name if is_ready else f"{name} (not ready)" for name, is_ready in server.models().items()
    )


def check(options: argparse.Namespace) -> int:
    """Print what is wrong with model repositories; return 1 if something is."""
    from serving_kit.repository import checks

    findings = checks.check(*options.repositories)
    print(checks.to_json(findings) if options.json else checks.to_text(findings))
    return int(checks.has_errors(findings))


def run_in_process(repository: Path, image: np.ndarray) -> np.ndarray:
    """Run the saved graph of fast_neural_style in this process, without Triton.

    Args:
        repository: a model repository.
        image: float32 (1, 3, H, W), RGB, 0 to 255.

    Returns:
        float32 (1, 3, H, W), RGB, 0 to 255.
    """
    with _without_stderr():
        from oneflow_backend.saved_graph import SavedGraph

        with SavedGraph(repository / "fast_neural_style" / "1" / "model") as graph:
            (output,) = graph(image)
    return output


def models(options: argparse.Namespace) -> None:
    """Export what is missing or out of date."""
    from serving_kit.models import ALL_STYLES, ONE_STYLE, repository_for

    print(f"exported  {ONE_STYLE} ({DEFAULT_STYLE}) and {ALL_STYLES} in {repository_for()}")


def styles(options: argparse.Namespace) -> None:
    """Draw every style on one picture, with OneFlow's eager mode."""
    from serving_kit.client.images import contact_sheet, load_image, recover_image, write_image
    from serving_kit.models import SIZE

    image, width, height = load_image(options.image, SIZE, SIZE)
    with _without_stderr():
        import oneflow as flow

        from serving_kit.stylenet.network import load_stylenet
    tiles = []
    for i, name in enumerate(STYLES):
        print(f"\r{i + 1} of {len(STYLES)}: {name:20}", end="", flush=True)
        with flow.no_grad():
            painted = load_stylenet(name)(flow.tensor(image)).numpy()
        tiles.append((f"{i} {name}", recover_image(painted, height, width)))
    write_image(options.output, contact_sheet(tiles))
    print(f"\rfiles     {options.output}{'':20}")


@contextlib.contextmanager
def _without_stderr() -> Iterator[None]:
    """Drop what C++ writes to standard error: OneFlow says there that InfiniBand is missing."""
    sys.stderr.flush()
    kept = os.dup(2)
    with Path(os.devnull).open("wb") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
