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
speaker=registry

wait_s="${DCE_TEST_REGISTRY_WAIT_S:-90}"
read -ra java_opts <<<"${DCE_TEST_REGISTRY_JAVA_OPTS:--Xms64m -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1}"

find_program() {
  need java "run deploy/setup/packages.sh test"
  program="$("$root/deploy/setup/apicurio.sh" | tail -n 1)"
}

# The registry's pid, if it runs. Its command line names DIR, so a pid that was given to another process is not taken for it.
running() {
  local pid
  pid="$(cat "$1/pid" 2>/dev/null)" || return 1
  [[ -n "$pid" && -r "/proc/$pid/cmdline" ]] && tr '\0' '\n' <"/proc/$pid/cmdline" | grep -qxF -- "-Ddce.dir=$1" && echo "$pid"
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

# A port that nobody listens on, below those that the kernel gives to outgoing connections. Someone may still be faster: see up.
free_port() {
  local port
  while true; do
    port=$((10000 + RANDOM % 22000))
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      echo "$port"
      return
    fi
  done
}

# boot DIR LAUNCHER…: 0: it answers. 1: it does not. 2: its port was taken.
born=""
boot() {
  local dir="$1" url port deadline
  shift
  url="$(cat "$dir/url")"
  port="${url#http://127.0.0.1:}"
  (
    cd "$dir"
    exec setsid "$@" java "${java_opts[@]}" -XX:-UsePerfData -XX:+ExitOnOutOfMemoryError "-Djava.io.tmpdir=$dir/tmp" "-Ddce.dir=$dir" \
      -Dquarkus.http.host=127.0.0.1 "-Dquarkus.http.port=${port%%/*}" -Dapicurio.storage.sql.kind=h2 \
      "-Dapicurio.datasource.url=jdbc:h2:file:$dir/data" -jar "$program"/*-runner.jar
  ) </dev/null >"$dir/registry.log" 2>&1 &
  born=$!
  echo "$born" >"$dir/pid"
  deadline=$((SECONDS + wait_s))
  until answers "$url"; do
    if ! kill -0 "$born" 2>/dev/null; then
      grep -qE 'already in use|BindException' "$dir/registry.log" && return 2
      return 1
    fi
    if ((SECONDS >= deadline)); then
      halt "$dir"
      return 1
    fi
    sleep 0.1
  done
}

halt() { # halt DIR: ends the registry of DIR, if it runs, and waits until it has ended
  local pid tries
  if ! pid="$(running "$1")"; then
    # A child of ours that is not java yet.
    if [[ -n "$born" ]]; then kill -KILL "$born" 2>/dev/null || true; fi
    rm -f "$1/pid"
    return 0
  fi
  kill -TERM "$pid" 2>/dev/null || true
  kill -CONT "$pid" 2>/dev/null || true # a test may have frozen it
  for ((tries = 0; tries < 200; tries++)); do
    running "$1" >/dev/null || break
    sleep 0.05
  done
  if running "$1" >/dev/null; then
    say "the registry did not end within 10 s of SIGTERM: killed"
    kill -KILL "$pid" 2>/dev/null || true
    while running "$1" >/dev/null; do sleep 0.05; done
  fi
  rm -f "$1/pid"
}

give_up() { # give_up DIR WHY
  tail -n 30 "$1/registry.log" >&2
  say "the last lines of the registry's log stand above"
  die "$2"
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

absolute() { realpath -m -- "${1:-$root/target/registry}"; }

start() {
  local dir
  dir="$(absolute "${1:-}")"
  if ! running "$dir" >/dev/null; then
    find_program
    trap 'halt "$dir"; exit 130' INT
    trap 'halt "$dir"; exit 143' TERM HUP
    up "$dir"
    say "registry $(cat "$dir/url") started, pid $(cat "$dir/pid"), in $dir"
  fi
  echo "DCE_TEST_REGISTRY=$(cat "$dir/url")"
}

stop() {
  local dir keep=false
  if [[ "${1:-}" == --keep ]]; then
    keep=true
    shift
  fi
  dir="$(absolute "${1:-}")"
  halt "$dir"
  if $keep; then
    say "no registry runs in $dir; its data and port are kept"
  else
    remove "$dir"
    say "no registry runs in $dir, and it is removed"
  fi
}

status() {
  local dir
  dir="$(absolute "${1:-}")"
  if running "$dir" >/dev/null; then
    echo "DCE_TEST_REGISTRY=$(cat "$dir/url")"
  else
    say "no registry runs in $dir"
    exit 3
  fi
}

run() {
  local status=0 watched=()
  [[ $# -gt 0 ]] || die "usage: registry.sh run -- COMMAND…"
  find_program
  dir="$(mktemp -d "${TMPDIR:-/tmp}/dce-registry.XXXXXXXX")"
  trap finish EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  # Should this script be killed outright, the kernel ends the registry.
  if setpriv --pdeathsig KILL true 2>/dev/null; then watched=(setpriv --pdeathsig KILL); fi
  up "$dir" "${watched[@]+"${watched[@]}"}"
  DCE_TEST_REGISTRY="$(cat "$dir/url")"
  DCE_TEST_REGISTRY_DIR="$dir"
  export DCE_TEST_REGISTRY DCE_TEST_REGISTRY_DIR
  say "registry $DCE_TEST_REGISTRY started; running: $*"
  "$@" || status=$?
  exit "$status"
}

finish() {
  local status=$?
  trap '' INT TERM HUP
  halt "$dir"
  remove "$dir"
  rm -rf "$dir"
  say "registry ended"
  exit "$status"
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
