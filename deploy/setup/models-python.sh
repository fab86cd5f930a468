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

# What is whole has a mark: to import all of it would take seconds each time.
if [[ -e "$folder/whole" && -x "$folder/bin/python" ]]; then
  say "models' Python: in the cache"
else
  say "models' Python: fetching PyTorch and others from PyPI (about 3 GB; minutes)"
  python_with "$folder" models-requirements.txt "torch, onnxruntime, pyarrow, sklearn, lightgbm, pytest"
  touch "$folder/whole"
  say "models' Python: now in the cache"
fi
echo "$folder/bin/python"
