#!/usr/bin/env bash
# Installs the Debian packages that are missing, and only those: when nothing is, apt is not asked and no network is needed.
# Takes: what they are for, any of `build` (the default) and `test`. Gives: exit status 0 when all of it is there.
# Needs root or sudo, and only if something is missing. A Rust toolchain is not its matter: `make` checks that.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. ./common.sh

missing=() # Debian packages
why=()     # the same in words, for other systems

# want PACKAGE WHY CHECK...: notes the package unless the check succeeds.
want() {
  local package="$1" reason="$2"
  shift 2
  if ! "$@" >/dev/null 2>&1; then
    missing+=("$package")
    why+=("$package ($reason)")
  fi
}

java_17() {
  local version
  version="$(java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1)"
  [[ "${version:-0}" -ge 17 ]]
}

# Certificates may also lie elsewhere and be named by the environment.
certificates() { [[ -s /etc/ssl/certs/ca-certificates.crt || -s "${SSL_CERT_FILE:-}" ]]; }

# By any of the names that integration/browser looks for.
chromium_is_there() {
  local name
  for name in "${DCE_TEST_BROWSER:-}" chromium-headless-shell chromium chromium-browser google-chrome; do
    [[ -n "$name" ]] && command -v "$name" && return
  done
  return 1
}

for purpose in "${@:-build}"; do
  case "$purpose" in
    build)
      want gcc "C compiler" cc --version
      want g++ "C++ compiler: librdkafka builds its C++ half too" c++ --version
      want libc6-dev "headers of the C library" sh -c 'echo "#include <stdio.h>" | cc -E -'
      want make "make" make --version
      want pkg-config "pkg-config" pkg-config --version
      want libssl-dev "OpenSSL with headers" pkg-config --exists 'openssl >= 1.1.1'
      want zlib1g-dev "zlib with headers" pkg-config --exists zlib
      want ca-certificates "root certificates, for pip and cargo" certificates
      want python3-pip "Python 3 with pip: fetches ONNX Runtime by its hash" python3 -m pip --version
      ;;
    test)
      want default-jre-headless "a Java runtime, 17 or newer: Kafka runs on it" java_17
      want maven "Maven: fetches Kafka" mvn --version
      want zstd "zstdcat: the comparison with the reference reads compressed files" zstdcat --version
      want procps "ps" ps --version
      want chromium-headless-shell "a headless Chromium: the monitor's page is looked at" chromium_is_there
      ;;
    *) die "'$purpose' is none of: build, test" ;;
  esac
done

if [[ ${#missing[@]} -eq 0 ]]; then
  say "system packages for ${*:-build}: all there"
  exit 0
fi

command -v apt-get >/dev/null ||
  die "this system has no apt-get; install what corresponds to: $(printf '%s, ' "${why[@]}" | sed 's/, $//')"
as_root=()
if [[ "$(id -u)" -ne 0 ]]; then
  command -v sudo >/dev/null || die "not root and no sudo; as root run: apt-get install ${missing[*]}"
  as_root=(sudo)
fi

say "installing by apt: ${missing[*]}"
log="$(mktemp)"
trap 'rm -f "$log"' EXIT
apt() {
  ${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get -q -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "$@" \
    </dev/null >"$log" 2>&1 || { tail -n 30 "$log" >&2; return 1; }
}
apt update || die "apt-get update failed, its reason stands above: is the network there, are the sources right?"
apt install --yes --no-install-recommends "${missing[@]}" || die "apt could not install ${missing[*]}: its reason stands above"
say "system packages for ${*:-build}: installed"
