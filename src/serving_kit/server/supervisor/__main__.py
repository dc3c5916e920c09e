"""Run the supervisor by the path of its folder.

``python .../supervisor own RUN_FOLDER`` for a server of the kit, ``python .../supervisor run
tritonserver OPTION...`` in a container, and ``python .../supervisor probe`` beside that one.
"""

import sys
from pathlib import Path

# The folder itself stands on the path; as a package, it needs the one above.
sys.path[0] = str(Path(__file__).resolve().parents[1])
from supervisor import own, run, run_probe  # noqa: E402

verb, *words = sys.argv[1:]
if verb == "own":
    own(Path(words[0]))
elif verb == "probe":
    sys.exit(run_probe() or 0)
else:
    sys.exit(run(words))
