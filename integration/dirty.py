#!/usr/bin/env python3
"""Makes a stream of clicks dirty, the same way for the same seed: what producers, networks and attackers do to NDJSON.

  dirty.py lines [--seed N] [--share P] [--partitions N] [--flood N] < clicks.ndjson > dirty.ndjson
  dirty.py rules [--seed N]

lines: a share P of the lines is broken in one of the ways of BREAKS, or stands beside another line; customers are spread over N
partitions (a few clicks stray into another one); record times are mostly kept. --flood: one customer's N events come in the middle.
rules: prints random flags for `dce sessions`. Seed 0: none, so the defaults.
Depths of nesting between 100 and 200,000 are left out: what a JSON reader does there depends on the reader.
"""

import argparse
import json
import random
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Any

Click = dict[str, Any]
TEXTS = ("event_id", "customer_id", "session_id", "channel", "device_id", "name")
TIMES = ("event_time", "record_time", "partition")
ODD_VALUES = (
    "null", "true", "false", "0", "1", "-1", "-0", "1.0", "1e3", "1e999", "-5.5", "NaN", "Infinity", "-Infinity", "[]", "{}", "[[]]",
    '""', '" "', '"x"', '"17"', "2147483647", "2147483648", "9223372036854775807", "9223372036854775808", "18446744073709551616",
    "123456789012345678901234567890", r'"\ud800"', r'"\udc00x"', r'"\ud83d\ude00"', r'"\u0000"', r'"\n"', r'"\x"', '"é"',
    "01", "+1", ".5", "1.", "0x10", "1_000", '"unclosed',
)  # fmt: skip
SPACES = (b" ", b"\t", b"\r", b"\x0b", b"\x0c")


def dumped(click: Click) -> bytes:
    return json.dumps(click, separators=(",", ":")).encode()


def with_raw(click: Click, name: str, raw: str) -> bytes:
    """The click with the field written as it stands, whether or not it is JSON."""
    rest = dumped({k: v for k, v in click.items() if k != name})
    return b'{"%s":%s,%s' % (name.encode(), raw.encode(), rest[1:])


# -- the ways to break a line: each gives bytes in place of the click's ------------------------------------------------
def truncated(rng: random.Random, click: Click) -> bytes:
    line = dumped(click)
    return line[: rng.randrange(len(line))]


def flipped(rng: random.Random, click: Click) -> bytes:
    line = bytearray(dumped(click))
    for _ in range(rng.choice((1, 1, 2, 5))):
        line[rng.randrange(len(line))] = rng.randrange(256)
    return bytes(line)


def inserted(rng: random.Random, click: Click) -> bytes:
    line = dumped(click)
    at = rng.randrange(len(line) + 1)
    return line[:at] + rng.choice((b"\xff", b"\x00", b"\xed\xa0\x80", b"\xc3\xa9", b"\\", b'"', b"}", b",", *SPACES)) + line[at:]


def odd_value(rng: random.Random, click: Click) -> bytes:
    return with_raw(click, rng.choice((*TEXTS, *TIMES, "kind", "attributes", "context", "extra")), rng.choice(ODD_VALUES))


def missing(rng: random.Random, click: Click) -> bytes:
    gone = rng.choice(list(click))
    return dumped({k: v for k, v in click.items() if k != gone})


def long_text(rng: random.Random, click: Click) -> bytes:
    text = rng.choice(("n" * 256, "n" * 257, "é" * 128, "é" * 129, "😀" * 64, "😀" * 65, "n" * 1_000))
    name = rng.choice(TEXTS)
    if name == "event_id" and len(text) < 257:  # unique, or it is a duplicate
        return dumped({**click, name: (click["event_id"] + text)[:256] if text[0] == "n" else text})
    # Raw UTF-8 in one half, escapes in the other: the limit is on the bytes of the text, not of the line.
    return json.dumps({**click, name: text}, ensure_ascii=rng.random() < 0.5).encode()


