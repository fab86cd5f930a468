#!/usr/bin/env bash
# Trains the zoo on the public sets and on a generated bank, judges what the pipeline makes with it, prints one table; the
# last line is one JSON object. What was trained and judged is kept: a run that was broken off goes on where it was.
#   DCE_DATA   the folder with the public sets' files (../shared/data, if that is there); without it the bank alone
#   DCE        the dce binary (target/release/dce)           PYTHON   one that has all that models/ needs
#   MODELS     which models of the zoo ("guard decay"; all)  WORK     where sets, runs and bundles are kept (the cache)
#   DEVICE     where models are trained: cpu (default), cuda, cuda:N or auto
#   EPOCHS_MAX at most so many epochs for what is not reported (the zoo beside it; 0: as many as it would have)
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
if [[ -z "${DCE_DATA:-}" && -d "$here/../../shared/data" ]]; then DCE_DATA="$(cd "$here/../../shared/data" && pwd)"; fi
python="${PYTHON:-$("$here/../deploy/setup/models-python.sh" | tail -n 1)}"
WORK="${WORK:-${DCE_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/dce}/eval}"
mkdir -p "$WORK"
# One thread: two would not agree on the last bit from run to run.
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 DCE_DATA="${DCE_DATA:-}" WORK MODELS="${MODELS:-}" EPOCHS_MAX="${EPOCHS_MAX:-0}"
export DEVICE="${DEVICE:-cpu}"
export PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" -m dce_models suite
