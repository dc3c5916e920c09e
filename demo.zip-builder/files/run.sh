#!/usr/bin/env bash
# Serves the demo on this machine, and shows that it works: Triton, a painted cat, the web page.
# Needs x86-64 Linux with glibc 2.35 or newer; the first time also a network, for the packages.
#
# Usage: bash run.sh          Ctrl-C ends it all
#
# Environment variables, all optional:
#   DEMO_HOST           address of the page (127.0.0.1; 0.0.0.0 lets the whole network in)
#   DEMO_PORT           port of the page (7860, or a free one)
#   SERVING_KIT_SERVER  auto, docker or local: how Triton is started (auto)
#   PYTHON              a Python 3.10 to try first; tools/set_up.sh says more
set -euo pipefail
unset CDPATH PYTHONHOME PYTHONPATH
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

bash tools/check_files.sh
bash tools/set_up.sh
exec .venv/bin/python start.py --host "${DEMO_HOST:-127.0.0.1}" ${DEMO_PORT:+--port "$DEMO_PORT"}
