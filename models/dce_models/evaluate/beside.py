"""Features of a session beside its customer's earlier ones, for the floors of the task `owner`."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .handmade import COLUMNS_MAX, DECAYS, HOUR_MS, Blocks, clock, context, dense, numbers, width
from .history import History
from .records import NONE, Ints

Vector = NDArray[np.float32]
PLACES = ("channel", "device_id")  # compared with where the customer was before
SPAN = 1e-3  # an hour of a day that was never seen still has a little probability


@dataclass
class Past:
    """A customer's sessions so far."""

    total: Vector
    decayed: dict[float, Vector]
    seen: list[Counter[int]]  # of each place and attribute, how many sessions had the value
    hours: Vector = field(default_factory=lambda: np.zeros(24, np.float32))
    sessions: int = 0
    end: int | None = None
    highest: Vector = field(default_factory=lambda: np.zeros(0, np.float32))  # of each number, so far


def sessions(h: History, columns: Ints, used: Ints) -> Blocks:
    """A row for each session of `used` (indices in order of time), all its events known; every session is learnt from
    after it was described."""
    v, n = width(columns), len(used)
    column = columns[h.name]
    places = [codes for _, codes in (h.fields[name] for name in PLACES)]
    places += [
        np.nan_to_num(dense(h, a.rows, a.values), nan=NONE).astype(np.int64)
        for a in list(h.attributes.values())[:COLUMNS_MAX]
    ]
    amounts, snapshot = numbers(h), context(h)
    pasts: dict[int, Past] = {}
    decayed = {g: np.zeros((n, 2 * v + 1), np.float32) for g in DECAYS}
    counts = np.zeros((n, 2 * v + 1), np.float32)
    made = Blocks(np.zeros((n, v), np.float32), counts, decayed, np.zeros((n, 0), np.float32))
    more: list[list[float]] = []
    for row, session in enumerate(used.tolist()):
        events = h.session_events[session]
        customer = int(h.session_customer[session])
        past = pasts.get(customer)
        if past is None:
            sums = {g: np.zeros(v, np.float32) for g in DECAYS}
            past = pasts[customer] = Past(np.zeros(v, np.float32), sums, [Counter() for _ in places])
            past.highest = np.full(len(amounts), np.nan, np.float32)
        own = np.bincount(column[events], minlength=v).astype(np.float32)
        made.last[row] = own
        made.counts[row] = [*own, *past.total, cosine(own, past.total)]
        for g in DECAYS:
            made.decayed[g][row] = [*own, *past.decayed[g], cosine(own, past.decayed[g])]
        values = [set(p[events][p[events] >= 0].tolist()) for p in places]
        tops = np.array([top(a[events]) for a in amounts], np.float32)
        start, end = int(h.session_start[session]), int(h.session_end[session])
        hour = start // HOUR_MS % 24
        more.append(
            [
                cosine(own, past.total),
                float(((own > 0) & (past.total == 0)).sum()),
                float(np.log1p(len(events))),
                float(np.log1p((end - start) / 1000 / len(events))),
                float(np.log1p(past.sessions)),
                np.nan if past.end is None else float(np.log1p(max(0, start - past.end) / HOUR_MS)),
                float(np.log((past.hours[hour] + SPAN) / (past.hours.sum() + 24 * SPAN))),
                *(unseen(v, seen, past.sessions) for v, seen in zip(values, past.seen, strict=True)),
                *(x for pair in zip(tops.tolist(), (tops - past.highest).tolist(), strict=True) for x in pair),
                *(top(c[events]) for c in snapshot),
            ]
        )
        learn(past, own, values, tops, hour, end)
    extra = np.array(more, np.float32).reshape(n, -1)
    made.more = np.concatenate([extra, clock(h.session_start[used]).astype(np.float32)], axis=1)
    return made


def learn(past: Past, own: Vector, values: list[set[int]], tops: Vector, hour: int, end: int) -> None:
    past.total += own
    for g in DECAYS:
        past.decayed[g] = past.decayed[g] * g + own
    for seen, found in zip(past.seen, values, strict=True):
        seen.update(found)
    past.hours[hour] += 1
    past.highest = np.fmax(past.highest, tops)
    past.sessions += 1
    past.end = end if past.end is None else max(past.end, end)


def cosine(a: Vector, b: Vector) -> float:
    """Of the square roots, so that one frequent name does not hide the others; 0 where one is empty."""
    norm = float(np.sqrt(a.sum() * b.sum()))
    return float(np.sqrt(a * b).sum()) / norm if norm else 0.0


def unseen(values: set[int], seen: Counter[int], sessions: int) -> float:
    """Of the session's least known value the share of earlier sessions that had it; NaN where it has none."""
    if not values or not sessions:
        return float("nan")
    return min(seen[v] for v in values) / sessions


def top(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(np.sign(known.max()) * np.log1p(abs(known.max()))) if len(known) else float("nan")


def names_of(h: History, used: Ints) -> list[Ints]:
    """Each session's names; where events have none, that is a name of its own, behind all others."""
    return [np.where(h.name[e] == NONE, len(h.names), h.name[e]) for e in (h.session_events[i] for i in used.tolist())]
