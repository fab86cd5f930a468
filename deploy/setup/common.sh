# shellcheck shell=bash
# Shared by the set-up scripts: messages, the cache folder, checks. Sourced, never run.
# Gives say, die, need, cache, scratch, renamed_into, maven, verified, jars and python_with; takes DCE_CACHE_DIR, XDG_CACHE_HOME and
# HOME from the environment.

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

# maven WHAT ARGUMENT…: runs Maven with a repository of its own in the scratch folder; if it fails, says that WHAT was not fetched.
maven() {
  local what="$1"
  shift
  mvn --quiet --batch-mode "-Dmaven.repo.local=$SCRATCH/repository" "$@" >"$SCRATCH/maven.log" 2>&1 ||
    { tail -n 20 "$SCRATCH/maven.log" >&2; die "Maven could not fetch $what: its reason stands above"; }
}

# verified FOLDER HASHES: are exactly the listed files there, each with its hash? Says what differs.
verified() {
  (cd "$1" && sha256sum --check --quiet --strict "$2" >&2 && [[ "$(find . -type f | wc -l)" -eq "$(wc -l <"$2")" ]])
}

# jars WHAT SIZE FOLDER HASHES POM EDIT [--learn]: FOLDER/libs becomes the jars that a pom names after sed's EDIT of it, and is printed.
# With --learn the file of their hashes is written anew.
jars() {
  local what="$1" size="$2" folder="$3" hashes="$4" pom="$5" edit="$6" learn="${7:-}"
  if [[ "$learn" != --learn && -d "$folder/libs" ]]; then
    if verified "$folder/libs" "$hashes"; then
      say "$what: in the cache"
      echo "$folder/libs"
      return
    fi
    say "$what: the jars in the cache are not those of ${hashes##*/}, so they are fetched anew"
    rm -rf "$folder"
  fi

  need mvn "run deploy/setup/packages.sh test"
  say "$what: fetching the jars from Maven Central ($size)"
  scratch
  sed "$edit" "$pom" >"$SCRATCH/pom.xml"
  maven "$what" --file "$SCRATCH/pom.xml" dependency:copy-dependencies "-DoutputDirectory=$SCRATCH/out/libs"
  if [[ "$learn" == --learn ]]; then
    (cd "$SCRATCH/out/libs" && LC_ALL=C sha256sum -- *.jar) >"$hashes"
    say "wrote $(wc -l <"$hashes") hashes to ${hashes##*/}: read its diff before you commit it"
    rm -rf "$folder"
  fi
  verified "$SCRATCH/out/libs" "$hashes" || die "$what: what Maven fetched is not what ${hashes##*/} lists; nothing was installed"
  renamed_into "$SCRATCH/out" "$folder"
  say "$what: now in the cache"
  echo "$folder/libs"
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
