#!/usr/bin/env bash
# Makes a Python with confluent-kafka in the cache, from PyPI, by its hashes (python-requirements.txt); offline once it is there.
# Takes: nothing (DCE_CACHE_DIR moves the cache). Gives: the path of that Python as the last line of stdout.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. ./common.sh

need python3 "run deploy/setup/packages.sh build"
version="$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
folder="$(cache)/python-clients-$version-$(sha256sum python-requirements.txt | cut -c 1-12)"
works() { "$1/bin/python" -c 'import confluent_kafka' 2>/dev/null; }

if works "$folder"; then
  say "Python clients: in the cache"
else
  say "Python clients: fetching confluent-kafka from PyPI (about 5 MB)"
  python_with "$folder" python-requirements.txt confluent_kafka
  say "Python clients: now in the cache"
fi
echo "$folder/bin/python"
