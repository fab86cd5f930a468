#!/usr/bin/env bash
# One real Kafka broker for tests: KRaft (controller and broker in one process), free loopback ports, data in a folder that goes with it.
#
#   kafka.sh start [DIR]          starts it, waits until it answers, prints DCE_TEST_BOOTSTRAP=127.0.0.1:PORT; if it runs, only prints
#   kafka.sh stop [--keep] [DIR]  ends it and removes DIR; with --keep DIR stays, and `start DIR` goes on with its data and ports
#   kafka.sh status [DIR]         prints the same line and exits 0 if it runs, else exits 3
#   kafka.sh tool CLASS ARG…      runs one of Kafka's own commands, such as org.apache.kafka.tools.TopicCommand
#   kafka.sh run -- COMMAND…      starts one, runs COMMAND with DCE_TEST_BOOTSTRAP, ends it whatever happens; gives COMMAND's exit status
#
# DIR is target/kafka of the repository where none is named. In DIR: pid, bootstrap, broker.log, server.properties.
# Takes from the environment: DCE_TEST_BOOTSTRAP (`run` then uses that Kafka and starts nothing), DCE_TEST_KAFKA_JAVA_OPTS (in place of
# the JVM's options for a quick, small start), DCE_TEST_KAFKA_PROPERTIES (lines for a new broker's server.properties, after ours; the last
# one of a name counts), DCE_TEST_KAFKA_WAIT_S (60). `run` also gives the command DCE_TEST_KAFKA_DIR, where the
# broker is ours, for tests that stop and start it. The jars come from deploy/setup/kafka.sh, which is called.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
# shellcheck source=../deploy/setup/common.sh
. "$root/deploy/setup/common.sh"
# The words that server.sh puts into its own.
# shellcheck disable=SC2034
speaker=kafka thing=broker address=bootstrap variable=DCE_TEST_BOOTSTRAP variable_dir=DCE_TEST_KAFKA_DIR

wait_s="${DCE_TEST_KAFKA_WAIT_S:-60}"
read -ra java_opts <<<"${DCE_TEST_KAFKA_JAVA_OPTS:--Xms96m -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1}"
java_opts+=(-XX:-UsePerfData "-Dlog4j2.configurationFile=file:$root/integration/kafka-log4j2.properties")

kafka_tool() { java "${java_opts[@]}" -Ddce.level=warn -cp "$jars/*" "$@"; }

find_program() {
  need java "run deploy/setup/packages.sh test"
  jars="$("$root/deploy/setup/kafka.sh" | tail -n 1)"
}

# answers HOST PORT: does a Kafka answer there? Asks for its API versions, and wants error code 0.
answers() {
  local reply
  reply="$(
    exec 2>/dev/null
    # shellcheck disable=SC2016  # the inner shell expands
    timeout 3 bash -c '
      exec 3<>"/dev/tcp/$1/$2" || exit
      printf "\0\0\0\x0d\0\x12\0\0\0\0\0\x07\0\x03dce" >&3
      head -c 10 <&3 | od -An -v -tx1 | tr -d " \n"' - "$1" "$2"
  )" || return 1
  [[ "${reply:8}" == 000000070000 ]]
}

mark() { echo "$1/server.properties"; }

# shellcheck source=server.sh
. "$root/integration/server.sh"

settings() { # settings DIR BROKER-PORT CONTROLLER-PORT
  cat <<PROPERTIES
process.roles=broker,controller
node.id=1
listeners=BROKER://127.0.0.1:$2,CONTROLLER://127.0.0.1:$3
advertised.listeners=BROKER://127.0.0.1:$2
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=BROKER
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:$3
log.dirs=$1/data

# One node, few internal partitions: quick to start and to find a coordinator.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
num.network.threads=2
num.io.threads=4
log.cleaner.dedupe.buffer.size=8388608
log.index.size.max.bytes=1048576

# Tests say what they want, and wait for little.
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=500
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
# Clicks from years ago must not be deleted for their age.
log.retention.ms=-1
${DCE_TEST_KAFKA_PROPERTIES:-}
PROPERTIES
}

