#!/usr/bin/env bash
# The banks of the monitor's evaluation, each through the real pipeline: FOLDER/<scenario>/emb.ndjson, made once.
# Takes: the dce binary, the folder, the model bundle; ORT_DYLIB_PATH. Gives: the files.
set -euo pipefail
dce="$1" folder="$2" model="$3"
customers=4000 days=49 seed=7 day=39
# 2026-01-01 and so many days.
change_ms=$((1767225600000 + day * 86400000))

clicks() {
  local name="$1" flags=()
  [[ "$name" == quiet ]] || flags=(--scenario "$name@$day")
  # Takeovers move embeddings as a jump does: the quiet bank has its share of them.
  "$dce" generate --customers "$customers" --days "$days" --seed "$seed" "${flags[@]}" --out "$folder/$name.part/clicks.ndjson" --labels /dev/null >/dev/null
}

# A client that says web for mobile, and mobile for web.
swapped() {
  awk -v at="$change_ms" '{
    match($0, /"event_time":[0-9]+/)
    if (substr($0, RSTART + 13, RLENGTH - 13) + 0 >= at) {
      if (!sub(/"channel":"web"/, "\"channel\":\"mobile\"")) sub(/"channel":"mobile"/, "\"channel\":\"web\"")
    }
    print
  }' "$1"
}

for name in quiet page-rename layout-change shock swapped-inputs; do
  [[ ! -d "$folder/$name" ]] || continue
  echo "bank: $name" >&2
  rm -rf "$folder/$name.part"
  mkdir -p "$folder/$name.part"
  if [[ "$name" == swapped-inputs ]]; then
    swapped "$folder/clicks.ndjson" >"$folder/$name.part/clicks.ndjson"
  else
    clicks "$name"
  fi
  "$dce" replay --from "$folder/$name.part/clicks.ndjson" --to "$folder/$name.part/emb.ndjson" --close-open --model "$model" >&2
  if [[ "$name" == quiet ]]; then
    mv "$folder/$name.part/clicks.ndjson" "$folder/clicks.ndjson"
  else
    rm "$folder/$name.part/clicks.ndjson"
  fi
  mv "$folder/$name.part" "$folder/$name"
done
rm -f "$folder/clicks.ndjson"
