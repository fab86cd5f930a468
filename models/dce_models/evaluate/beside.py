"""Features of a session beside its customer's earlier ones, for the floors of the task `owner`."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .handmade import COLUMNS_MAX, DECAYS, HOUR_MS, Blocks, clock, context, numbers, width
from .history import Attribute, History
from .records import NONE, Ints

Vector = NDArray[np.float32]
Mask = NDArray[np.bool_]
CHUNK = 16_384  # sessions that are described together
PLACES = ("channel", "device_id")  # compared with where the customer was before
SPAN = 1e-3  # an hour of a day that was never seen still has a little probability


@dataclass
class Seen:
    """A session as it is described and learnt from."""

    own: Vector  # counts of its names
    values: list[list[int]]  # of each place and attribute
    top: Vector  # of each number the largest
    events: int
    start: int
    end: int


class Past:
    """A customer's sessions so far."""

    def __init__(self, names: int, places: int, amounts: int) -> None:
        self.total = np.zeros(names, np.float32)
        self.decayed = {g: np.zeros(names, np.float32) for g in DECAYS}
        self.seen: list[Counter[int]] = [Counter() for _ in range(places)]  # how many sessions had each value
        self.hours = np.zeros(24, np.float32)
        self.sessions = 0
        self.end: int | None = None
        self.highest = np.full(amounts, np.nan, np.float32)  # of each number, so far

    def learn(self, s: Seen) -> None:
        self.total += s.own
        for g in DECAYS:
            self.decayed[g] = self.decayed[g] * g + s.own
        for seen, found in zip(self.seen, s.values, strict=True):
            seen.update(found)
        self.hours[s.start // HOUR_MS % 24] += 1
        self.highest = np.fmax(self.highest, s.top)
        self.sessions += 1
        self.end = s.end if self.end is None else max(self.end, s.end)


def sessions(h: History, columns: Ints, used: Ints, wanted: Mask) -> Iterator[tuple[Ints, Blocks]]:
    """The rows of `used` (sessions in order of time) that are wanted, some thousands at a time, all their events known;
    every session is learnt from after it was described."""
    v, n = width(columns), len(used)
    column = columns[h.name]
    compared = [h.fields[name] for name in PLACES] + list(h.attributes.values())[:COLUMNS_MAX]
    places = [kinds(h, a) for a in compared]
    amounts = [tops(h, *pair) for pair in numbers(h)]
    snapshot = [tops(h, *pair) for pair in context(h)]
    pasts: dict[int, Past] = {}
    for rows in np.array_split(np.arange(n), 1 + n // CHUNK):
        described = rows[wanted[rows]]
        made = blank(len(described), v)
        more: list[list[float]] = []
        for row in rows.tolist():
            session = int(used[row])
            customer = int(h.session_customer[session])
            past = pasts.get(customer)
            if past is None:
                past = pasts[customer] = Past(v, len(places), len(amounts))
            s = Seen(
                own=np.bincount(column[h.session_events[session]], minlength=v).astype(np.float32),
                values=[codes[bounds[session] : bounds[session + 1]].tolist() for bounds, codes in places],
                top=np.array([a[session] for a in amounts], np.float32),
                events=len(h.session_events[session]),
                start=int(h.session_start[session]),
                end=int(h.session_end[session]),
            )
            if wanted[row]:
                at = len(more)
                made.last[at] = s.own
                made.counts[at] = [*s.own, *past.total, cosine(s.own, past.total)]
                for g in DECAYS:
                    made.decayed[g][at] = [*s.own, *past.decayed[g], cosine(s.own, past.decayed[g])]
                more.append([*circumstances(s, past), *(float(c[session]) for c in snapshot)])
            past.learn(s)
        if not more:
            continue
        extra = np.array(more, np.float32).reshape(len(described), -1)
        made.more = np.concatenate([extra, clock(h.session_start[used[described]]).astype(np.float32)], axis=1)
        yield described.astype(np.int64), made


def blank(rows: int, v: int) -> Blocks:
    last, counts, more = (np.zeros((rows, n), np.float32) for n in (v, 2 * v + 1, 0))
    return Blocks(last, counts, {g: np.zeros_like(counts) for g in DECAYS}, more)


def circumstances(s: Seen, past: Past) -> list[float]:
    """What a person would look at."""
    hour = s.start // HOUR_MS % 24
    return [
        cosine(s.own, past.total),
        float(((s.own > 0) & (past.total == 0)).sum()),
        float(np.log1p(s.events)),
        float(np.log1p((s.end - s.start) / 1000 / s.events)),
        float(np.log1p(past.sessions)),
        np.nan if past.end is None else float(np.log1p(max(0, s.start - past.end) / HOUR_MS)),
        float(np.log((past.hours[hour] + SPAN) / (past.hours.sum() + 24 * SPAN))),
        *(unseen(v, seen, past.sessions) for v, seen in zip(s.values, past.seen, strict=True)),
        *(x for pair in zip(s.top.tolist(), (s.top - past.highest).tolist(), strict=True) for x in pair),
    ]


def tops(h: History, rows: Ints, values: NDArray[np.float64]) -> Vector:
    """The largest of each session's values, by the logarithm of its size; NaN where it has none."""
    session = h.session[rows]
    known = (session != NONE) & ~np.isnan(values)
    most = np.full(len(h.session_events), -np.inf)
    np.maximum.at(most, session[known], values[known])
    most[most == -np.inf] = np.nan
    return np.asarray(np.sign(most) * np.log1p(np.abs(most)), np.float32)


def kinds(h: History, a: Attribute) -> tuple[Ints, Ints]:
    """Each session's distinct values: where its own begin, and all of them."""
    session = h.session[a.rows]
    known = session != NONE
    step = int(a.values.max(initial=0)) + 1
    pairs = np.unique(session[known] * step + a.values[known])
    bounds = np.searchsorted(pairs, np.arange(len(h.session_events) + 1) * step)
    return bounds.astype(np.int64), pairs % step


def cosine(a: Vector, b: Vector) -> float:
    """Of the square roots, so that one frequent name does not hide the others; 0 where one is empty."""
    norm = float(np.sqrt(a.sum() * b.sum()))
    return float(np.sqrt(a * b).sum()) / norm if norm else 0.0


def unseen(values: list[int], seen: Counter[int], sessions: int) -> float:
    """Of the session's least known value the share of earlier sessions that had it; NaN where it has none."""
    if not values or not sessions:
        return float("nan")
    return min(seen[v] for v in values) / sessions


def names_of(h: History, used: Ints) -> list[Ints]:
    """Each session's names; where events have none, that is a name of its own, behind all others."""
    return [np.where(h.name[e] == NONE, len(h.names), h.name[e]) for e in (h.session_events[i] for i in used.tolist())]
