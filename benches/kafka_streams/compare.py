"""dce beside the same work in Kafka Streams (Job.java), in turn on one topic: CPU an event, and whether they say the same.

Takes the dce binary and the folder with Kafka Streams' jars (deploy/setup/streams.sh); the Kafka is that of DCE_TEST_BOOTSTRAP, and
its own. Both are looked at from outside: what their group has committed, what /proc says of their process. What counts is from half
to 95 % of the records, when the JVM is warm. The last line is one JSON object; the exit status is 1 where the outputs differ.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BOOTSTRAP = os.environ["DCE_TEST_BOOTSTRAP"]
CLICKS = "streams-clicks"
PARTITIONS = 4
FROM, TO = 0.5, 0.95
TOLERANCE = 1e-4
HOUR_MS = 3_600_000
TICKS = os.sysconf("SC_CLK_TCK")
# The job alone: as much memory as helps. StreamsConfig warns of a later version's default at each start.
LOG = "-Dorg.slf4j.simpleLogger"
JAVA = ["-Xms2g", "-Xmx2g", "-XX:+UseParallelGC", f"{LOG}.defaultLogLevel=warn", f"{LOG}.log.org.apache.kafka.streams.StreamsConfig=error"]


class Sample(NamedTuple):
    """The process at one moment."""

    seconds: float
    committed: int
    cpu_s: float


class Measured(NamedTuple):
    """What a run cost."""

    cpu_us: float
    events_s: float
    resident_mb: float


def consumer(group: str) -> Consumer:
    """Reads what is committed; joins no group."""
    return Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": group, "isolation.level": "read_committed", "enable.auto.commit": False})


def ends(topic: str) -> list[int]:
    """Of each partition."""
    client = consumer("ends")
    found = [client.get_watermark_offsets(TopicPartition(topic, partition))[1] for partition in range(PARTITIONS)]
    client.close()
    return found


def create(*topics: str) -> None:
    """One replica: the broker is alone."""
    admin = AdminClient({"bootstrap.servers": BOOTSTRAP, "log_level": 3})
    for made in admin.create_topics([NewTopic(topic, PARTITIONS, 1) for topic in topics]).values():
        made.result()


def fill(dce: Path, events: int) -> None:
    """A clean bank in order; at the end of each partition a TICK that lets all sessions be over."""
    create(CLICKS)
    command = [dce, "generate", "--to-kafka", "--customers", "20000", "--events", str(events), "--json"]
    subprocess.run([*command, *settings(f"topics.clickstream={CLICKS}")], check=True, stdout=subprocess.DEVNULL)
    client = consumer("fill")
    client.assign([TopicPartition(CLICKS, partition, end - 1) for partition, end in enumerate(ends(CLICKS))])
    last = max(message.timestamp()[1] for message in client.consume(PARTITIONS, timeout=30))
    client.close()
    producer = Producer({"bootstrap.servers": BOOTSTRAP})
    tick = {"event_id": "", "event_time": last + HOUR_MS, "kind": "TICK"}
    for partition in range(PARTITIONS):
        producer.produce(CLICKS, json.dumps(tick), partition=partition, timestamp=last + HOUR_MS)
    producer.flush()


def settings(*pairs: str) -> list[str]:
    """For dce's command line."""
    pairs = (f"kafka.bootstrap={BOOTSTRAP}", "log.level=warn", *pairs)
    return [word for pair in pairs for word in ("--set", pair)]


def dce_command(args: argparse.Namespace, name: str) -> list[str | Path]:
    """Default settings, but for the names."""
    topics = (f"topics.{key}={name}-{key}" for key in ("embeddings", "embeddings_live", "rejected", "state"))
    others = (f"topics.clickstream={CLICKS}", f"app.id={name}", f"model.path={args.model}", "http.listen=off")
    return [args.dce, "run", "--create-topics", *settings(*topics, *others, f"provisional.every_events={args.provisional}")]


def java_command(args: argparse.Namespace, scratch: Path, name: str) -> list[str | Path]:
    """The job's classes stand in the scratch folder."""
    embeddings, live = f"{name}-embeddings", f"{name}-embeddings_live"
    create(embeddings, live)
    job = ["java", *JAVA, "-cp", f"{scratch / 'classes'}:{args.jars}/*", "Job"]
    return [*job, BOOTSTRAP, name, CLICKS, embeddings, args.model, scratch / name, str(args.provisional), live]


def cpu_s(pid: int) -> float:
    """Of all threads, in the kernel too."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mb(pid: int) -> float:
    """At the most."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def measure(command: list[str | Path], group: str, total: int) -> Measured:
    """Runs it until it has committed all of the clicks."""
    process = subprocess.Popen(command, cwd=ROOT)
    client = consumer(group)
    partitions = [TopicPartition(CLICKS, partition) for partition in range(PARTITIONS)]
    samples: list[Sample] = []
    try:
        while not samples or samples[-1].committed < total:
            if process.poll() is not None:
                sys.exit(f"{command[0]} ended with {process.returncode}")
            committed = sum(max(at.offset, 0) for at in client.committed(partitions, timeout=30))
            samples.append(Sample(time.monotonic(), committed, cpu_s(process.pid)))
            time.sleep(0.05)
        resident = resident_mb(process.pid)
    finally:
        client.close()
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    first, last = (next(sample for sample in samples if sample.committed >= share * total) for share in (FROM, TO))
    events = last.committed - first.committed
    if events < total / 10:
        sys.exit("too few events to be measured: more --events")
    return Measured(1e6 * (last.cpu_s - first.cpu_s) / events, events / (last.seconds - first.seconds), resident)


