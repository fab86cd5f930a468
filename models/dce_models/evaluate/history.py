"""The clicks and the pipeline's sessions in columns: what the floors and the readers know besides the embeddings.
Names and attributes are found in the data; none is known beforehand."""

from array import array
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from .. import folder as folders
from ..features import decimal
from ..folder import Folder
from .records import NONE, Codes, Ints

ATTRIBUTES_MAX = 32  # of the clicks, the most frequent ones; of the context as many
FIELDS = ("kind", "channel", "device_id")


@dataclass
class Attribute:
    """One key of the clicks' attributes, or a field such as the channel, where the events have it. What it is (a
    category, a number) and which categories there are is told by the events before the cut alone."""

    rows: Ints  # events
    values: Ints  # codes of the texts
    numbers: NDArray[np.float64]  # NaN where the text is no decimal number
    categories: Ints  # numbers of the texts that occur before the cut; NONE: a later one
    known: int  # how many those are
    numeric: float  # share of decimal numbers before the cut


@dataclass
class History:
    """One row an event, by customer, then time, then arrival. Sessions as the pipeline settled them."""

    customers: Codes
    names: Codes
    customer: Ints
    time: Ints
    name: Ints  # code, or NONE
    named: Ints  # code of its session_id, or NONE
    fields: dict[str, Attribute]  # kind, channel, device_id
    attributes: dict[str, Attribute]  # the most frequent ones before the cut first
    context: dict[str, tuple[Ints, NDArray[np.float64]]]  # key -> rows and values
    session: Ints  # index in the sessions below, or NONE: rejected
    session_customer: Ints
    session_start: Ints
    session_end: Ints
    session_uids: list[str]
    session_events: list[Ints] = field(repr=False)  # rows, in the session's order

    def of_customer(self, customer: int) -> slice:
        low, high = np.searchsorted(self.customer, [customer, customer + 1])
        return slice(int(low), int(high))


@dataclass
class Columns:
    """Events as they are read."""

    ids: dict[tuple[int, str], int]
    customer: "array[int]"
    time: "array[int]"
    name: "array[int]"
    named: "array[int]"
    fields: dict[str, tuple[Codes, "array[int]"]]
    attributes: dict[str, tuple[Codes, "array[int]", "array[int]"]]
    context: dict[str, tuple["array[int]", "array[float]"]]


def load(folder: Folder, sessions: Path, customers: Codes, session_ids: Codes) -> History:
    names = Codes()
    columns = read(folder, customers, names, session_ids)
    customer, time = (np.frombuffer(c, np.int64) for c in (columns.customer, columns.time))
    order = np.lexsort((time, customer))
    place = np.empty_like(order)  # a read event's row
    place[order] = np.arange(len(order))
    numbered, owners, starts, ends, uids = settled(sessions, customers, columns.ids)
    events = [place[rows] for rows in numbered]
    session = np.full(len(order), NONE, np.int64)
    for i, rows in enumerate(events):
        session[rows] = i
    past = np.ones(len(time), bool) if folder.cut_ms is None else time < folder.cut_ms  # of the events as read
    fields = {name: attribute(c, *present(values), past, place) for name, (c, values) in columns.fields.items()}
    attributes = {key: attribute(c, whole(r), whole(v), past, place) for key, (c, r, v) in columns.attributes.items()}
    kept = most_frequent({key: int(past[whole(rows)].sum()) for key, (_, rows, _) in columns.attributes.items()})
    snapshot = most_frequent({key: int(past[whole(rows)].sum()) for key, (rows, _) in columns.context.items()})
    return History(
        customers=customers,
        names=names,
        customer=customer[order],
        time=time[order],
        name=np.frombuffer(columns.name, np.int64)[order],
        named=np.frombuffer(columns.named, np.int64)[order],
        fields=fields,
        attributes={key: attributes[key] for key in kept},
        context={
            key: (place[whole(columns.context[key][0])], np.frombuffer(columns.context[key][1])) for key in snapshot
        },
        session=session,
        session_customer=owners,
        session_start=starts,
        session_end=ends,
        session_uids=uids,
        session_events=events,
    )


