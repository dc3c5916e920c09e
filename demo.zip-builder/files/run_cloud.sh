#!/usr/bin/env bash
# Serves the demo in a container that has Triton, as a project on OneFlow Cloud does. At heart it is
#
#   /opt/tritonserver/bin/tritonserver --model-store $(pwd)/model_repo > 1.txt &
#   python3 server.py
#
# and start.py does these two lines so that the page comes when the models are ready, both end when
# one of them ends, and Triton finds OneFlow, the backend, and the GPU or the CPU.
#
# Usage: bash run_cloud.sh    the logs are logs/triton.log and logs/page.log
#
# Environment variables, all optional:
#   DEMO_HOST       address of the page (0.0.0.0: anyone who can reach the container)
#   DEMO_PORT       port of the page (7860)
#   DEMO_ROOT_PATH  path in front of the page, if a proxy puts one there
#   DEMO_PYTHON     a Python 3.10 that has requirements.txt; without it one is set up in .venv
#   TRITONSERVER    Triton's program (/opt/tritonserver/bin/tritonserver)
set -euo pipefail
unset CDPATH PYTHONHOME
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

TRITONSERVER=${TRITONSERVER:-/opt/tritonserver/bin/tritonserver}
if [ ! -x "$TRITONSERVER" ]; then
  printf 'run_cloud.sh: There is no %s: start this where Triton is, name it with %s\n' \
    "$TRITONSERVER" 'TRITONSERVER, or use run.sh, which brings a Triton.' >&2
  exit 1
fi
bash tools/check_files.sh
if [ -z "${DEMO_PYTHON:-}" ]; then
  bash tools/set_up.sh
  DEMO_PYTHON=.venv/bin/python
fi
export SERVING_KIT_SERVER=local SERVING_KIT_TRITON=$TRITONSERVER
exec "$DEMO_PYTHON" start.py --host "${DEMO_HOST:-0.0.0.0}" --port "${DEMO_PORT:-7860}" --logs logs
