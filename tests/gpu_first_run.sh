#!/usr/bin/env bash
# The first run on a machine with a GPU: bash tests/gpu_first_run.sh OUT
# Builds the kernels, checks them, runs NVIDIA's sanitizers and the benchmark, and
# leaves logs and figures in OUT. tests/gpu_first_run.py says what is needed.
set -euo pipefail
for python in ${PYTHON:-python3 python}; do
  if command -v "$python" >/dev/null; then
    exec "$python" "$(dirname "${BASH_SOURCE[0]}")/gpu_first_run.py" "$@"
  fi
done
echo "gpu_first_run: error: expected ${PYTHON:-python3} on PATH. Received: none." >&2
exit 2
