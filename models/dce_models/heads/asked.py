"""Labels to the moments at which a head speaks of them: by the rules of `evaluate.join`, seen from the sessions."""

from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from ..clicks import Session
from ..folder import Label
from .world import Asked, World, last_event

Row = tuple[int, int, int]  # row, events, moment


@dataclass
class Timeline:
    """A customer's sessions by start."""

    rows: list[int]
    sessions: list[Session]
    starts: list[int]
    reach: list[int]  # the latest end of the sessions up to each
    closing: list[int]  # the latest moment at which one of them closed


def timeline(w: World, customer: int) -> Timeline:
    sessions = w.customers[customer].sessions
    order = sorted(range(len(sessions)), key=lambda k: sessions[k].start)
    return Timeline(
        rows=[int(w.first[customer]) + k for k in order],
        sessions=[sessions[k] for k in order],
        starts=[sessions[k].start for k in order],
        reach=list(accumulate((sessions[k].end for k in order), max)),
        closing=list(accumulate((max(sessions[k].end, sessions[k].closed_at) for k in order), max)),
    )


def of_labels(w: World, labels: list[Label], task: str) -> tuple[Asked, list[str]]:
    """The moments, and the answers; labels of which no session tells are left out."""
    rows, kept = found(w, labels, task)
    return asked(rows), [labels[i].label for i in kept]


def told(w: World, labels: list[Label], task: str) -> list[int]:
    """The places of the labels that of_labels does not leave out."""
    return found(w, labels, task)[1]


def found(w: World, labels: list[Label], task: str) -> tuple[list[Row], list[int]]:
    number = {c.customer_id: i for i, c in enumerate(w.customers)}
    timelines: dict[int, Timeline] = {}
    find = containing if task == "owner" else before
    rows: list[Row] = []
    kept: list[int] = []
    for i, label in enumerate(labels):
        customer = number.get(label.customer_id)
        if customer is None:
            continue
        if customer not in timelines:
            timelines[customer] = timeline(w, customer)
        if row := find(timelines[customer], label):
            rows.append(row)
            kept.append(i)
    return rows, kept


def asked(rows: list[Row]) -> Asked:
    table = np.array(rows, np.int64).reshape(-1, 3)
    return Asked(table[:, 0], table[:, 0].copy(), table[:, 1], table[:, 2])


def containing(line: Timeline, label: Label) -> Row | None:
    """The whole session that the moment lies in; of several the one that began last."""
    at = bisect_left(line.starts, label.event_time + 1) - 1
    while at >= 0 and line.reach[at] >= label.event_time:
        session = line.sessions[at]
        named = not label.session_id or session.events[0].get("session_id") == label.session_id
        if session.end >= label.event_time and named:
            return line.rows[at], len(session.events), session.closed_at
        at -= 1
    return None


def before(line: Timeline, label: Label) -> Row | None:
    """What the customer's last record before the moment was about: a session that had closed, at its closing, or one as
    far as it had come, at its last event."""
    last: Row | None = None
    latest = -1
    at = bisect_left(line.starts, label.event_time) - 1
    while at >= 0 and line.closing[at] > latest:
        session = line.sessions[at]
        known = bisect_left(session.events, label.event_time, key=lambda e: e["event_time"])
        closed = known == len(session.events) and session.closed_at < label.event_time
        moment = session.closed_at if closed else session.events[known - 1]["event_time"]
        if moment > latest:
            latest = moment
            last = line.rows[at], known, moment
        at -= 1
    return last


def prefixes(w: World, of: Asked, random: np.random.Generator) -> Asked:
    """The same sessions while they were still open, each at a random length, short ones more often."""
    chosen = np.flatnonzero(of.events > 1)
    longest = of.events[chosen] - 1
    events = np.exp(random.random(len(chosen)) * np.log(longest + 1)).astype(np.int64).clip(1, longest)
    part = Asked(of.row[chosen], of.source[chosen], events, of.moment[chosen])
    return Asked(part.row, part.source, part.events, last_event(w, part))