def read(folder: Folder, customers: Codes, names: Codes, session_ids: Codes) -> Columns:
    fields = {name: (Codes(), array("q")) for name in FIELDS}
    made = Columns({}, array("q"), array("q"), array("q"), array("q"), fields, {}, {})
    for click in folders.clicks(folder):
        row = len(made.customer)
        customer = customers.add(click["customer_id"])
        if made.ids.setdefault((customer, click["event_id"]), row) != row:
            continue  # it came before
        made.customer.append(customer)
        made.time.append(click["event_time"])
        made.name.append(code(names, click.get("name")))
        made.named.append(code(session_ids, click.get("session_id")))
        for source, (codes, column) in made.fields.items():
            column.append(code(codes, click.get(source)))
        for key, value in (click.get("attributes") or {}).items():
            if value is not None:
                codes, rows, values = made.attributes.setdefault(key, (Codes(), array("q"), array("q")))
                rows.append(row)
                values.append(codes.add(str(value)))
        for key, value in (click.get("context") or {}).items():
            if isinstance(value, int | float) and np.isfinite(value):
                rows, numbers = made.context.setdefault(key, (array("q"), array("d")))
                rows.append(row)
                numbers.append(value)
    return made


def code(codes: Codes, text: object) -> int:
    return codes.add(text) if isinstance(text, str) and text else NONE


def whole(values: "array[int]") -> Ints:
    return np.frombuffer(values, np.int64)


def present(values: "array[int]") -> tuple[Ints, Ints]:
    """The rows that have a value, and the values."""
    column = whole(values)
    rows = np.flatnonzero(column != NONE).astype(np.int64)
    return rows, column[rows]


def most_frequent(counts: dict[str, int]) -> list[str]:
    """The keys that occur, the most frequent first, as many as are read."""
    return [key for key in sorted(counts, key=lambda key: (-counts[key], key)) if counts[key]][:ATTRIBUTES_MAX]


def attribute(codes: Codes, rows: Ints, values: Ints, past: NDArray[np.bool_], place: Ints) -> Attribute:
    """`rows` and `past`: of the events as they were read."""
    numbers = np.array([np.nan if (v := decimal(text)) is None else v for text in codes.of] or [np.nan])
    before = values[past[rows]]
    texts = list(codes.of)
    number = np.full(len(texts) + 1, NONE, np.int64)
    known = sorted(set(before.tolist()), key=lambda code: texts[code])  # an order that no later event moves
    number[known] = np.arange(len(known))
    numeric = float(np.isfinite(numbers[before]).mean()) if len(before) else 0.0
    return Attribute(place[rows], values, numbers[values], number[values], len(known), numeric)


def settled(
    path: Path, customers: Codes, ids: dict[tuple[int, str], int]
) -> tuple[list[Ints], Ints, Ints, Ints, list[str]]:
    """The last revision of each session: its events, customer, start, end and name."""
    names = ["customer_id", "session_uid", "sequence", "session_start", "session_end", "event_ids"]
    table = parquet.read_table(path, columns=names)
    latest: dict[tuple[int, str], int] = {}
    owners = customers.column(table["customer_id"])
    uids = table["session_uid"].to_pylist()
    for row in np.argsort(table["sequence"].to_numpy(), kind="stable").tolist():
        latest[int(owners[row]), uids[row]] = row
    kept = np.array(sorted(latest.values()), np.int64)
    table = table.take(pa.array(kept))
    owners = owners[kept]
    events = [
        np.array([ids[customer, event] for event in listed], np.int64)
        for customer, listed in zip(owners.tolist(), table["event_ids"].to_pylist(), strict=True)
    ]
    start, end = (table[n].cast(pa.int64()).to_numpy() for n in ("session_start", "session_end"))
    return events, owners, start, end, [uids[row] for row in kept]
