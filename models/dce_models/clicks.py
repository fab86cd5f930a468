"""Clicks and the rows of `dce sessions --json` to customers' sessions, in the pipeline's fold order."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .jsonlines import row_of
from .spec import KINDS

GAP_MS = 1_800_000  # session.gap by default
TEXTS = ("kind", "name", "channel", "device_id", "session_id")  # of an event, that can be read
CAPPED = ("EVENTS_MAX", "DURATION_MAX", "EVICTED")  # closed by a limit: what follows on its key is CONTINUED


@dataclass
class Session:
    start: int
    end: int
    closed_at: int
    events: list[dict[str, Any]]
    context: dict[str, float] | None  # of its LOGIN, or inherited from what it continues
    outset: "Session | None" = None  # of one that continues others: the first of them


@dataclass
class Customer:
    customer_id: str
    sessions: list[Session]  # in fold order


def lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.strip():
                yield json.loads(line)


def load(clicks: Path, rows: Path, gap_ms: int = GAP_MS) -> list[Customer]:
    """Reads the clicks once and gives each customer's settled sessions. Open and rejected ones take no part."""
    events: dict[tuple[str, str], dict[str, Any]] = {}
    for click in read_clicks(clicks):
        events.setdefault((click["customer_id"], click["event_id"]), slim(click))
    latest: dict[tuple[str, str], dict[str, Any]] = {}  # the last revision of each session
    customers = []
    for row in lines(rows):
        if row["what"] == "session":
            latest[row["customer_id"], row["uid"]] = row
        elif row["what"] == "customer":
            name = row["customer_id"]
            folds = [latest[name, uid] for uid in row["folds"]]
            customers.append(Customer(name, sessions(name, folds, events, gap_ms)))
    return customers


def slim(click: dict[str, Any]) -> dict[str, Any]:
    """What a model can read of an event, equal texts kept once: millions of events lie in memory."""
    made: dict[str, Any] = {"event_id": click["event_id"], "event_time": click["event_time"]}
    for name in TEXTS:
        value = click.get(name)
        if value:
            made[name] = sys.intern(value) if type(value) is str else value
    for name in ("attributes", "context"):
        if isinstance(click.get(name), dict):
            made[name] = {sys.intern(key): value for key, value in click[name].items()}
    return made


def read_clicks(path: Path) -> Iterator[dict[str, Any]]:
    """The lines that are a customer's events: what the sessionizer rejects as undecodable is skipped here too."""
    with path.open("rb") as file:
        for line in file:
            click = row_of(line)
            if click is None or click.get("kind") not in KINDS:
                continue
            texts = (click.get("customer_id"), click.get("event_id"))
            if all(isinstance(text, str) and text for text in texts) and isinstance(click.get("event_time"), int):
                yield click


def sessions(
    name: str, folds: list[dict[str, Any]], events: dict[tuple[str, str], dict[str, Any]], gap_ms: int
) -> list[Session]:
    made: list[Session] = []
    ended: dict[str, tuple[str, Session]] = {}  # key -> its last session's reason, and it
    latest = 0
    for row in folds:
        own = [events[name, event_id] for event_id in row["events"]]
        context = next((e.get("context") or {} for e in own if e["kind"] == "LOGIN"), None)
        reason, last = ended.get(row["key"], ("", None))
        outset = None
        if row["opened_by"] == "CONTINUED" and reason in CAPPED and last is not None:
            context, outset = last.context, last.outset or last
        # The rows do not carry closed_at; for RELOGIN the end is near enough to train with.
        latest = max(latest, row["end"] + (gap_ms if row["reason"] == "GAP" else 0))
        made.append(Session(row["start"], row["end"], latest, own, context, outset))
        ended[row["key"]] = (row["reason"], made[-1])
    return made
