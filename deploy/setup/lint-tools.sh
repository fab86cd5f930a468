#!/usr/bin/env bash
# Puts shellcheck and ruff into the cache, from PyPI, by their hashes (lint-requirements.txt); offline once they are there.
# Takes: nothing (DCE_CACHE_DIR moves the cache). Gives: the folder of the programs as the last line of stdout.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. ./common.sh

folder="$(cache)/lint-$(sha256sum lint-requirements.txt | cut -c 1-12)"
if [[ -x "$folder/bin/shellcheck" && -x "$folder/bin/ruff" ]]; then
  say "linters: in the cache"
else
  need python3 "run deploy/setup/packages.sh build"
  say "linters: fetching shellcheck and ruff from PyPI (about 15 MB)"
  scratch
  # Into a folder, not into the system's Python, so nothing needs to be managed there.
  PIP_ROOT_USER_ACTION=ignore python3 -m pip --quiet --disable-pip-version-check --no-cache-dir install --no-deps --require-hashes --only-binary=:all: \
    --target "$SCRATCH/out" --requirement lint-requirements.txt >&2 || die "pip could not fetch the linters: its reason stands above"
  if [[ ! -x "$SCRATCH/out/bin/shellcheck" ]]; then
    need shellcheck "PyPI has no binary for $(uname -m); install your system's package of that name"
    ln -s "$(command -v shellcheck)" "$SCRATCH/out/bin/shellcheck"
  fi
  renamed_into "$SCRATCH/out" "$folder"
  say "linters: now in the cache"
fi
echo "$folder/bin"