def nested(rng: random.Random, click: Click) -> bytes:
    depth = 200_000 if rng.random() < 0.02 else rng.randint(1, 90)
    opening, closing = rng.choice((("[", "]"), ('{"a":', "}")))
    return with_raw(click, rng.choice(("extra", "extra", "attributes", "name")), opening * depth + "1" + closing * depth)


def twice(rng: random.Random, click: Click) -> bytes:
    """A field twice: the last one counts."""
    name = rng.choice((*TEXTS, *TIMES, "kind"))
    other = rng.choice((*ODD_VALUES[:20], json.dumps(click.get(name))))
    line = dumped(click)
    return line[:-1] + f',"{name}":{other}}}'.encode() if rng.random() < 0.5 else f'{{"{name}":{other},'.encode() + line[1:]


def unknown_field(rng: random.Random, click: Click) -> bytes:
    name = rng.choice(("extra", "Event_Id", "", "event_id ", "é", "\\ud800", "a\\u0000b"))
    return b'{"%s":%s,%s' % (name.encode(), rng.choice(ODD_VALUES).encode(), dumped(click)[1:])


def spelled_otherwise(rng: random.Random, click: Click) -> bytes:
    """The same click for a JSON reader."""
    if rng.random() < 0.5:
        click = dict(rng.sample(list(click.items()), len(click)))
    line = json.dumps(click, separators=rng.choice(((" , ", " : "), (",\t", ":\r"))))
    if rng.random() < 0.5:
        line = line.replace("customer_id", "custom\\u0065r_id").replace("/", "\\/")
    return b" " + line.encode() + b" \r"


def odd_line(rng: random.Random, click: Click) -> bytes:
    """A line that is no object, or one that only looks like a click."""
    line = dumped(click)
    whole = [b"[" + line + b"]", line + line, line + b" x", b"\xef\xbb\xbf" + line, b"null", b"1", b'"x"', b"{}", b"[]", b"{", b"\x00"]
    blank = [b"", b" ", b"\t \r", b"\x0b", b"\x0c ", b"\xc2\xa0", b"\x1c"]
    avro = [b"\xc3\x01" + line[:40].replace(b"\n", b""), b"\x00\x00\x00\x00\x07abc"]
    return rng.choice(whole + blank + avro)


