#!/bin/sh
# Clicks to a checked bundle in one command: models/train.sh [OUT]
#   DATA     your own data set, a folder (docs/evaluation.md); without it `dce generate` makes clicks for the graphs, and a
#            bank with labels and more takeovers for the heads
#   DCE      the dce binary                       PYTHON   one with the package's extra `train`
#   DEVICE   where it trains: cpu (default), cuda, cuda:N or auto
#   CONFIG, SEED, VERSION, WORK (where clicks, sessions and the run are left; a new temporary folder by default)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/bank-small}
dce=${DCE:-$here/../target/release/dce}
python=${PYTHON:-python3}
work=${WORK:-$(mktemp -d)}
seed=${SEED:-1}
device=${DEVICE:-cpu}
mkdir -p "$work"

export PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}" DCE="$dce"
models() { "$python" -m dce_models "$@"; }

if [ -n "${DATA:-}" ]; then
    models train --data "$DATA" ${CONFIG:+--config "$CONFIG"} --seed "$seed" --device "$device" \
        --out "$work/run.pt"
    models export --run "$work/run.pt" --out "$out" ${VERSION:+--model-version "$VERSION"}
else
    clicks=$work/clicks.ndjson
    [ -e "$clicks" ] || "$dce" generate --customers 1500 --days 90 --seed "$seed" --out "$clicks"
    "$dce" sessions --json "$clicks" > "$work/sessions.ndjson"
    models train --clicks "$clicks" --sessions "$work/sessions.ndjson" --config "${CONFIG:-$here/bank-small.toml}" \
        --seed "$seed" --device "$device" --out "$work/run.pt"
    models export --run "$work/run.pt" --out "$work/graphs" ${VERSION:+--model-version "$VERSION"}
    [ -e "$work/bank" ] || "$dce" generate --customers 3000 --days 90 --seed $((seed + 1)) --takeovers 0.3 --out "$work/bank"
    models heads --bundle "$work/graphs" --data "$work/bank" --label call --seed "$seed" \
        --device "$device" --out "$out"
fi
echo "$out (run and clicks in $work)"
