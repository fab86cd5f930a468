#!/usr/bin/env bash
# Variants of `dce` on a generated bank, by the log losses of their heads on its `valid` labels; `test` is not looked at.
# Prints a line a run: variant, seed, then takeover / call / intent, and the next session's recall@10 at close.
#   models/trials.sh [VARIANT…]        DCE, PYTHON, WORK, DEVICE as in eval.sh; SEEDS ("1 2 3")
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
python="${PYTHON:-$("$here/../deploy/setup/models-python.sh" | tail -n 1)}"
work="${WORK:-$(mktemp -d)}"
dce="${DCE:-$here/../target/release/dce}"
export DCE="$dce" PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}" OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
mkdir -p "$work"
[[ -e "$work/bank/labels.csv" ]] ||
  "$dce" generate --customers 600 --days 60 --takeovers 0.3 --seed 11 --out "$work/bank"

# What a variant changes in bank-small.toml, as an expression of sed.
change() {
  case "$1" in
    staged) printf '%s\n' '' ;;
    joint) printf '%s\n' 's/^session_epochs.*/session_epochs = 0/; s/^customer_epochs.*/customer_epochs = 0\njoint_epochs = 20/' ;;
    joint-moving) echo "$(change joint); \$a joint_moves = true" ;;
    staged-then-joint) printf '%s\n' 's/^customer_epochs = 20/customer_epochs = 12\njoint_epochs = 8/' ;;
    joint-then-customers) printf '%s\n' 's/^session_epochs.*/session_epochs = 0/; s/^customer_epochs = 20/customer_epochs = 12\njoint_epochs = 20/' ;;
    session-24) printf '%s\n' 's/^session = .*/session = 24/' ;;
    session-96) printf '%s\n' 's/^session = .*/session = 96/' ;;
    hidden-32) echo 's/^hidden = .*/hidden = 32/' ;;
    hidden-128) echo 's/^hidden = .*/hidden = 128/' ;;
    state-32) echo 's/^state = .*/state = 32/' ;;
    state-128) echo 's/^state = .*/state = 128/' ;;
    cosine-alone) echo 's/^contrastive = .*/contrastive = 0.0/; s/^cosine = .*/cosine = 1.0/' ;;
    contrast-alone) echo 's/^cosine = .*/cosine = 0.0/' ;;
    *) echo "unknown variant: $1" >&2 && return 2 ;;
  esac
}

variants=("$@")
[[ ${#variants[@]} -gt 0 ]] || variants=(staged joint joint-moving staged-then-joint joint-then-customers session-24
  session-96 hidden-32 hidden-128 state-32 state-128 cosine-alone contrast-alone)
for seed in ${SEEDS:-1}; do
  for variant in "${variants[@]}"; do
    log="$work/$variant-$seed${DEVICE:+-${DEVICE/:/}}.log"
    if ! grep -q '^trained in' "$log" 2>/dev/null; then
      sed "$(change "$variant")" "$here/bank-small.toml" > "$work/$variant.toml"
      "$python" -m dce_models train --data "$work/bank" --model dce --config "$work/$variant.toml" --seed "$seed" \
        --device "${DEVICE:-cpu}" --out "$work/$variant-$seed.pt" 2> "$log" ||
        { echo "$variant $seed failed: $(tail -n 1 "$log")" && continue; }
    fi
    loss() { sed -n "s/^head $1: .*loss \([0-9.]*\) .*/\1/p" "$log"; }
    recall="$(sed -n 's/^model at closed *\S* *\(\S*\).*/\1/p' "$log")"
    echo "$variant $seed $(loss takeover) / $(loss call) / $(loss intent), $recall, $(sed -n 's/^trained //p' "$log")"
  done
done
