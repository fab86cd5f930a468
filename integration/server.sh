# shellcheck shell=bash
# What the scripts of the test servers share: one server in a folder of its own, started, asked after, stopped, or run around a command.
# Sourced by kafka.sh and registry.sh after common.sh, which set before:
#   speaker      the name that messages begin with, and of the default folder target/SPEAKER
#   thing        what runs, for messages: broker, registry
#   address      the file in DIR that has its address
#   variable     the variable that says the address; also in `run`'s environment
#   variable_dir the same for DIR
#   wait_s       how long a start may take
# and define: find_program, up DIR LAUNCHER…, remove DIR, mark DIR (a word of the process's command line that no other has).
# shellcheck disable=SC2154  # they are set by who sources this

# The server's pid, if it runs. Its command line names DIR, so a pid that was given to another process is not taken for it.
running() {
  local pid
  pid="$(cat "$1/pid" 2>/dev/null)" || return 1
  [[ -n "$pid" && -r "/proc/$pid/cmdline" ]] && tr '\0' '\n' <"/proc/$pid/cmdline" 2>/dev/null | grep -qxF -- "$(mark "$1")" && echo "$pid"
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

# wait_for DIR PID LOG READY…: until the command READY… succeeds. 0: it answers. 1: it does not. 2: its port was taken.
wait_for() {
  local dir="$1" pid="$2" log="$3" deadline=$((SECONDS + wait_s))
  shift 3
  born=$pid
  echo "$pid" >"$dir/pid"
  until "$@"; do
    if ! kill -0 "$pid" 2>/dev/null; then
      grep -qE 'already in use|BindException' "$log" && return 2
      return 1
    fi
    if ((SECONDS >= deadline)); then
      halt "$dir"
      return 1
    fi
    sleep 0.1
  done
}

born=""
halt() { # halt DIR: ends the server of DIR, if it runs, and waits until it has ended
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
    say "the $thing did not end within 10 s of SIGTERM: killed"
    kill -KILL "$pid" 2>/dev/null || true
    while running "$1" >/dev/null; do sleep 0.05; done
  fi
  rm -f "$1/pid"
}

give_up() { # give_up DIR WHY
  tail -n 30 "$1/$thing.log" >&2
  say "the last lines of the $thing's log stand above"
  die "$2"
}

absolute() { realpath -m -- "${1:-$root/target/$speaker}"; }

start() {
  local dir
  dir="$(absolute "${1:-}")"
  if ! running "$dir" >/dev/null; then
    find_program
    trap 'halt "$dir"; exit 130' INT
    trap 'halt "$dir"; exit 143' TERM HUP
    up "$dir"
    say "$thing $(cat "$dir/$address") started, pid $(cat "$dir/pid"), in $dir"
  fi
  echo "$variable=$(cat "$dir/$address")"
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
    say "no $thing runs in $dir; its data and ports are kept"
  else
    remove "$dir"
    say "no $thing runs in $dir, and it is removed"
  fi
}

status() {
  local dir
  dir="$(absolute "${1:-}")"
  if running "$dir" >/dev/null; then
    echo "$variable=$(cat "$dir/$address")"
  else
    say "no $thing runs in $dir"
    exit 3
  fi
}

run() {
  local status=0 watched=()
  [[ $# -gt 0 ]] || die "usage: $speaker.sh run -- COMMAND…"
  find_program
  dir="$(mktemp -d "${TMPDIR:-/tmp}/dce-$speaker.XXXXXXXX")"
  command=""
  trap finish EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  # Should this script be killed outright, the kernel ends the server.
  if setpriv --pdeathsig KILL true 2>/dev/null; then watched=(setpriv --pdeathsig KILL); fi
  up "$dir" "${watched[@]+"${watched[@]}"}"
  export "$variable=$(cat "$dir/$address")" "$variable_dir=$dir"
  say "$thing ${!variable} started; running: $*"
  # A process group of its own, so that all of it can be ended. It would be stopped if it read from the terminal.
  set -m
  if [[ -t 0 ]]; then "$@" </dev/null & else "$@" <&0 & fi
  command=$!
  set +m
  wait "$command" || status=$?
  exit "$status"
}

finish() {
  local status=$? tries
  trap '' INT TERM HUP
  if [[ -n "$command" ]] && kill -TERM -- "-$command" 2>/dev/null; then
    for ((tries = 0; tries < 100; tries++)); do
      kill -0 -- "-$command" 2>/dev/null || break
      sleep 0.05
    done
    kill -KILL -- "-$command" 2>/dev/null || true
  fi
  halt "$dir"
  remove "$dir"
  rm -rf "$dir"
  say "$thing ended"
  exit "$status"
}
