"""Where the parts of demo.zip lie."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BACKENDS = ROOT / "backends"
MODEL_REPOSITORY = ROOT / "model_repo"
SERVERS = ROOT / "servers"
