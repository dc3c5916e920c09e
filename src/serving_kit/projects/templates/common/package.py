"""Pack what another machine needs to serve the model: python package.py.

The zip holds the model repository, the backend "oneflow", a client and what eager mode gave. The
network's source, its weights and the way it was trained stay here.
"""

import zipfile
from pathlib import Path

from serving_kit.paths import BACKENDS

HERE = Path(__file__).resolve().parent
NAME = HERE.name


def files():
    """Yield the place of each file, and its name in the zip."""
    for folder in (HERE / "model_repository", HERE / "expected"):
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                yield path, path.relative_to(HERE)
    for path in sorted((BACKENDS / "oneflow").rglob("*.py")):
        yield path, Path("backends") / path.relative_to(BACKENDS)
    for name in ("client.py", "SERVE.md"):
        yield HERE / name, Path(name)


def main():
    """Write NAME.zip, in which everything is in a folder called NAME."""
    target = HERE / f"{NAME}.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
        for path, name in files():
            packed.write(path, NAME / name)
        count = len(packed.namelist())
    print(f"{target.name}: {count} files, {target.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
