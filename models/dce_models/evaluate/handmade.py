"""Features that need no model, for the floors: what a customer did, as of a moment, or beside one of his sessions.

Blocks: `last` (the last session), `counts` (everything so far), `decayed` (sessions' counts, each session weighing less
than the one after it) and `more` (times, money, devices: what a person would think of for boosted trees).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .history import FIELDS, History
from .records import NONE, Ints

Matrix = NDArray[np.float32]
Sparse = tuple[Ints, NDArray[np.float64]]  # the events that have a value, and the values

NAMES_MAX = 200  # columns of the counts: the most frequent names, and one for the rest
DECAYS = (0.5, 0.8, 0.95)
COLUMNS_MAX = 12  # of the attributes, and of the context
VALUES_MAX = 64  # an attribute with more values is no category
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


@dataclass
class Blocks:
    last: Matrix
    counts: Matrix
    decayed: dict[float, Matrix]
    more: Matrix


def columns_of(h: History, until: int | None) -> Ints:
    """Each name's column: the names most frequent before `until` have their own, all others (and none) the last."""
    known = h.name[h.name != NONE] if until is None else h.name[(h.name != NONE) & (h.time < until)]
    counts = np.bincount(known, minlength=len(h.names)).tolist()
    texts = list(h.names.of)
    # By text where they are as frequent: an order that no later event moves.
    common = sorted((n for n, count in enumerate(counts) if count), key=lambda n: (-counts[n], texts[n]))[:NAMES_MAX]
    made = np.full(len(h.names) + 1, len(common), np.int64)  # NONE, -1, is the last place
    made[common] = np.arange(len(common))
    return made


def width(columns: Ints) -> int:
    return int(columns.max()) + 1


# -- as of a moment ----------------------------------------------------------------------------------------------------


def as_of(h: History, customer: Ints, time: Ints, columns: Ints) -> Blocks:
    """Row i: what was known of the customer before `time` (events with event_time < time alone)."""
    n, v = len(customer), width(columns)
    decayed = {g: np.zeros((n, v), np.float32) for g in DECAYS}
    made = Blocks(np.zeros((n, v), np.float32), np.zeros((n, v), np.float32), decayed, np.zeros((n, 0), np.float32))
    end = last_events(h, customer, time)
    column = columns[h.name]
    for rows, events in by_customer(customer, end, h):
        total, current = np.zeros(v, np.float32), np.zeros(v, np.float32)
        sums = {g: np.zeros(v, np.float32) for g in DECAYS}
        session, at = NONE - 1, events.start
        for row in rows.tolist():
            while at < end[row]:
                if h.session[at] != session:
                    session = int(h.session[at])
                    for g in DECAYS:
                        sums[g] = sums[g] * g + current
                    current = np.zeros(v, np.float32)
                current[column[at]] += 1
                total[column[at]] += 1
                at += 1
            made.last[row], made.counts[row] = current, total
            for g in DECAYS:
                made.decayed[g][row] = sums[g] * g + current
    made.more = circumstances(h, customer, time, end)
    return made


def last_events(h: History, customer: Ints, time: Ints) -> Ints:
    """One behind the customer's last event before the time (his first row where there is none)."""
    moments = np.unique(h.time)
    step = len(moments) + 1
    keys = h.customer * step + np.searchsorted(moments, h.time)
    return np.searchsorted(keys, customer * step + np.searchsorted(moments, time)).astype(np.int64)


def by_customer(customer: Ints, end: Ints, h: History) -> Iterator[tuple[Ints, slice]]:
    """Each customer's rows in order of time, and his events."""
    order = np.lexsort((end, customer))
    for rows in np.split(order, np.flatnonzero(np.diff(customer[order])) + 1):
        if len(rows):
            yield rows, h.of_customer(int(customer[rows[0]]))


def circumstances(h: History, customer: Ints, time: Ints, end: Ints) -> Matrix:
    """Times, numbers and categories as they stood before each moment; NaN for what is not known."""
    first = np.searchsorted(h.customer, customer)
    known = end > first
    last = np.where(known, end - 1, 0)
    made = [clock(time)]
    if len(h.time):
        since = np.where(known, (time - h.time[last]) / HOUR_MS, np.nan)
        age = np.where(known, (time - h.time[np.minimum(first, len(h.time) - 1)]) / DAY_MS, np.nan)
        opened = starts(h)
        visits = [opened[end] - opened[np.maximum(first, last_events(h, customer, time - d * DAY_MS))] for d in (1, 7)]
        made += [np.log1p(np.stack([since, age, end - first, opened[end] - opened[first], *visits], axis=1))]
        session = np.where(known, h.session[last], NONE)
        length = np.where(session != NONE, end - session_first(h)[session], np.nan)
        made.append(np.log1p(length)[:, None])
        for rows, given in (*context(h), *numbers(h), *categories(h)):
            values = dense(h, rows, given)  # one column of all events at a time
            filled = latest(values)
            made.append(np.where(known & (filled[last] >= first), values[filled[last]], np.nan)[:, None])
    return np.concatenate(made, axis=1).astype(np.float32)


def starts(h: History) -> Ints:
    """How many sessions had begun before each row, and one more at the end."""
    begins = np.zeros(len(h.time) + 1, np.int64)
    for events in h.session_events:
        begins[events[0] + 1] += 1
    return np.cumsum(begins)


def session_first(h: History) -> Ints:
    return np.array([events[0] for events in h.session_events] or [0], np.int64)


def latest(values: NDArray[np.float64]) -> Ints:
    """For each event the row of the last one, itself included, that has a value; another customer's where none has."""
    return np.maximum.accumulate(np.where(np.isnan(values), -1, np.arange(len(values))))


def dense(h: History, rows: Ints, values: NDArray[np.float64] | Ints) -> NDArray[np.float64]:
    made = np.full(len(h.time), np.nan)
    made[rows] = values
    return made


def context(h: History) -> list[Sparse]:
    return list(h.context.values())[:COLUMNS_MAX]


def numbers(h: History) -> list[Sparse]:
    """Attributes that are mostly numbers with many values."""
    kept = [a for a in h.attributes.values() if a.known > VALUES_MAX and a.numeric > 0.5]
    return [(a.rows, a.numbers) for a in kept[:COLUMNS_MAX]]


def categories(h: History, fields: tuple[str, ...] = FIELDS) -> list[Sparse]:
    """Numbers of the values of the attributes and fields that have few; NaN for none, and for what is new."""
    found = [*h.attributes.values(), *(h.fields[name] for name in fields)]
    kept = [a for a in found if 1 < a.known <= VALUES_MAX][:COLUMNS_MAX]
    return [(a.rows, np.where(a.categories == NONE, np.nan, a.categories)) for a in kept]


def clock(time: Ints) -> NDArray[np.float64]:
    """Sine and cosine of the time of day and of the weekday, UTC."""
    day = 2 * np.pi * (time % DAY_MS) / DAY_MS
    week = 2 * np.pi * ((time // DAY_MS + 3) % 7) / 7  # 1970-01-01 was a Thursday
    return np.stack([np.sin(day), np.cos(day), np.sin(week), np.cos(week)], axis=1)
