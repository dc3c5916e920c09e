"""The verbs behind the Makefile: ``python -m serving_kit demo | models | styles``."""

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from serving_kit.errors import ServingKitError
from serving_kit.paths import CAT
from serving_kit.styles import DEFAULT_STYLE, STYLES


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; return 0, or 1 after printing one sentence, or 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    # "kill" and a closed terminal end the program as Ctrl-C does: what it opened is closed.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        options.verb(options)
    except ServingKitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; everything that was started is stopped", file=sys.stderr)
        return 130
    return 0


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
    demo_parser.set_defaults(verb=demo)

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


def demo(options: argparse.Namespace) -> None:
    """Export the model, start Triton, stylize one picture through it, stop Triton."""
    from serving_kit.client import MODEL, stylize
    from serving_kit.images import check_writable, read_image, side_by_side, write_image
    from serving_kit.models import repository_for
    from serving_kit.server import TritonServer

    # Mistakes are told now, not after a server was started.
    read_image(options.image)
    check_writable(options.output)
    repository = repository_for(options.style)
    with TritonServer(repository) as server:
        print(
            f"server    {server}, ready in {server.ready_after:.1f} s "
            "(out of a PyPI package: needs no Docker and no GPU)"
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


def run_in_process(repository: Path, image: np.ndarray) -> np.ndarray:
    """Run the saved graph of fast_neural_style in this process, without Triton.

    Args:
        repository: a model repository.
        image: float32 (1, 3, H, W), RGB, 0 to 255.

    Returns:
        float32 (1, 3, H, W), RGB, 0 to 255.
    """
    with _without_stderr():
        from serving_kit.saved_graph import SavedGraph

        with SavedGraph(repository / "fast_neural_style" / "1" / "model") as graph:
            (output,) = graph(image)
    return output


def models(options: argparse.Namespace) -> None:
    """Export what is missing or out of date."""
    from serving_kit.models import repository_for

    print(f"exported  {DEFAULT_STYLE} in {repository_for()}")


def styles(options: argparse.Namespace) -> None:
    """Draw every style on one picture, with OneFlow's eager mode."""
    from serving_kit.images import contact_sheet, load_image, recover_image, write_image
    from serving_kit.models import SIZE

    image, width, height = load_image(options.image, SIZE, SIZE)
    with _without_stderr():
        import oneflow as flow

        from serving_kit.stylenet import load_stylenet
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
