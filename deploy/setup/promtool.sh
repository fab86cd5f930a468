#!/usr/bin/env bash
# Puts promtool, which tests the rules of deploy/prometheus/, and prometheus, which the test of deploy/grafana/ asks, into the
# cache: out of Debian's package `prometheus`, which is not installed, for that would start a server. Offline once they are
# there; a promtool in PATH is taken as it is.
# Takes: nothing (DCE_CACHE_DIR moves the cache). Gives: promtool as the last line of stdout; prometheus lies beside it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. ./common.sh

if command -v promtool >/dev/null; then
  say "promtool: in PATH"
  command -v promtool
  exit 0
fi
folder="$(cache)/prometheus"
if [[ -x "$folder/usr/bin/promtool" ]]; then
  say "prometheus: in the cache"
else
  need apt-get "install Prometheus's promtool by your system's means, so that it is in PATH"
  say "prometheus: fetching Debian's package (about 30 MB)"
  scratch
  fetch() { (cd "$SCRATCH" && apt-get -q download prometheus >/dev/null 2>&1); }
  if ! fetch; then
    # Its lists may be old, or not there.
    as_root=()
    [[ "$(id -u)" -eq 0 ]] || as_root=(sudo)
    ${as_root[@]+"${as_root[@]}"} apt-get -q update >&2 || die "apt-get update failed, its reason stands above"
    fetch || die "apt-get cannot fetch the package prometheus: run 'apt-get download prometheus' to see why"
  fi
  dpkg-deb --fsys-tarfile "$SCRATCH"/prometheus_*.deb | tar -x -C "$SCRATCH" --one-top-level=out ./usr/bin/promtool ./usr/bin/prometheus ||
    die "the package prometheus holds no promtool and prometheus"
  renamed_into "$SCRATCH/out" "$folder"
  say "prometheus: now in the cache"
fi
echo "$folder/usr/bin/promtool"
