#!/usr/bin/env bash
# Compares `dce sessions --json` with the reference program, row by row, on dirty streams of its three sources of clicks.
# Takes: reference.sh REFERENCE-DIR DCE [SEED]: the folder of clicks.py, sessions.py and compare.py; the dce binary; a seed (1) from which
# dirt and rules follow. Gives: a line a stream, `reference: N passed, M failed` at the end, and exit status 1 if any failed.
# What differs stays in target/reference, with the command to repeat it. About a minute and a half.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
# shellcheck source=../deploy/setup/common.sh
. "$root/deploy/setup/common.sh"
speaker=reference

[[ $# -ge 2 ]] || die "usage: reference.sh REFERENCE-DIR DCE [SEED]"
reference="$(cd "$1" && pwd)"
dce="$(realpath -- "$2")"
seed="${3:-1}"
for file in clicks.py sessions.py compare.py; do
  [[ -f "$reference/$file" ]] || die "$reference has no $file: name the folder of the reference program"
done
[[ -x "$dce" ]] || die "$dce cannot be run: build it with cargo build"
need python3 "run deploy/setup/packages.sh build"
need zstdcat "run deploy/setup/packages.sh test"

work="$root/target/reference"
rm -rf "$work"
mkdir -p "$work"
# Ctrl-C reaches the programs by itself; a TERM has to be handed on.
trap 'kill $(jobs -p) 2>/dev/null || true; exit 143' TERM HUP
passed=0
failed=0

# clicks NAME LINES ARG…: the first LINES of clicks.py ARG… as a file.
clicks() {
  python3 "$reference/clicks.py" "${@:3}" >"$work/$1.all"
  head -n "$2" "$work/$1.all" >"$work/$1.clicks"
  rm "$work/$1.all"
}

# compare NAME INPUT RULE…: both programs on one stream.
compare() {
  local name="$1" input="$2" status=0 reason
  shift 2
  python3 "$reference/sessions.py" "$@" <"$input" >"$work/reference.rows" &
  if ! "$dce" sessions --json "$@" <"$input" >"$work/dce.rows" 2>"$work/dce.log"; then
    status=1
    reason="dce failed: $(tail -n 1 "$work/dce.log")"
  fi
  wait $! || die "sessions.py itself failed on $input"
  if [[ "$status" -eq 0 ]]; then
    reason="$(python3 "$reference/compare.py" --strict "$work/reference.rows" "$work/dce.rows")" || status=1
  fi
  if [[ "$status" -eq 0 ]]; then
    passed=$((passed + 1))
    echo "reference: $name${*:+ }$*: $reason"
    return
  fi
  failed=$((failed + 1))
  cp "$input" "$work/failed-$failed.ndjson"
  echo "reference: $name${*:+ }$*: DIFFERENT"
  printf '%s\n' "$reason" | sed 's/^/  /'
  echo "  repeat: $dce sessions --json $* < $work/failed-$failed.ndjson"
}

# dirty NAME SEED RULES-SEED ARG…: breaks NAME's clicks, then compares under the rules of that seed.
dirty() {
  local name="$1" dirt="$2" rules
  read -ra rules < <(python3 "$root/integration/dirty.py" rules --seed "$3") || true
  python3 "$root/integration/dirty.py" lines --seed "$dirt" "${@:4}" <"$work/$name.clicks" >"$work/dirty"
  compare "$name, dirt $dirt" "$work/dirty" ${rules[@]+"${rules[@]}"}
}

s="$seed"
clicks sparkify 20000 sparkify
compare sparkify "$work/sparkify.clicks"
clicks sparkify-late 20000 sparkify --no-session-id --shuffle 600 --duplicate 0.1 --drop-logout 0.3 --lag-customers 0.2 900 --seed "$s"
compare sparkify-late "$work/sparkify-late.clicks"
for n in 1 2 3 4 5 6; do
  dirty sparkify-late $((100 * s + n)) $((100 * s + n)) --share 0.2 --partitions "$n" --flood 500
done

clicks globo 60000 globo --no-session-id --shuffle 10 --duplicate 0.05 --lag-customers 0.1 600 --seed "$s"
compare globo "$work/globo.clicks"
dirty globo $((s + 1)) 0 --share 0.1 --partitions 3
dirty globo $((s + 2)) $((100 * s + 7)) --share 0.02 --partitions 8
clicks globo-ids 30000 globo --shuffle 60 --duplicate 0.2 --drop-logout 0.2 --seed "$s"
dirty globo-ids $((s + 3)) $((100 * s + 8)) --share 0.1
compare globo-ids "$work/globo-ids.clicks" --gap 86400 --duration-max 1e7

clicks sea 40000 sea --shuffle 30 --duplicate 0.05 --drop-logout 0.1 --seed "$s"
compare sea "$work/sea.clicks"
dirty sea $((s + 4)) $((100 * s + 9)) --share 0.1 --partitions 2
# One customer's 100,000 events among the others', some out of order.
dirty sea $((s + 5)) 0 --share 0.05 --partitions 2 --flood 100000

echo "reference: $passed passed, $failed failed"
if [[ "$failed" -gt 0 ]]; then exit 1; fi
rm -rf "$work"
