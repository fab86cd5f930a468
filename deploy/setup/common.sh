# shellcheck shell=bash
# Shared by the set-up scripts: messages, the cache folder, checks. Sourced, never run.
# Gives say, die, need, cache, scratch and renamed_into; takes DCE_CACHE_DIR, XDG_CACHE_HOME and HOME from the environment.

# One line for a person, on stderr: stdout is for results.
speaker=setup
say() { printf '%s: %s\n' "$speaker" "$*" >&2; }

die() {
  say "error: $*"
  exit 1
}

# need PROGRAM WHAT-TO-DO: stops with the fix if the program is missing.
need() { command -v "$1" >/dev/null || die "the program '$1' is missing: $2"; }

# The folder that everything fetched lives in; the same rule stands in the program (src/model).
cache() {
  local dir="${DCE_CACHE_DIR:-${XDG_CACHE_HOME:-${HOME:?set HOME or DCE_CACHE_DIR}/.cache}/dce}"
  mkdir -p "$dir" || die "cannot write the cache folder $dir: set DCE_CACHE_DIR to a folder of yours"
  (cd "$dir" && pwd)
}

# A private folder inside the cache, on the same file system as what it will become. It goes when the script ends.
scratch() {
  SCRATCH="$(mktemp -d "$(cache)/tmp.XXXXXXXX")"
  trap 'rm -rf "$SCRATCH"' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
}

# renamed_into FROM TO: TO appears whole or not at all. If another run was faster, its result stays.
renamed_into() {
  mv -T "$1" "$2" 2>/dev/null || [[ -d "$2" ]] || die "cannot move $1 to $2"
}
