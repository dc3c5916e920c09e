"""Run the supervisor by the path of its folder: ``python .../supervisor RUN_FOLDER``."""

import sys
from pathlib import Path

# The folder itself stands on the path; as a package, it needs the one above.
sys.path[0] = str(Path(__file__).resolve().parents[1])
from supervisor import main  # noqa: E402

main(Path(sys.argv[1]))