# boot DIR LAUNCHER…: starts the broker that DIR describes and waits for it. 0: it answers. 1: it does not. 2: a port was taken.
boot() {
  local dir="$1" port
  shift
  port="$(sed 's/.*://' "$dir/bootstrap")"
  : >"$dir/broker.log"
  (
    cd "$dir"
    exec setsid "$@" java "${java_opts[@]}" "-Djava.io.tmpdir=$dir/tmp" -XX:+ExitOnOutOfMemoryError "-XX:ErrorFile=$dir/jvm-error.log" \
      -cp "$jars/*" kafka.Kafka "$dir/server.properties"
  ) </dev/null >"$dir/broker.log" 2>&1 &
  # The log line comes when the broker is unfenced and its listeners are open; the answer shows that they are.
  wait_for "$dir" "$!" "$dir/broker.log" is_open "$dir" "$port"
}

is_open() { grep -q 'Kafka Server started' "$1/broker.log" && answers 127.0.0.1 "$2"; }

# up DIR LAUNCHER…: start for both commands; the launcher stands before java.
up() {
  local dir="$1" attempt controller broker status
  shift
  if [[ -f "$dir/server.properties" ]]; then
    status=0
    boot "$dir" "$@" || status=$?
    case "$status" in
      0) return ;;
      2) give_up "$dir" "a port of the stopped broker in $dir ($(cat "$dir/bootstrap") or its controller's) now belongs to another process" ;;
      *) give_up "$dir" "the broker in $dir did not start again within ${wait_s} s" ;;
    esac
  fi
  [[ -z "$(ls -A "$dir" 2>/dev/null)" ]] || die "$dir is not empty and not the folder of a test broker: name another one"
  mkdir -p "$dir/tmp"
  for attempt in 1 2 3 4 5; do
    broker="$(free_port)"
    controller="$(free_port)"
    [[ "$broker" != "$controller" ]] || continue
    settings "$dir" "$broker" "$controller" >"$dir/server.properties"
    echo "127.0.0.1:$broker" >"$dir/bootstrap"
    rm -rf "$dir/data"
    kafka_tool kafka.tools.StorageTool format --cluster-id ZGNlLXRlc3QtYnJva2VyMQ --config "$dir/server.properties" \
      >"$dir/broker.log" 2>&1 || give_up "$dir" "the broker's storage could not be formatted"
    status=0
    boot "$dir" "$@" || status=$?
    case "$status" in
      0) return ;;
      2) say "a port was taken between choosing and opening it (attempt $attempt of 5): trying others" ;;
      *) give_up "$dir" "the broker did not start within ${wait_s} s" ;;
    esac
  done
  give_up "$dir" "no free pair of ports in 5 attempts"
}

remove() { # remove DIR, if it is a broker's
  if [[ -f "$1/server.properties" && -f "$1/bootstrap" ]]; then rm -rf "$1"; fi
}

# Uses the Kafka that DCE_TEST_BOOTSTRAP names. Never returns.
run_on_given() {
  local server host servers
  IFS=, read -ra servers <<<"$DCE_TEST_BOOTSTRAP"
  for server in "${servers[@]}"; do
    host="${server%:*}"
    host="${host#[}"
    if answers "${host%]}" "${server##*:}"; then
      say "using the Kafka at $DCE_TEST_BOOTSTRAP"
      exec "$@"
    fi
  done
  die "no Kafka answers at DCE_TEST_BOOTSTRAP=$DCE_TEST_BOOTSTRAP: start it, or unset the variable to have one started"
}

what="${1:-}"
[[ $# -eq 0 ]] || shift
case "$what" in
  start | stop | status) "$what" "$@" ;;
  run)
    [[ "${1:-}" != -- ]] || shift
    if [[ $# -gt 0 && -n "${DCE_TEST_BOOTSTRAP:-}" ]]; then run_on_given "$@"; fi
    run "$@"
    ;;
  tool)
    find_program
    kafka_tool "$@"
    ;;
  *)
    sed -n '2,/^set -euo/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac
