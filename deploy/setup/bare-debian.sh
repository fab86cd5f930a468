#!/usr/bin/env bash
# Shows that no install step is missing: a fresh Debian with nothing but a Rust toolchain and a clone of this repository runs the demo
# and the tests, then the tests again without a network. For developers of the set-up scripts.
#
#   bare-debian.sh DIR [STEP…]      STEP: create, demo, test, offline, ci, shell; without one: create demo test offline
#
# Takes: DIR, made by `create` (3 GB; an existing one is refused), and from the host: root, debootstrap, a Rust toolchain, apt's mirror and
# Acquire settings, the files that configure pip, cargo and Maven, the certificates that the host trusts, name resolution, and the
# environment. ../shared is copied where it is there. DCE_BARE_SUITE (bookworm) and DCE_BARE_MIRROR name another Debian.
# Gives: exit status 0 if every step passed, and its time. Each step runs in namespaces of its own, so nothing stays mounted or running.
# Not committed changes are not in the clone.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../.." && pwd)"
. "$here/common.sh"
speaker=bare-debian

[[ $# -ge 1 ]] || { sed -n '2,/^set -euo/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2; exit 2; }
dir="$(realpath -m -- "$1")"
shift
[[ "$(id -u)" -eq 0 ]] || die "debootstrap and chroot need root"
suite="${DCE_BARE_SUITE:-bookworm}"
inside="$dir/debian"
repository=/srv/dce

# The host's own list of sources for Debian, whatever its format.
host_sources() {
  local file
  for file in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do
    if grep -qE '^(deb |URIs:)' "$file" 2>/dev/null; then
      echo "$file"
      return
    fi
  done
}

host_mirror() {
  local file
  file="$(host_sources)"
  [[ -n "$file" ]] || die "no Debian sources on this host: set DCE_BARE_MIRROR"
  sed -nE 's/^deb (\[[^]]*\] )?([^ ]+) .*/\2/p; s/^URIs: *([^ ]+).*/\1/p' "$file" | head -n 1
}

# Root's home in the bare Debian.
home_inside() { awk -F: '$1 == "root" { print $6 }' "$inside/etc/passwd"; }

# take FILE: the same file inside, if the host has it.
take() {
  if [[ -s "$1" ]]; then
    mkdir -p "$inside$(dirname "$1")"
    cp -L "$1" "$inside$1"
  fi
}

# Certificates that the host trusts beyond Debian's own; the package ca-certificates takes them up when it is installed.
host_certificates() {
  mkdir -p "$inside/usr/local/share/ca-certificates"
  python3 - /etc/ssl/certs/ca-certificates.crt /usr/share/ca-certificates "$inside/usr/local/share/ca-certificates" <<'PYTHON'
import pathlib, re, sys

bundle, known, target = map(pathlib.Path, sys.argv[1:])
blocks = re.compile("-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.S)
bare = lambda text: ["".join(b.split()) for b in blocks.findall(text)]
own = {b for file in known.rglob("*.crt") for b in bare(file.read_text())}
extra = [b for b in (bare(bundle.read_text()) if bundle.exists() else []) if b not in own]
for n, block in enumerate(extra):
    body = "\n".join(block[i : i + 64] for i in range(0, len(block), 64))
    (target / f"host-{n}.crt").write_text(f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
PYTHON
}

create() {
  local sources codename file toolchain
  [[ ! -e "$inside" ]] || die "$inside is already there: remove $dir, or leave out the step create"
  need debootstrap "apt-get install debootstrap"
  need cargo "the clone is built with this host's Rust toolchain"
  mkdir -p "$dir"
  say "a minimal Debian $suite in $inside"
  debootstrap --variant=minbase "$suite" "$inside" "${DCE_BARE_MIRROR:-$(host_mirror)}" >"$dir/debootstrap.log" 2>&1 ||
    { tail -n 20 "$dir/debootstrap.log" >&2; die "debootstrap failed: see $dir/debootstrap.log"; }

  sources="$(host_sources)"
  if [[ -z "${DCE_BARE_MIRROR:-}" ]]; then
    codename="$(. /etc/os-release && echo "${VERSION_CODENAME:-}")"
    rm -f "$inside/etc/apt/sources.list"
    take "$sources"
    sed -i "s/\b$codename\b/$suite/g; s/\b$codename-/$suite-/g" "$inside$sources"
  fi
  while IFS= read -r file; do take "$file"; done < <(grep -lsE '^[[:space:]]*Acquire' /etc/apt/apt.conf /etc/apt/apt.conf.d/* || true)
  for file in /etc/resolv.conf /etc/hosts /etc/pip.conf "$HOME/.config/pip/pip.conf" "$HOME/.pip/pip.conf" \
    "${CARGO_HOME:-$HOME/.cargo}/config.toml" "$HOME/.m2/settings.xml"; do
    take "$file"
  done
  # Where the host's user has another home than the root inside.
  local home
  home="$(home_inside)"
  if [[ "$HOME" != "$home" && -d "$inside$HOME" ]]; then cp -r "$inside$HOME/." "$inside$home/"; fi
  host_certificates

  toolchain="$(rustc --print sysroot)"
  say "the Rust toolchain $(rustc --version)"
  mkdir -p "$inside/opt/rust/lib"
  cp -r "$toolchain/bin" "$inside/opt/rust/"
  cp -r "$toolchain"/lib/*.so* "$inside/opt/rust/lib/"
  cp -r "$toolchain/lib/rustlib" "$inside/opt/rust/lib/"

  say "a clone of $root"
  mkdir -p "$inside/srv"
  git clone --quiet --no-hardlinks "$root" "$inside$repository"
  git -C "$inside$repository" remote remove origin
  if [[ -d "$root/../shared" ]]; then cp -r "$root/../shared" "$inside/srv/shared"; fi
  say "created: $(du -sh "$inside" | cut -f 1)"
}

# inside_debian NETWORK COMMAND: runs it in the clone. NETWORK is host or none. The process namespace ends everything with it.
inside_debian() {
  local namespaces=(--mount --pid --fork --kill-child=KILL) keep=() name value
  if [[ "$1" == none ]]; then namespaces+=(--net); fi
  # The environment goes along, but what names places on the host or in this repository.
  while IFS= read -r -d '' value; do
    name="${value%%=*}"
    case "$name" in
      PATH | HOME | PWD | OLDPWD | SHLVL | SHELL | _ | TMPDIR | LD_* | PYENV_* | PYTHON* | JAVA_HOME | MAVEN_HOME | M2_HOME | CARGO_* | \
        RUSTUP_* | RUSTC* | RUSTFLAGS | XDG_* | DCE_* | ORT_* | LANG | LC_* | MAKE* | MFLAGS) ;;
      *) keep+=("$value") ;;
    esac
  done < <(env -0)
  # shellcheck disable=SC2016  # the inner shells expand
  unshare "${namespaces[@]}" bash -c '
    set -euo pipefail
    mount --make-rprivate /
    mount -t proc proc "$1/proc"
    mount -t tmpfs tmpfs "$1/dev/shm" 2>/dev/null || true
    ip link set lo up 2>/dev/null || true
    exec chroot "$1" "${@:3}" bash -c "cd \"\$1\" && eval \"\$2\"" - /srv/dce "$2"
  ' - "$inside" "$2" env -i "${keep[@]}" HOME="$(home_inside)" LANG=C.UTF-8 PATH=/opt/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin
}

step() { # step NAME NETWORK COMMAND
  local began=$SECONDS
  [[ -d "$inside" ]] || die "no Debian in $inside: run the step create first"
  say "$1: $3"
  inside_debian "$2" "$3" || die "$1 failed"
  say "$1: passed in $((SECONDS - began)) s"
}

[[ $# -gt 0 ]] || set -- create demo test offline
for what in "$@"; do
  case "$what" in
    create) create ;;
    demo) step demo host 'deploy/setup/packages.sh build && make demo ARGS="--events 2000"' ;;
    test) step test host 'deploy/setup/packages.sh build test && make test' ;;
    offline) step offline none 'make test' ;;
    ci) step ci host 'bash .ci/run </dev/null' ;;
    shell) step shell host bash ;;
    *) die "'$what' is no step: create, demo, test, offline, ci, shell" ;;
  esac
done
