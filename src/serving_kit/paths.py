"""Where the parts of the repository are. The kit always runs from a clone (``pip install -e``)."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ASSETS = ROOT / "assets"
BACKENDS = ROOT / "backends"
NOTEBOOKS = ROOT / "notebooks"
MODEL_REPOSITORY = ROOT / "model_repository"
#: What the commands make, besides models; git ignores it, and make clean removes it.
BUILD = ROOT / "build"
#: Where the servers are recorded that outlive their owner; the tests have a place of their own.
SERVERS = Path(os.environ.get("SERVING_KIT_SERVERS", BUILD / "servers"))

WEIGHTS = ASSETS / "stylenet_26_styles.npz"
CAT = ASSETS / "cat.jpg"


def enter_notebooks() -> None:
    """Make ``notebooks/`` the working directory: the paths in a lesson begin there.

    A translated lesson lies one folder deeper, and its exercises speak its language, unless
    another one is set. In a copy of the repository, the folder is the copy's.
    """
    here = Path.cwd()
    if here.parts[-2:] == (NOTEBOOKS.name, "zh"):
        os.environ.setdefault("SERVING_KIT_LANGUAGE", "zh")
    above = (folder for folder in (here, *here.parents) if folder.name == NOTEBOOKS.name)
    os.chdir(next(above, NOTEBOOKS))
