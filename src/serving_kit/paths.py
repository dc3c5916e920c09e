"""Where the parts of the repository lie. The kit always runs from a clone (``pip install -e``)."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ASSETS = ROOT / "assets"
BACKENDS = ROOT / "backends"
MODEL_REPOSITORY = ROOT / "model_repository"

WEIGHTS = ASSETS / "stylenet_26_styles.npz"
CAT = ASSETS / "cat.jpg"
