#!/bin/sh
# Clicks to a checked bundle in one command: models/train.sh [OUT]
#   CLICKS   your own clicks (ClickEvents as JSON lines, in arrival order); without it `dce generate` makes some
#   DCE      the dce binary                       PYTHON   one with the package's extra `train`
#   CONFIG, SEED, VERSION, WORK (where clicks, sessions and the run are left; a new temporary folder by default)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/bank-small}
dce=${DCE:-$here/../target/release/dce}
python=${PYTHON:-python3}
work=${WORK:-$(mktemp -d)}
seed=${SEED:-1}
mkdir -p "$work"

clicks=${CLICKS:-$work/clicks.ndjson}
if [ -z "${CLICKS:-}" ] && [ ! -e "$clicks" ]; then
    "$dce" generate --customers 1500 --days 90 --seed "$seed" --out "$clicks"
fi
"$dce" sessions --json "$clicks" > "$work/sessions.ndjson"

export PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}"
"$python" -m dce_models train --clicks "$clicks" --sessions "$work/sessions.ndjson" --out "$work/run.pt" \
    --config "${CONFIG:-$here/bank-small.toml}" --seed "$seed"
"$python" -m dce_models export --run "$work/run.pt" --out "$out" ${VERSION:+--model-version "$VERSION"}
echo "$out (run, clicks and sessions in $work)"
