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
  scratch
  # Without pip, which some distributions leave out of new environments: the system's installs into it.
  python3 -m venv --without-pip "$SCRATCH/out" || die "python3 cannot make an environment: its reason stands above"
  site="$("$SCRATCH/out/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
  PIP_ROOT_USER_ACTION=ignore python3 -m pip --quiet --disable-pip-version-check --no-cache-dir install --no-deps --require-hashes \
    --only-binary=:all: --target "$site" --requirement python-requirements.txt >&2 ||
    die "pip could not fetch confluent-kafka for Python $version: its reason stands above"
  works "$SCRATCH/out" || die "confluent-kafka is installed, but Python $version cannot import it"
  # The system's Python was replaced since: what is there does not work any more.
  rm -rf "$folder"
  renamed_into "$SCRATCH/out" "$folder"
  say "Python clients: now in the cache"
fi
echo "$folder/bin/python"
