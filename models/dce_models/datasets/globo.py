"""Globo: clicks on a news portal in sessions (Moreira et al. 2018). The file's columns become ClickEvents as they
are: a click's name is its article; a session's first click is its LOGIN and its last one the LOGOUT, so that no event
is added. Every click with an earlier one in its session is a label `next`, by its place in the stream: `train` before
78 %, `valid` to 80 %, `test` to 82 %; what follows has no labels.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..folder import Label
from . import write

ATTRIBUTES = {
    "environment": "click_environment",
    "device": "click_deviceGroup",
    "os": "click_os",
    "country": "click_country",
    "region": "click_region",
    "referrer": "click_referrer_type",
}
COLUMNS = ("user_id", "session_id", "click_article_id", "click_timestamp", *ATTRIBUTES.values())
TRAIN, VALID, TEST = 0.78, 0.80, 0.82

Row = dict[str, str]


def convert(source: Path, out: Path) -> str:
    """Writes the folder and says what is in it."""
    rows = sorted(write.table(source, COLUMNS), key=lambda row: int(row["click_timestamp"]))  # stable
    made = list(labels(rows))
    with write.whole(out) as draft:
        write.clicks(draft, events(rows))
        write.labels(draft, made)
    counts = {split: sum(label.split == split for label in made) for split in ("train", "valid", "test")}
    return f"{len(rows)} clicks; labels: " + ", ".join(f"{n} {split}" for split, n in counts.items())


def session(row: Row) -> tuple[str, str]:
    return row["user_id"], row["session_id"]


def events(rows: list[Row]) -> Iterator[dict[str, Any]]:
    last = {session(row): i for i, row in enumerate(rows)}
    seen: set[tuple[str, str]] = set()
    for i, row in enumerate(rows):
        first = session(row) not in seen
        seen.add(session(row))
        yield {
            "event_id": f"{i:07}",
            "customer_id": row["user_id"],
            "event_time": int(row["click_timestamp"]),
            "kind": "LOGIN" if first else "LOGOUT" if last[session(row)] == i else "PAGE_VIEW",
            "name": row["click_article_id"],
            "session_id": row["session_id"],
            "attributes": {name: row[column] for name, column in ATTRIBUTES.items()},
        }


def labels(rows: list[Row]) -> Iterator[Label]:
    seen: set[tuple[str, str]] = set()
    ends = [(int(len(rows) * share), split) for share, split in ((TRAIN, "train"), (VALID, "valid"), (TEST, "test"))]
    for i, row in enumerate(rows):
        split = next((name for end, name in ends if i < end), None)
        if split is None:
            return
        if session(row) in seen:
            time, article = int(row["click_timestamp"]), row["click_article_id"]
            yield Label("next", row["user_id"], row["session_id"], time, article, split)
        seen.add(session(row))
