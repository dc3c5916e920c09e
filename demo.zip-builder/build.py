"""Build demo.zip, which instructors publish: the demo, without the kit around it.

What goes in: the files in ``files/``, the models of ``model_repository/`` as ``model_repo/``, the
backend, the modules of the kit that these files import, photos, licences, and the packages to be
installed, ``requirements.txt``. Nothing is packed before the models have answered: see
``verify.py``. The same files give the same bytes, whenever, wherever and by whomever it is built.
"""

import argparse
import ast
import hashlib
import importlib.util
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path

from verify import verify

from serving_kit.errors import ServingKitError
from serving_kit.models import repository_for
from serving_kit.paths import ASSETS, BACKENDS, MODEL_REPOSITORY, ROOT
from serving_kit.repository import checks

FILES = Path(__file__).resolve().parent / "files"
KIT = ROOT / "src" / "serving_kit"
#: What a user calls or reads; the rest of files/ belongs to these.
NEEDED = ("README.md", "README.zh.md", "infer.py", "run.sh", "run_cloud.sh", "server.py")
#: What else is taken; a file of that name in files/ comes before it.
COPIED = {
    "LICENSE": ROOT / "LICENSE",
    "ORIGINS.md": ASSETS / "README.md",
    "cat.jpg": ASSETS / "cat.jpg",
    "coffee.jpg": ASSETS / "coffee.jpg",
    "requirements.txt": FILES.parent / "requirements.lock",
    "tools/set_up.sh": ROOT / "tools" / "set_up.sh",
}
#: In place of the kit's own: in demo.zip things lie elsewhere.
REPLACED = {"serving_kit/paths.py": FILES.parent / "zip_paths.py"}
SUMS = "SHA256SUMS"
MOST_BYTES = 25_000_000
#: What Python and gradio write as they run, and what only the kit needs of an export.
LEFT_OUT = ("__pycache__", "server.pyi", "export.json")
#: A file system's time of zero in a zip file.
TIME = (1980, 1, 1, 0, 0, 0)
LEVEL = 9
#: CRC-32 of what zlib 1.2 and 1.3 make of PROBE. Others, zlib-ng for example, pack otherwise.
PROBE, PACKED_PROBE = b"".join(b"%d " % (i * i) for i in range(5000)), 0xA3E8A439


class BuildError(ServingKitError):
    """The reason why demo.zip cannot be built."""


def main(arguments: list[str] | None = None) -> int:
    """Build; return 1 after saying in one sentence why that cannot be."""
    parser = argparse.ArgumentParser(prog="demo.zip-builder", description="Build demo.zip.")
    parser.add_argument(
        "--output", type=Path, default=Path("demo.zip"), help="the file (default: demo.zip)"
    )
    options = parser.parse_args(arguments)
    try:
        build(options.output)
    except ServingKitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def build(output: Path) -> None:
    """Gather, verify, pack.

    Raises:
        ServingKitError: a file is missing, a model is not what it should be, it is too large.
    """
    repository_for(device="cpu")
    content = gather()
    with tempfile.TemporaryDirectory(prefix="demo.zip-") as folder:
        unpack(content, Path(folder))
        repository = Path(folder, "model_repo")
        for finding in checks.check(repository):
            if finding.severity == "error":
                raise BuildError(f"{finding}; nothing was built")
        for line in verify(repository):
            print(f"verified  {line}", flush=True)
    pack(content, output)
    print(f"files     {output}: {len(content)} files, {output.stat().st_size / 1e6:.1f} MB")
    print(f"sha256    {hashlib.sha256(output.read_bytes()).hexdigest()}")
    if zlib.crc32(deflated(PROBE)) != PACKED_PROBE:
        print(
            f"note      zlib {zlib.ZLIB_RUNTIME_VERSION} of this Python compresses differently "
            "from zlib 1.3: the files are the same, but the bytes of demo.zip differ from those "
            "of other machines"
        )


