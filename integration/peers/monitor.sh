#!/usr/bin/env bash
# The monitor's evaluation, and its peers on the same windows.
# Takes: the dce binary, the evaluation's binary, a Python with the peers (python.sh), a folder for banks and windows; then arguments
# of the evaluation (--streams 200 --days 30); ORT_DYLIB_PATH. Gives: tables, and one JSON object as the last line.
set -euo pipefail
here="$(dirname "${BASH_SOURCE[0]}")"
dce="$1" evaluation="$2" python="$3" folder="$4"
shift 4
mkdir -p "$folder"

"$here/banks.sh" "$dce" "$folder" "$here/../../models/bank-small"
echo "== the monitor"
"$evaluation" --bank "$folder" --windows "$folder/windows.ndjson" "$@" | tee "$folder/ours.txt"
echo "== Evidently and River"
"$python" "$here/monitor_peers.py" "$folder/windows.ndjson" | tee "$folder/peers.txt"
"$python" -c '
import json, sys
ours, peers = (json.loads(open(path).read().splitlines()[-1]) for path in sys.argv[1:])
print(json.dumps({**ours, "peers": peers}))
' "$folder/ours.txt" "$folder/peers.txt"
