"""Flags sessions in which a customer's embedding moves further than is usual: a reader as a fraud team would begin one.

It reads the live topic, so a session is judged while it is open. `flag_takeovers/` does the same in Rust, line by line.
"$(deploy/setup/python-clients.sh | tail -n 1)" examples/flag_takeovers.py HOST:PORT [--topic T] [--until-end] [--labels labels.csv]
"""

import argparse
import csv
import json
from array import array
from bisect import insort_left
from collections import defaultdict
from pathlib import Path
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

ALWAYS = 0.99  # Beyond this quantile of the usual distances a session is flagged,
NEW_DEVICE = 0.5  # and beyond this one if the customer was never seen with its device.
OWN_MIN = 20  # With so many distances a customer is measured by his own, else by everybody's.
ALL_MIN = 200  # Before nothing is usual.
DISTANCES_MAX = 2000


class Customer:
    def __init__(self) -> None:
        self.sequence = 0
        self.last: tuple[str, array] | None = None  # Model and vector of the last settled record.
        self.distances: list[float] = []  # Between settled ones, in order of size.
        self.devices: set[str] = set()


class Detector:
    def __init__(self) -> None:
        self.customers: defaultdict[str, Customer] = defaultdict(Customer)
        # By partition: what is flagged does not depend on how a reader mixes them.
        self.all: defaultdict[int, list[float]] = defaultdict(list)
        self.compared: dict[str, bool] = {}  # Sessions, and whether a label says that they are a thief's.
        self.flagged: dict[str, str] = {}
        self.gaps = self.repeats = 0

    def see(self, partition: int, record: dict[str, Any], is_stolen: bool) -> None:
        name, sequence, uid = record["customer_id"], record["sequence"], record["session_uid"]
        customer = self.customers[name]
        if 0 < customer.sequence >= sequence:
            self.repeats += 1  # Read committed there is none; another reader keeps the first.
            print(f"repeat customer={name} sequence={sequence}")
            return
        if 0 < customer.sequence < sequence - 1:
            self.gaps += 1
            print(f"gap customer={name} sequence={sequence} after {customer.sequence}")
        customer.sequence = sequence
        vector, device = array("f", record["embedding"]), record["device_id"] or ""
        # Vectors of two models cannot be compared, and a cold start has nothing before it.
        is_comparable = customer.last and customer.last[0] == record["model"] and not record["cold_start"]
        moved = distance(customer.last[1], vector) if is_comparable else None
        if moved is not None and len(self.all[partition]) >= ALL_MIN:
            is_new = device not in customer.devices
            usual = customer.distances if len(customer.distances) >= OWN_MIN else self.all[partition]
            limit = quantile(usual, NEW_DEVICE if is_new else ALWAYS)
            self.compared[uid] = self.compared.get(uid, False) or is_stolen
            why = ("new-device" if is_new else "distance") if moved > limit else None
            why = "gate" if record["gate"] < 0.5 else why  # The model itself kept the session out of the state.
            if why and uid not in self.flagged:
                where = f"customer={name} session={uid} distance={moved:.4f} limit={limit:.4f}"
                print(f"flag {where} as_of={record['as_of']} device={device} why={why}", flush=True)
                self.flagged[uid] = why
        if record["kind"] != "PROVISIONAL" and record["gate"] >= 0.5:
            if moved is not None:
                learn(customer.distances, moved)
                learn(self.all[partition], moved)
            customer.last = (record["model"], vector)
            customer.devices.add(device)

    def score(self) -> None:
        stolen = sum(self.compared.values())
        print(f"base rate: {share(stolen, len(self.compared))} sessions")
        for why in ("any", "distance", "gate", "new-device"):
            flagged = [uid for uid, by in self.flagged.items() if why in ("any", by)]
            right = sum(self.compared[uid] for uid in flagged)
            print(f"why={why}: precision {share(right, len(flagged))}, recall {share(right, stolen)}")


def distance(a: array, b: array) -> float:
    """1 - cosine; the vectors have unit length. Added up one by one: `sum` has an arithmetic of its own since 3.12."""
    product = 0.0
    for x, y in zip(a, b, strict=True):
        product += x * y
    return 1.0 - product


def learn(distances: list[float], moved: float) -> None:
    insort_left(distances, moved)
    if len(distances) > DISTANCES_MAX:  # Every second one: the quantiles stay, and what is new weighs more.
        distances[:] = distances[::2]


def quantile(distances: list[float], share: float) -> float:
    return distances[int(len(distances) * share)]


def share(part: int, of: int) -> str:
    return f"{part} of {of} ({part / max(1, of):.4f})"


def read_labels(path: Path) -> set[tuple[str, int]]:
    rows = csv.DictReader(path.read_text().splitlines())
    return {(row["customer_id"], int(row["event_time"])) for row in rows if (row["task"], row["label"]) == ("owner", "1")}


def main() -> None:
    parser = argparse.ArgumentParser(description="flag takeovers in a topic of embeddings")
    parser.add_argument("bootstrap", help="HOST:PORT")
    parser.add_argument("--topic", default="customer-embeddings-live")
    parser.add_argument("--until-end", action="store_true", help="stop at the end of the topic")
    parser.add_argument("--labels", type=Path, help="labels.csv: precision and recall at the end")
    arguments = parser.parse_args()
    thefts = read_labels(arguments.labels) if arguments.labels else set()
    settings = {"bootstrap.servers": arguments.bootstrap, "group.id": "flag-takeovers", "enable.partition.eof": True}
    settings["isolation.level"] = "read_committed"  # Without it records of aborted epochs are seen, and come again.
    settings["enable.auto.commit"] = False  # What it learns is in memory, so it begins at the beginning.
    consumer = Consumer(settings)
    ahead = set(consumer.list_topics(arguments.topic, timeout=15).topics[arguments.topic].partitions)
    if not ahead:
        raise SystemExit(f"topic {arguments.topic} does not exist")
    consumer.assign([TopicPartition(arguments.topic, partition, OFFSET_BEGINNING) for partition in ahead])
    detector, records = Detector(), 0
    while ahead or not arguments.until_end:
        message = consumer.poll(1.0)
        if message is None:
            continue
        if error := message.error():
            if error.code() != KafkaError._PARTITION_EOF:
                raise KafkaException(error)
            ahead.discard(message.partition())
            continue
        records += 1
        if message.value() is None:
            detector.customers.pop((message.key() or b"").decode(), None)  # Erased.
            continue
        record = json.loads(message.value())  # With encoding = "avro" it is fastavro that reads it.
        detector.see(message.partition(), record, (record["customer_id"], record["session_start"]) in thefts)
    found = f"compared {len(detector.compared)} sessions, flagged {len(detector.flagged)}"
    print(f"read {records} records; {found}; {detector.gaps} gaps, {detector.repeats} repeats")
    if arguments.labels:
        detector.score()


if __name__ == "__main__":
    main()
