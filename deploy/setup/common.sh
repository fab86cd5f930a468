# shellcheck shell=bash
# Shared by the set-up scripts: messages, the cache folder, checks. Sourced, never run.
# Gives say, die, need, cache, scratch, renamed_into and python_with; takes DCE_CACHE_DIR, XDG_CACHE_HOME and HOME from the environment.

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

# python_with FOLDER REQUIREMENTS IMPORTS: FOLDER becomes a Python environment with the packages of a requirements file, by
# their hashes, that can import all of "a, b".
python_with() {
  local folder="$1" requirements="$2" imports="$3" site
  scratch
  # Without pip, which some distributions leave out of new environments: the system's installs into it.
  python3 -m venv --without-pip "$SCRATCH/out" || die "python3 cannot make an environment: its reason stands above"
  site="$("$SCRATCH/out/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
  PIP_ROOT_USER_ACTION=ignore python3 -m pip --quiet --disable-pip-version-check --no-cache-dir install --no-deps --require-hashes \
    --only-binary=:all: --target "$site" --requirement "$requirements" >&2 ||
    die "pip could not fetch the packages of $requirements: its reason stands above"
  "$SCRATCH/out/bin/python" -c "import $imports" || die "the packages of $requirements are installed, but Python cannot import them"
  # What may be there is of a Python that was replaced since: it does not work any more.
  rm -rf "$folder"
  renamed_into "$SCRATCH/out" "$folder"
}