def odd_time(rng: random.Random, click: Click) -> bytes:
    at = click.get("record_time", click["event_time"])
    if rng.random() < 0.05:  # nothing says that this is the future; on a partition of its own, since it ends time there
        end = {**click, "event_time": 2**63 - 1 - rng.choice((0, 1, 5_000)), "partition": 99}
        return dumped({k: v for k, v in end.items() if k != "record_time"})
    time = rng.choice((0, 1, at + 300_000, at + 300_001, at + 10**6, 10**15, 2**63 - 1, at - 10**9, at // 1000, at * 1000))
    return dumped({**click, "event_time": time, "record_time": at})


def odd_record_time(rng: random.Random, click: Click) -> bytes:
    record = {k: v for k, v in click.items() if k != "record_time"}
    time = rng.choice((None, 0, click["event_time"] - 300_000, click["event_time"] - 300_001, 2**63 - 1))
    return dumped({**record, "record_time": time} if rng.random() < 0.7 else record)


def odd_kind(rng: random.Random, click: Click) -> bytes:
    return dumped({**click, "kind": rng.choice(("login", "LOGIN ", "", "CLICK", "LOGIN", "LOGOUT", "ACTION", ["LOGIN"], None, 1))})


def tick(rng: random.Random, click: Click) -> bytes:
    at = click["event_time"]
    line: Click = {"kind": "TICK", "event_time": at + rng.choice((-60_000, 0, 0, 5_000, 200_000)), "partition": click.get("partition", 0)}
    if rng.random() < 0.7:
        line["record_time"] = rng.choice((at, at, at - 10**6))
    if rng.random() < 0.2:
        line |= {rng.choice(TEXTS): rng.choice(("x", "", None, 5, "n" * 257))}
    return dumped(line)


def erase(rng: random.Random, click: Click) -> bytes:
    customer = rng.choice((*[click["customer_id"]] * 6, "", None, 5, "nobody", "n" * 300))
    line: Click = {"kind": "ERASE", "customer_id": customer, "partition": click.get("partition", 0)}
    if rng.random() < 0.3:
        line["event_time"] = click["event_time"]
    if rng.random() < 0.2:
        line["record_time"] = rng.choice((click["event_time"], None, -1, "x"))
    return dumped(line)


BREAKS: tuple[Callable[[random.Random, Click], bytes], ...] = (
    truncated, flipped, inserted, odd_value, missing, long_text, nested, twice, unknown_field, spelled_otherwise, odd_line, odd_time,
    odd_record_time, odd_kind, tick, erase,
)  # fmt: skip
BESIDE = (tick, erase, odd_line)  # lines of their own: the click comes too


def flood(rng: random.Random, like: Click, count: int) -> Iterator[Click]:
    """One customer's events, a few a second: in order first, then out of order within ten seconds, now and then all on one session."""
    start = like["event_time"]
    for n in range(count):
        disorder = 0 if n < count // 2 else rng.randint(-9_000, 9_000)
        kind = rng.choices(("PAGE_VIEW", "ACTION", "LOGIN", "LOGOUT"), (1000, 100, 1, 1))[0]
        time = max(0, start + n * 20 + disorder)
        yield {
            "event_id": f"flood-{n if rng.random() < 0.98 else rng.randrange(count)}", "customer_id": "flood", "event_time": time,
            "kind": kind, "name": "flood", "channel": "web", "partition": like.get("partition", 0), "record_time": start + n * 20 + 9_000,
        }  # fmt: skip


def lines(args: argparse.Namespace) -> Iterator[bytes]:
    rng = random.Random(args.seed)
    clicks = [json.loads(line) for line in sys.stdin]
    for n, click in enumerate(clicks):
        if args.partitions > 1 or rng.random() < 0.5:
            own = zlib.crc32(click["customer_id"].encode()) % args.partitions
            click["partition"] = own if rng.random() < 0.995 else rng.randrange(args.partitions)
        if n == len(clicks) // 2:
            yield from map(dumped, flood(rng, click, args.flood))
        if rng.random() >= args.share:
            yield dumped(click)
        elif rng.random() < 0.2:
            yield rng.choice(BESIDE)(rng, click)
            yield dumped(click)
        else:
            yield rng.choice(BREAKS)(rng, click)


def rules(args: argparse.Namespace) -> list[str]:
    if args.seed == 0:
        return []
    rng = random.Random(args.seed)
    choices = {
        "gap": (1, 60, 300, 1800, 1800, 86400, 12.3456, 1.001),
        "lateness": (0, 0.5, 1, 10, 10, 60, 600),
        "future-max": (0, 1, 300, 300, 1e6),
        "duration-max": (1, 300, 3600, 43200, 43200, 1e7),
        "events-max": (1, 2, 3, 7, 50, 1000, 1000),
        "open-max": (1, 2, 16, 16),
        "revisable-max": (1, 2, 8, 8, 1000),
        "revisions-max": (1, 2, 64, 64, 1000),
        "provisional-every": (0, 0, 1, 3, 10),
    }
    return [f"--{name}={rng.choice(values)}" for name, values in choices.items() if rng.random() < 0.8]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["lines", "rules"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--partitions", type=int, default=1)
    parser.add_argument("--flood", type=int, default=0)
    args = parser.parse_args()
    if args.what == "rules":
        print(*rules(args))
        return
    out = list(lines(args))
    # No newline at the end of the last line: producers forget it.
    sys.stdout.buffer.write(b"\n".join(out))


if __name__ == "__main__":
    main()
