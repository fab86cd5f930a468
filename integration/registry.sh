#!/usr/bin/env bash
# One real schema registry for tests: Apicurio with Confluent's API, on a free loopback port, its data in a file that goes with it.
#
#   registry.sh start [DIR]          starts it, waits until it answers, prints DCE_TEST_REGISTRY=URL; if it runs, only prints
#   registry.sh stop [--keep] [DIR]  ends it and removes DIR; with --keep DIR stays, and `start DIR` goes on with its data and port
#   registry.sh status [DIR]         prints the same line and exits 0 if it runs, else exits 3
#   registry.sh run -- COMMAND…      starts one, runs COMMAND with DCE_TEST_REGISTRY, ends it whatever happens; gives its exit status
#
# DIR is target/registry of the repository where none is named. In DIR: pid, url, registry.log, data.mv.db.
# Takes from the environment: DCE_TEST_REGISTRY_JAVA_OPTS (in place of the JVM's options), DCE_TEST_REGISTRY_WAIT_S (90).
# `run` also gives the command DCE_TEST_REGISTRY_DIR, for `stop --keep` and `start` in between.
# The program comes from deploy/setup/apicurio.sh, which is called.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
# shellcheck source=../deploy/setup/common.sh
. "$root/deploy/setup/common.sh"
# The words that server.sh puts into its own.
# shellcheck disable=SC2034
speaker=registry thing=registry address=url variable=DCE_TEST_REGISTRY variable_dir=DCE_TEST_REGISTRY_DIR

wait_s="${DCE_TEST_REGISTRY_WAIT_S:-90}"
read -ra java_opts <<<"${DCE_TEST_REGISTRY_JAVA_OPTS:--Xms64m -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1}"

find_program() {
  need java "run deploy/setup/packages.sh test"
  program="$("$root/deploy/setup/apicurio.sh" | tail -n 1)"
}

# answers URL: a list of subjects?
answers() {
  local address="${1#http://}" reply
  reply="$(
    exec 2>/dev/null
    # shellcheck disable=SC2016  # the inner shell expands
    timeout 5 bash -c '
      exec 3<>"/dev/tcp/${1%:*}/${1#*:}" || exit
      printf "GET %s/subjects HTTP/1.0\r\n\r\n" "$2" >&3
      head -c 200 <&3' - "${address%%/*}" "/${address#*/}"
  )" || return 1
  [[ "$reply" == "HTTP/1."*" 200 "* ]]
}

mark() { echo "-Ddce.dir=$1"; }

# shellcheck source=server.sh
. "$root/integration/server.sh"

# boot DIR LAUNCHER…: 0: it answers. 1: it does not. 2: its port was taken.
boot() {
  local dir="$1" url port
  shift
  url="$(cat "$dir/url")"
  port="${url#http://127.0.0.1:}"
  (
    cd "$dir"
    exec setsid "$@" java "${java_opts[@]}" -XX:-UsePerfData -XX:+ExitOnOutOfMemoryError "-Djava.io.tmpdir=$dir/tmp" "-Ddce.dir=$dir" \
      -Dquarkus.http.host=127.0.0.1 "-Dquarkus.http.port=${port%%/*}" -Dapicurio.storage.sql.kind=h2 \
      "-Dapicurio.datasource.url=jdbc:h2:file:$dir/data" -jar "$program"/*-runner.jar
  ) </dev/null >"$dir/registry.log" 2>&1 &
  wait_for "$dir" "$!" "$dir/registry.log" answers "$url"
}

# up DIR LAUNCHER…: start for both commands; the launcher stands before java.
up() {
  local dir="$1" attempt status
  shift
  if [[ -f "$dir/url" ]]; then
    status=0
    boot "$dir" "$@" || status=$?
    case "$status" in
      0) return ;;
      2) give_up "$dir" "the port of the stopped registry in $dir ($(cat "$dir/url")) now belongs to another process" ;;
      *) give_up "$dir" "the registry in $dir did not start again within ${wait_s} s" ;;
    esac
  fi
  [[ -z "$(ls -A "$dir" 2>/dev/null)" ]] || die "$dir is not empty and not the folder of a test registry: name another one"
  mkdir -p "$dir/tmp"
  for attempt in 1 2 3 4 5; do
    echo "http://127.0.0.1:$(free_port)/apis/ccompat/v7" >"$dir/url"
    rm -f "$dir"/data.*
    status=0
    boot "$dir" "$@" || status=$?
    case "$status" in
      0) return ;;
      2) say "the port was taken between choosing and opening it (attempt $attempt of 5): trying another" ;;
      *) give_up "$dir" "the registry did not start within ${wait_s} s" ;;
    esac
  done
  give_up "$dir" "no free port in 5 attempts"
}

remove() { # remove DIR, if it is a registry's
  if [[ -f "$1/url" && -f "$1/registry.log" ]]; then rm -rf "$1"; fi
}

what="${1:-}"
[[ $# -eq 0 ]] || shift
case "$what" in
  start | stop | status) "$what" "$@" ;;
  run)
    [[ "${1:-}" != -- ]] || shift
    run "$@"
    ;;
  *)
    sed -n '2,/^set -euo/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac
