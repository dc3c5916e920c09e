"""Stylize a picture through Triton: ``python infer.py --image cat.jpg`` writes ``result.jpg``.

``stylize`` is what the web page, server.py, calls. What it is made of lies in ``serving_kit/``:
the request in client/inference.py, the way of a picture into the model and back in
client/images.py, the styles in stylenet/styles.py. It needs NumPy, OpenCV and tritonclient, and no
OneFlow.
"""

import argparse
import math
import sys
from collections.abc import Mapping
from pathlib import Path

from serving_kit.client import inference
from serving_kit.client.images import check_writable
from serving_kit.client.uploads import check_upload
from serving_kit.errors import ServingKitError, StyleError
from serving_kit.stylenet.styles import DEFAULT_STYLE, STYLES, style_index


def stylize(
    content_path: str | Path,
    output_path: str | Path,
    style: str | Mapping[str, float] = DEFAULT_STYLE,
    *,
    url: str = "localhost:8000",
    protocol: str = "http",
) -> inference.Stylized:
    """Stylize a picture file through the model multi_style.

    Args:
        content_path: a JPEG, PNG or WebP picture, within the limits of ``client.uploads``.
        output_path: where the result goes, as large as the picture; its extension sets the format.
        style: one of the 26, or the shares of several: ``{"starry_night": 0.7, "red_ember": 0.3}``.
        url: host and port of Triton's service for this protocol.
        protocol: "http" or "grpc".

    Raises:
        ServingKitError: whatever is wrong, in one sentence. As a class of its own:
            ImageError (no picture; the result cannot be written), of it TooLargeError;
            StyleError (no such style);
            ClientError (Triton refused), of it NoAnswerError (Triton is down, starting or slow).
    """
    check_upload(content_path)
    return inference.stylize(content_path, output_path, style, url=url, protocol=protocol)


def main(arguments: list[str] | None = None) -> int:
    """Return 0 when the picture is written, 1 after saying in one sentence why it is not."""
    options = _parser().parse_args(arguments)
    url = options.url or inference.DEFAULT_URLS[options.protocol]
    try:
        # Told now, not after the work.
        check_writable(options.output)
        done = stylize(
            options.image, options.output, options.style, url=url, protocol=options.protocol
        )
    except ServingKitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    height, width = done.after.shape[:2]
    print(f"{options.output}: {width} x {height} pixels, painted in {done.milliseconds:.0f} ms")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Stylize a picture through Triton.",
        epilog=f"The styles: {', '.join(STYLES)}.",
    )
    parser.add_argument("--image", required=True, type=Path, help="the picture: JPEG, PNG or WebP")
    parser.add_argument(
        "--style",
        type=parse_style,
        default=DEFAULT_STYLE,
        help=f'a style, or shares of several: "starry_night=0.7,red_ember=0.3" '
        f"(default: {DEFAULT_STYLE})",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("result.jpg"), help="the result (default: result.jpg)"
    )
    parser.add_argument(
        "--url",
        help="host and port of Triton (default: {http}, or {grpc} for gRPC)".format(
            **inference.DEFAULT_URLS
        ),
    )
    parser.add_argument(
        "--protocol", choices=sorted(inference.DEFAULT_URLS, reverse=True), default="http"
    )
    return parser


def parse_style(text: str) -> str | dict[str, float]:
    """Read ``starry_night``, or ``starry_night=0.7,red_ember=0.3``.

    Raises:
        argparse.ArgumentTypeError: there is no such style, or a share is not a number above 0.
    """
    if "=" not in text:
        return _known(text)
    shares = {}
    for part in text.split(","):
        name, _, number = part.partition("=")
        try:
            share = float(number)
        except ValueError:
            share = math.nan
        if not 0 < share < math.inf:
            raise argparse.ArgumentTypeError(
                f"{part.strip()!r} is not a style with its share; write, for example, "
                "starry_night=0.7,red_ember=0.3"
            )
        shares[_known(name)] = share
    return shares


def _known(name: str) -> str:
    try:
        return STYLES[style_index(name.strip())]
    except StyleError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


if __name__ == "__main__":
    sys.exit(main())
