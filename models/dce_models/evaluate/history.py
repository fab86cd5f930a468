"""The clicks and the pipeline's sessions in columns: what the floors and the readers know besides the embeddings.
Names and attributes are found in the data; none is known beforehand."""

from array import array
from collections import Counter
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
    """One key of the clicks' attributes, where they have it."""

    codes: Codes
    rows: Ints  # events
    values: Ints  # codes
    numbers: NDArray[np.float64]  # NaN where the text is no decimal number


@dataclass
class History:
    """One row an event, by customer, then time, then arrival. Sessions as the pipeline settled them."""

    customers: Codes
    names: Codes
    customer: Ints
    time: Ints
    name: Ints  # code, or NONE
    named: Ints  # code of its session_id, or NONE
    fields: dict[str, tuple[Codes, Ints]]  # kind, channel, device_id
    attributes: dict[str, Attribute]
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
    kept = [
        key for key, _ in Counter({k: len(v[1]) for k, v in columns.attributes.items()}).most_common(ATTRIBUTES_MAX)
    ]
    snapshot = Counter({k: len(v[0]) for k, v in columns.context.items()}).most_common(ATTRIBUTES_MAX)
    return History(
        customers=customers,
        names=names,
        customer=customer[order],
        time=time[order],
        name=np.frombuffer(columns.name, np.int64)[order],
        named=np.frombuffer(columns.named, np.int64)[order],
        fields={f: (codes, np.frombuffer(c, np.int64)[order]) for f, (codes, c) in columns.fields.items()},
        attributes={key: attribute(*columns.attributes[key], place) for key in kept},
        context={
            key: (place[np.frombuffer(columns.context[key][0], np.int64)], np.frombuffer(columns.context[key][1]))
            for key, _ in snapshot
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


def attribute(codes: Codes, rows: "array[int]", values: "array[int]", place: Ints) -> Attribute:
    known = np.array([np.nan if (v := decimal(text)) is None else v for text in codes.of], np.float64)
    column = np.frombuffer(values, np.int64)
    return Attribute(codes, place[np.frombuffer(rows, np.int64)], column, known[column])


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
