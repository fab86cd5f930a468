"""Which record a label is judged on. This is where a look into the future would slip in; so the rules stand here alone:

owner                 the settled record (its last revision) of the customer's session, of that session_id if the label
                      has one, with start <= event_time <= end
label, next_session   the customer's last record, provisional ones included, with as_of < event_time
next                  the same, of the same session: by its session_id, or else the session that event_time lies in
"""

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..folder import SPLITS, Label
from .records import NONE, Codes, Ints, Records

MISS = -1


@dataclass
class Asked:
    """Labels of one task, in columns."""

    customer: Ints  # code
    session_id: Ints  # code, or NONE
    time: Ints  # milliseconds
    split: Ints  # index in SPLITS
    text: list[str]

    def __len__(self) -> int:
        return len(self.customer)


@dataclass
class Joined:
    """For each label its record's row, or MISS."""

    row: Ints
    ties: int  # labels for which more than one record would do, by the rule as it is written

    @property
    def hit(self) -> NDArray[np.bool_]:
        return np.asarray(self.row != MISS)


def ask(labels: list[Label], customers: Codes, session_ids: Codes) -> Asked:
    return Asked(
        customer=np.array([customers.add(x.customer_id) for x in labels], np.int64),
        session_id=np.array([session_ids.add(x.session_id) if x.session_id else NONE for x in labels], np.int64),
        time=np.array([x.event_time for x in labels], np.int64),
        split=np.array([SPLITS.index(x.split) for x in labels], np.int64),
        text=[x.label for x in labels],
    )


def last_revisions(records: Records) -> Ints:
    """The row of each session's last settled record."""
    rows = np.flatnonzero(records.settled)
    order = rows[np.lexsort((records.sequence[rows], records.uid[rows]))]
    last = np.append(np.diff(records.uid[order]) != 0, True) if len(order) else np.zeros(0, bool)
    return np.asarray(order[last], np.int64)


def containing(asked: Asked, records: Records) -> Joined:
    """The last settled record of the session that a label's moment lies in; of several the one that began last."""
    settled = last_revisions(records)
    order = settled[np.lexsort((records.sequence[settled], records.start[settled], records.customer[settled]))]
    bounds = np.searchsorted(records.customer[order], [asked.customer, asked.customer + 1])
    start, end, named = (column[order].tolist() for column in (records.start, records.end, records.session_id))
    row = np.full(len(asked), MISS, np.int64)
    reach: dict[int, list[int]] = {}  # a customer's latest end among his first sessions
    ties = 0
    for i, (low, high, time, session) in enumerate(
        zip(bounds[0].tolist(), bounds[1].tolist(), asked.time.tolist(), asked.session_id.tolist(), strict=True)
    ):
        if low == high:
            continue
        if low not in reach:
            reach[low] = np.maximum.accumulate(end[low:high]).tolist()
        at = bisect_right(start, time, low, high) - 1
        found = 0
        while at >= low and reach[low][at - low] >= time:
            if end[at] >= time and session in (NONE, named[at]):
                found += 1
                if found == 1:
                    row[i] = order[at]
            at -= 1
        ties += found > 1
    return Joined(row, ties)


def before(time: Ints, group: Ints, records: Records, record_group: Ints) -> Joined:
    """The last record, by sequence, of the label's group with as_of < time; a negative group has none."""
    used = np.flatnonzero(record_group >= 0)
    n = len(used)
    groups = np.concatenate([record_group[used], group])
    moment = np.concatenate([records.as_of[used], time])
    sequence = np.concatenate([records.sequence[used], np.zeros(len(time), np.int64)])
    kind = np.concatenate([np.ones(n, np.int64), np.zeros(len(time), np.int64)])  # labels before records of that moment
    order = np.lexsort((sequence, kind, moment, groups))
    is_label = order >= n
    # Within a group the largest sequence so far; groups rise, so that no group sees the one before it.
    step = int(sequence.max(initial=0)) + 1
    place = np.cumsum(np.diff(groups[order], prepend=groups[order][:1]) != 0)
    so_far = np.maximum.accumulate(np.where(is_label, -1, place * step + sequence[order]))
    # Records in the order of (group, sequence), to find that one's row again.
    keys = (place * step + sequence[order])[~is_label]
    rows = used[order[~is_label]]
    by_key = np.argsort(keys, kind="stable")
    wanted = so_far[is_label]
    found = (wanted >= place[is_label] * step) & (groups[order][is_label] >= 0)
    at = by_key[np.searchsorted(keys[by_key], wanted[found])]
    row = np.full(len(time), MISS, np.int64)
    row[order[is_label][found] - n] = rows[at]
    _, many = np.unique(np.stack([record_group[used], records.as_of[used]]), axis=1, return_counts=True)
    return Joined(row, tied(row, used, records, record_group) if (many > 1).any() else 0)


def tied(row: Ints, used: Ints, records: Records, record_group: Ints) -> int:
    """Labels whose record shares group and as_of with another one."""
    _, inverse, count = np.unique(
        np.stack([record_group[used], records.as_of[used]]), axis=1, return_inverse=True, return_counts=True
    )
    shared = np.zeros(len(records), bool)
    shared[used] = count[inverse.ravel()] > 1
    return int(shared[row[row != MISS]].sum())


def of_customer(asked: Asked, records: Records) -> Joined:
    return before(asked.time, asked.customer, records, records.customer)


def of_session(asked: Asked, records: Records, session_ids: int) -> Joined:
    """`session_ids`: how many codes there are."""
    named = asked.session_id != NONE
    row = np.full(len(asked), MISS, np.int64)
    step = session_ids + 1
    groups = np.where(records.session_id == NONE, -1, records.customer * step + records.session_id)
    by_name = before(asked.time[named], (asked.customer * step + asked.session_id)[named], records, groups)
    row[named] = by_name.row
    ties = by_name.ties
    if not named.all():
        rest = Asked(asked.customer[~named], asked.session_id[~named], asked.time[~named], asked.split[~named], [])
        inside = containing(rest, records).row
        uid = np.full(len(rest), -1, np.int64)
        uid[inside != MISS] = records.uid[inside[inside != MISS]]
        by_time = before(rest.time, uid, records, records.uid)
        row[~named] = by_time.row
        ties += by_time.ties
    return Joined(row, ties)
