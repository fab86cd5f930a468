#!/usr/bin/env bash
# Makes a Python with the peers of the monitor (Evidently and River) in the cache, from PyPI, by their hashes (requirements.txt);
# offline once it is there. Takes: nothing (DCE_CACHE_DIR moves the cache). Gives: the path of that Python as the last line of stdout.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
cd "$here/../../deploy/setup"
# shellcheck source=../../deploy/setup/common.sh
. ./common.sh

need python3 "run deploy/setup/packages.sh build"
version="$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
folder="$(cache)/python-peers-$version-$(sha256sum "$here/requirements.txt" | cut -c 1-12)"
works() { "$1/bin/python" -c 'import evidently, river' 2>/dev/null; }

if works "$folder"; then
  say "the monitor's peers: in the cache"
else
  say "the monitor's peers: fetching Evidently and River from PyPI (about 150 MB)"
  python_with "$folder" "$here/requirements.txt" "evidently, river"
  say "the monitor's peers: now in the cache"
fi
echo "$folder/bin/python"