def gather() -> dict[str, bytes]:
    """Return the files of demo.zip, by their names there; of an empty folder only the name.

    Raises:
        BuildError: one is missing.
    """
    content = tree(FILES)
    for name in NEEDED:
        if name not in content:
            raise BuildError(f"{FILES / name} is missing; nothing was built")
    programs = [FILES / name for name in content if name.endswith(".py")]
    content = {
        name: read(file) for name, file in (COPIED | kit_modules(programs)).items()
    } | content
    content |= tree(BACKENDS / "oneflow", "backends/oneflow/")
    # A program of its own, run by the path of its folder.
    content |= tree(KIT / "server" / "supervisor", "serving_kit/server/supervisor/")
    content |= tree(MODEL_REPOSITORY, "model_repo/")
    sums = [
        f"{hashlib.sha256(content[name]).hexdigest()}  {name}\n"
        for name in sorted(content)
        if not name.endswith("/")
    ]
    return content | {SUMS: "".join(sums).encode()}


def tree(top: Path, prefix: str = "") -> dict[str, bytes]:
    """Return the files below a folder; links are followed, so that none is in the zip."""
    content = {}
    for path in sorted(top.iterdir()):
        name = f"{prefix}{path.name}"
        if path.name in LEFT_OUT or (path.name.startswith(".") and path.name != ".gitkeep"):
            continue
        if path.is_dir():
            content |= tree(path, f"{name}/") or {f"{name}/": b""}
        else:
            content[name] = read(path)
    return content


def read(file: Path) -> bytes:
    """Return a file's bytes.

    Raises:
        BuildError: it is not there, or closed to us.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise BuildError(f"{file} cannot be read ({error.strerror}); nothing was built") from None


def kit_modules(files: list[Path]) -> dict[str, Path]:
    """Return the files of the kit that Python files import, and those that these import.

    Returns:
        The files, by their names in demo.zip, ``serving_kit/client/images.py`` for example.
    """
    modules: dict[str, Path] = {}
    while files:
        for name in imported_from_kit(files.pop()):
            if name not in modules:
                modules[name] = REPLACED.get(name, KIT.parent / name)
                files.append(modules[name])
    return modules


def imported_from_kit(file: Path) -> set[str]:
    """Return which files of the kit a file imports, anywhere in it; packages count as theirs."""
    names = set()
    for node in ast.walk(ast.parse(read(file))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            name = f"{'.' * node.level}{node.module or ''}"
            if node.level:  # it is named from where the file lies, in the kit
                package = ".".join(file.parent.relative_to(KIT.parent).parts)
                name = importlib.util.resolve_name(name, package)
            # What is imported may be a module, or something in one.
            names |= {name, *(f"{name}.{alias.name}" for alias in node.names)}
    found = set()
    for name in names:
        parts = name.split(".")
        if parts[0] == KIT.name:
            paths = ["/".join(parts[: n + 1]) for n in range(len(parts))]
            candidates = [f"{path}{end}" for path in paths for end in (".py", "/__init__.py")]
            found |= {path for path in candidates if (KIT.parent / path).is_file()}
    return found


def unpack(content: dict[str, bytes], folder: Path) -> None:
    """Write the files below a folder."""
    for name, data in content.items():
        path = folder / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_bytes(data)


def pack(content: dict[str, bytes], output: Path) -> None:
    """Write the zip file, in one step.

    Raises:
        BuildError: it is too large, or cannot be written.
    """
    partial = output.with_name(f".{output.name}.partial")
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as file:
            for name in sorted(content):
                file.writestr(entry(name), content[name], compresslevel=LEVEL)
        size = partial.stat().st_size
        if size > MOST_BYTES:
            raise BuildError(
                f"demo.zip would have {size / 1e6:.0f} MB, but at most "
                f"{MOST_BYTES / 1e6:.0f} MB are allowed: leave out a model or a version of one"
            )
        partial.replace(output)
    except OSError as error:
        raise BuildError(f"{output} cannot be written: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)


def entry(name: str) -> zipfile.ZipInfo:
    """Return what the zip says of a file: nothing of the machine, the user or the time."""
    info = zipfile.ZipInfo(name, TIME)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.create_system = 3  # Unix: the mode counts
    mode = 0o40755 if name.endswith("/") else 0o100755 if name.endswith(".sh") else 0o100644
    info.external_attr = mode << 16
    return info


def deflated(data: bytes) -> bytes:
    """Return data as a zip file packs it."""
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()
