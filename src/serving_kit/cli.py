"""The commands behind the Makefile: ``python -m serving_kit demo | serve | check | ...``."""

import argparse
import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

from oneflow_backend import openblas
from serving_kit.paths import CAT, MODEL_REPOSITORY
from serving_kit.programs import run_program
from serving_kit.server.docker import KIT_IMAGE
from serving_kit.stylenet.styles import DEFAULT_STYLE, STYLES


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code: 0, 1 after printing one sentence, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    os.environ.update(openblas.environment())  # before any command imports OneFlow
    return run_program(lambda: options.command(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="serving_kit", description="From a trained OneFlow model to a served one."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(function: Callable, purpose: str) -> Callable:
        """Add a command; return what adds an argument to it."""
        command_parser = commands.add_parser(function.__name__, help=purpose)
        command_parser.set_defaults(command=function)
        return command_parser.add_argument

    photo = {"type": Path, "default": CAT, "help": "a JPEG, PNG or WebP (default: the cat)"}
    way = "auto, docker or local: how to start Triton (default: %(default)s)"
    add = command(demo, "stylize a picture: OneFlow, Triton, result.jpg; the whole way in one go")
    add("--image", **photo)
    add("--style", default=DEFAULT_STYLE, help="one of the 26 styles (default: %(default)s)")
    add("--output", type=Path, default="result.jpg", help="the result (default: %(default)s)")
    add("-v", "--verbose", action="store_true", help="compare with the graph's own result, too")
    add("--server", default="local", help=way)

    add = command(serve, "start Triton and leave it running, for notebooks and other programs")
    folder = {"type": Path, "default": MODEL_REPOSITORY}
    add("--repository", **folder, help="the folder of models (default: model_repository)")
    add("--server", default="auto", help=way)
    images = "the Docker image (default: %(default)s; the original: oneflowinc/oneflow-serving)"
    add("--image", default=KIT_IMAGE, help=images)
    ports = "port of HTTP; gRPC and metrics have the next two (default: %(default)s)"
    add("--port", type=int, default=8000, help=ports)
    address = "address to listen on; 0.0.0.0 for the whole network (default: %(default)s)"
    add("--address", default="127.0.0.1", help=address)
    add("--model-control", action="store_true", help="let clients load and unload models")
    add("--shared-memory", action="store_true", help="let clients register memory of this machine")
    no_json = (
        "accept or refuse JSON over HTTP; without it, one server accepts raw bytes for models with "
        "one input, and everything over gRPC (default: accepted, but not behind a gateway)"
    )
    add("--json", action=argparse.BooleanOptionalAction, default=None, help=no_json)
    replicas = "how many Tritons to start behind a gateway (default: none; TLS or a login: 1)"
    add("--replicas", type=int, help=replicas)
    _add_access(add)
    add("--dry-run", action="store_true", help="print the command that would run, and run nothing")
    add("options", metavar="-- OPTION", nargs="*", help="further options of tritonserver, after --")

    add = command(gateway, "print the gateway's configuration for compose, swarm and Kubernetes")
    add("--json", action="store_true", help="accept JSON over HTTP")
    _add_access(add)

    command(stop, "stop every server that serve started")
    command(status, "show which servers are running, and what is ready")

    add = command(check, "find the mistakes in a model repository")
    repository = Path(os.path.relpath(MODEL_REPOSITORY))
    repositories = "model repositories that one server is to serve (default: model_repository)"
    add("repositories", metavar="REPOSITORY", nargs="*", type=Path, default=[repository],
        help=repositories)  # fmt: skip
    add("--json", action="store_true", help="print JSON")

    command(models, "export the models into model_repository/, where they are not yet")

    add = command(new, "make a project for a model of your own (lesson 14)")
    add("name", metavar="NAME", help="name of the folder and the model, such as my_model")
    add("--model", default="classifier", help="classifier, text or pair (default: %(default)s)")

    add = command(progress, "tell which steps of a project are done, and what is missing")
    add("project", metavar="NAME", type=Path, help="the project's folder")
    learner = "if all is done, write certificate.html, with this name on it"
    add("--certificate", metavar="LEARNER", nargs="?", const="", help=learner)

    add = command(styles, "draw all 26 styles on one contact sheet")
    add("--image", **photo)
    add("--output", type=Path, default="styles.png", help="the sheet (default: %(default)s)")
    return parser


def _add_access(add: Callable) -> None:
    """Add the options for who gets through the gateway."""
    add("--tls-cert", type=Path, help="TLS: a certificate with its chain, in PEM")
    add("--tls-key", type=Path, help="TLS: the key of the certificate, in PEM")
    add("--basic-auth", type=Path, help="a login: lines of htpasswd -nbs USER PASSWORD")
    add("--token", type=Path, help="a login: a file with the token for Authorization: Bearer")


def _access(options: argparse.Namespace):
    from serving_kit.server import Access

    names = ("tls_cert", "tls_key", "basic_auth", "token")
    return Access(json=bool(options.json), **{name: getattr(options, name) for name in names})


def demo(options: argparse.Namespace) -> None:
    """Export the model, start Triton, stylize one picture through it, stop Triton."""
    from serving_kit.client.images import check_writable, read_image, side_by_side, write_image
    from serving_kit.client.inference import MODEL, stylize
    from serving_kit.in_process import run_graph
    from serving_kit.models import repository_for
    from serving_kit.server import TritonServer, choose

    # Mistakes are told now, not after a server was started.
    read_image(options.image)
    check_writable(options.output)
    # Not at the first request: a Ctrl-C in the middle of this import may crash the process.
    importlib.import_module("tritonclient.http")
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
        own = run_graph(repository / MODEL / "1" / "model", done.model_input)
        difference = abs(done.model_output - own).max()
        print(f"check     served and in-process results differ by at most {difference:.6f} of 255")
    both = options.output.with_name("before_after.png")
    write_image(both, side_by_side(done.before, done.after))
    print(f"files     {options.output} ({width} x {height}), {both}")


def serve(options: argparse.Namespace) -> None:
    """Start a detached server, or say how one would be started."""
    from serving_kit.models import repository_for
    from serving_kit.repository import checks
    from serving_kit.server import Access, ReplicatedServer, TritonServer

    access = _access(options)
    if options.replicas is None and access == Access(json=access.json):
        kind, settings = TritonServer, {"json": options.json is not False}
    else:
        kind, settings = ReplicatedServer, {"replicas": options.replicas or 1, "access": access}
    server = kind(
        options.repository,
        mode=options.server,
        image=options.image,
        http_port=options.port,
        grpc_port=options.port + 1,
        metrics_port=options.port + 2,
        address=options.address,
        model_control=options.model_control,
        shared_memory=options.shared_memory,
        detached=True,
        options=options.options,
        **settings,
    )
    if options.dry_run:
        print(server.command())
        return
    if server.model_repository == MODEL_REPOSITORY.resolve():
        repository_for(device=server.choice.device)
    # Of a mistake in the repository, Triton's log tells less than this.
    errors = [each for each in checks.check(options.repository) if each.severity == "error"]
    for error in errors:
        print(error, file=sys.stderr)
    server.start()
    choice = server.choice
    after = f"ready in {server.ready_after:.1f} s"
    since = "was running already" if server.found_running else after
    print(f"choice    {choice.mode} on the {choice.device.upper()}: {choice.why}")
    print(f"server    {server}, {since}")
    print(f"ports     HTTP {server.url}, gRPC {server.grpc_url}, metrics {server.metrics_url}")
    print(f"models    {_models(server)}")
    if server.is_reachable_from_elsewhere:
        print("warning   anyone who can reach this machine can use it: see docs/security.md")
    print("stop      make stop")


def gateway(options: argparse.Namespace) -> None:
    """Print Envoy's configuration, including the contents of the files for a login and TLS."""
    import yaml

    from serving_kit.server.gateway import configuration

    print("# From deploy/gateway/envoy.yaml, by: python -m serving_kit gateway")
    print(yaml.safe_dump(configuration(_access(options)), sort_keys=False), end="")


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
    """Print which detached servers run; return 1 unless there is one and all are ready."""
    from serving_kit.server import running_servers

    servers = running_servers()
    for server in servers:
        if (code := server.exit_code()) is not None:
            state = f"ended for good, exit code {code}; start it again with make serve"
        else:
            state = "ready" if server.is_ready() else "not ready"
        print(f"server    {server}: {state}")
        if restarts := server.restarts():
            print(f"restarts  {len(restarts)}; before the last, {restarts[-1]}")
        for replica in getattr(server, "servers", []):
            print(f"replica   {replica}: {'ready' if replica.is_ready() else 'not ready'}")
        print(f"models    {_models(server)}, from {server.model_repository}")
    if not servers:
        print("no server is running; start one with make serve")
    return 0 if servers and all(server.is_ready() for server in servers) else 1


def _models(server) -> str:
    return ", ".join(
        name if is_ready else f"{name} (not ready)" for name, is_ready in server.models().items()
    )


def check(options: argparse.Namespace) -> int:
    """Print the mistakes in model repositories; return 1 if there is an error."""
    from serving_kit.repository import checks

    findings = checks.check(*options.repositories)
    print(checks.to_json(findings) if options.json else checks.to_text(findings))
    return int(checks.has_errors(findings))


def models(options: argparse.Namespace) -> None:
    """Export what is missing or out of date."""
    from serving_kit.models import ALL_STYLES, ONE_STYLE, repository_for

    print(f"exported  {ONE_STYLE} ({DEFAULT_STYLE}) and {ALL_STYLES} in {repository_for()}")


def new(options: argparse.Namespace) -> None:
    """Make the files of a project in the current folder."""
    from serving_kit import projects

    project = projects.new_project(options.name, options.model)
    print(f"made      {project}/, {options.model}: begin with {project}/README.md")


def progress(options: argparse.Namespace) -> int:
    """Print the steps of a project; return 1 unless all are done."""
    from serving_kit import projects

    steps = projects.progress(options.project)
    print(projects.to_text(steps))
    if options.certificate is not None:
        print("\n" + projects.certificate(options.project, options.certificate))
    return int(not projects.is_complete(steps))


def styles(options: argparse.Namespace) -> None:
    """Draw every style on one picture, with OneFlow's eager mode."""
    from serving_kit.client.images import contact_sheet, load_image, recover_image, write_image
    from serving_kit.in_process import paint_in_every_style
    from serving_kit.stylenet.styles import SIZE

    image, width, height = load_image(options.image, SIZE, SIZE)
    tiles = []
    for name, painted in paint_in_every_style(image):
        print(f"\r{len(tiles) + 1} of {len(STYLES)}: {name:20}", end="", flush=True)
        tiles.append((f"{len(tiles)} {name}", recover_image(painted, height, width)))
    write_image(options.output, contact_sheet(tiles))
    print(f"\rfiles     {options.output}{'':20}")