def records(topic: str, partition: int) -> dict[str, list[dict[str, Any]]]:
    """By customer, in order."""
    client, place, found = consumer("compare"), TopicPartition(topic, partition, 0), defaultdict(list)
    end = client.get_watermark_offsets(place)[1]
    client.assign([place])
    # A transaction's marker has an offset too, and no reader gets it: the position passes it.
    while client.position([place])[0].offset < end:
        for message in client.consume(10_000, timeout=1):
            record = json.loads(message.value())
            found[record["customer_id"]].append(record)
    client.close()
    return found


def early(published: list[dict[str, Any]]) -> set[int]:
    """Places of the records that dce, which waits for stragglers, published in another order than the one of its folding.

    A silent session ends 30 minutes after its last click, and dce publishes that 10 s later. What was published meanwhile did not know
    of it. The job waits for nobody.
    """
    found: set[int] = set()
    for place, record in enumerate(published):
        before = {at for at in range(max(0, place - 50), place) if published[at]["as_of"] > (record["closed_at"] or record["as_of"])}
        found |= before | ({place} if before else set())
    return found


def differences(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], passed_over: set[int]) -> list[str]:
    """Of one customer."""

    def session(record: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(record.get(name) for name in ("kind", "session_start", "session_end", "event_count", "opened_by", "close_reason"))

    def apart(ours: list[float], theirs: list[float]) -> float:
        return max(abs(a - b) for a, b in zip(ours, theirs, strict=True))

    others = {session(record): record for record in theirs}
    found = [f"only in one: {key}" for key in {session(record) for record in ours} ^ set(others)]
    if not len(ours) == len(others) == len(theirs):
        found.append(f"{len(ours)} and {len(theirs)} records")
    settled_before = -1
    for place, record in enumerate(ours):
        other = others.get(session(record))
        if other is not None and place not in passed_over:
            if record["scores"].keys() != other["scores"].keys():
                return [*found, f"other heads of {session(record)}"]
            by = {f"score {name}": apart(scores, other["scores"][name]) for name, scores in record["scores"].items()}
            by |= {"embedding": apart(record["embedding"], other["embedding"]), "gate": abs(record["gate"] - other["gate"])}
            by |= {name: abs(record[name] - other[name]) for name in ("sequence", "as_of", "cold_start")}
            if settled_before not in passed_over:
                by["cosine_shift"] = abs((record["cosine_shift"] or 0) - (other.get("cosine_shift") or 0))
            found += [f"{what} of {session(record)}: {much:.1e} apart" for what, much in by.items() if not much <= TOLERANCE]
        if record["close_reason"]:
            settled_before = place
    return found


def compare(ours: str, theirs: str) -> dict[str, int]:
    """Of two topics. Ends the program where they differ."""
    counts, found = {"records": 0, "passed_over": 0}, []
    for partition in range(PARTITIONS):
        our_records, their_records = records(ours, partition), records(theirs, partition)
        for customer in our_records.keys() | their_records.keys():
            published = our_records.get(customer, [])
            passed_over = early(published)
            counts["records"] += len(published)
            counts["passed_over"] += len(passed_over)
            found += [f"{customer}: {what}" for what in differences(published, their_records.get(customer, []), passed_over)]
    if found or not counts["records"] or counts["passed_over"] > counts["records"] / 1_000:
        print(*sorted(found)[:20], f"{len(found)} differences, {counts}", sep="\n", file=sys.stderr)
        sys.exit(1)
    return counts


def in_turn(args: argparse.Namespace, scratch: Path) -> None:
    """All rounds, and what they say."""
    subprocess.run(["javac", "-cp", f"{args.jars}/*", "-d", scratch / "classes", *sorted(HERE.glob("*.java"))], check=True)
    fill(args.dce, args.events)
    total = sum(ends(CLICKS))
    print(f"{'round':>5}  {'':13}  {'CPU µs an event':>15}  {'events/s':>9}  {'resident MB':>11}")
    rounds: dict[str, list[Measured]] = {"dce": [], "kafka_streams": []}
    for number in range(args.rounds):
        names = {who: f"{who.replace('_', '-')}-{number}" for who in rounds}
        commands = {
            "dce": dce_command(args, names["dce"]),
            "kafka_streams": java_command(args, scratch, names["kafka_streams"]),
        }
        for who, command in commands.items():
            one = measure(command, names[who], total)
            rounds[who].append(one)
            print(f"{number + 1:>5}  {who:13}  {one.cpu_us:>15.2f}  {one.events_s:>9,.0f}  {one.resident_mb:>11,.0f}", flush=True)
        topic = "embeddings_live" if args.provisional else "embeddings"
        counts = compare(*(f"{name}-{topic}" for name in names.values()))
    medians = {who: Measured(*(statistics.median(column) for column in zip(*runs, strict=True))) for who, runs in rounds.items()}
    ratio = medians["kafka_streams"].cpu_us / medians["dce"].cpu_us
    same = counts["records"] - counts["passed_over"]
    print(f"dce does {ratio:.1f} times as many events a second and core; {same:,} records are the same in both")
    costs = {who: {name: round(value, 2) for name, value in one._asdict().items()} for who, one in medians.items()}
    print(json.dumps({"streams_ratio": round(ratio, 2), **costs, "events": total, "provisional": args.provisional, **counts}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dce", type=Path)
    parser.add_argument("jars", type=Path)
    parser.add_argument("--events", type=int, default=3_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--provisional", type=int, default=0, help="publish open sessions after every so many events")
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "bank-small")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        in_turn(args, Path(scratch))


if __name__ == "__main__":
    main()
