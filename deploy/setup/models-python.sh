#!/usr/bin/env bash
# Makes a Python with PyTorch and all that training, judging and testing models needs, in the cache, from PyPI, by hashes
# (models-requirements.txt); offline once it is there.
# Takes: nothing (DCE_CACHE_DIR moves the cache). Gives: the path of that Python as the last line of stdout.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. ./common.sh

need python3 "run deploy/setup/packages.sh build"
version="$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
folder="$(cache)/models-python-$version-$(sha256sum models-requirements.txt | cut -c 1-12)"
works() { "$1/bin/python" -c 'import torch, onnxruntime, pyarrow, sklearn, lightgbm, pytest' 2>/dev/null; }

# What is whole has a mark: to import all of it would take seconds each time.
if [[ -e "$folder/whole" && -x "$folder/bin/python" ]]; then
  say "models' Python: in the cache"
else
  say "models' Python: fetching PyTorch and others from PyPI (about 3 GB; minutes)"
  scratch
  # Without pip, which some distributions leave out of new environments: the system's installs into it.
  python3 -m venv --without-pip "$SCRATCH/out" || die "python3 cannot make an environment: its reason stands above"
  site="$("$SCRATCH/out/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
  PIP_ROOT_USER_ACTION=ignore python3 -m pip --quiet --disable-pip-version-check --no-cache-dir install --no-deps --require-hashes \
    --only-binary=:all: --target "$site" --requirement models-requirements.txt >&2 ||
    die "pip could not fetch the packages for Python $version: its reason stands above"
  works "$SCRATCH/out" || die "the packages are installed, but Python $version cannot import them"
  touch "$SCRATCH/out/whole"
  rm -rf "$folder"
  renamed_into "$SCRATCH/out" "$folder"
  say "models' Python: now in the cache"
fi
echo "$folder/bin/python"
