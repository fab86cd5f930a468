"""Sessions as a head meets them: a model's graphs run over customers, and for each moment that is asked for, what the
pipeline would hand to a head then. States are as wide as a model likes (guard's: thousands of numbers): they are walked
through, customer by customer, and only what is asked for is kept."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ..clicks import Customer, Session
from ..dataset import Dataset, build
from ..features import HOUR_MS, Features
from ..parts import Forward
from ..spec import Dimensions, Spec

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
CHUNK = 4096  # rows that are computed together
CELLS = 2**24  # numbers of states and session vectors that are held while customers are walked through
NOTHING = -1  # no session has been folded: there is no end


@dataclass
class World:
    """One row a session, customer by customer in fold order."""

    features: Features
    forward: Forward
    sizes: Dimensions
    customers: list[Customer]  # those that have sessions
    data: Dataset
    first: Ints  # [customers + 1]: each customer's first row
    owner: Ints  # [rows]: the customer
    start: Ints  # [rows] milliseconds
    end: Ints
    closed_at: Ints
    outset: Ints  # [rows]: the session itself, or the first of those that it continues
    calendar: Tensor
    context: Tensor

    def __len__(self) -> int:
        return len(self.owner)


@dataclass
class Asked:
    """Moments at which a head speaks. `row` is the session whose customer, context and time they are; its events are
    the first `events` ones of the session `source`: the same, or a stranger's that is put in its place."""

    row: Ints
    source: Ints
    events: Ints
    moment: Ints  # milliseconds

    def __len__(self) -> int:
        return len(self.row)

    def at(self, chosen: Ints | Mask) -> "Asked":
        return Asked(self.row[chosen], self.source[chosen], self.events[chosen], self.moment[chosen])


def joined(parts: list[Asked]) -> Asked:
    columns = ([p.row for p in parts], [p.source for p in parts], [p.events for p in parts], [p.moment for p in parts])
    return Asked(*(np.concatenate(column).astype(np.int64) for column in columns))


@torch.no_grad()
def world_of(
    spec: Spec, vocabulary: Mapping[str, list[str]], forward: Forward, customers: list[Customer], seed: int
) -> World:
    features = Features(spec, vocabulary)
    there = [c for c in customers if c.sessions]
    data = build(features, there, seed)
    counts = np.array([len(c.sessions) for c in there], np.int64)
    every = [s for c in there for s in c.sessions]
    row_of = {id(s): row for row, s in enumerate(every)}
    return World(
        features=features,
        forward=forward,
        sizes=spec.dimensions,
        customers=there,
        data=data,
        first=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        owner=np.repeat(np.arange(len(there)), counts),
        start=np.array([s.start for s in every], np.int64),
        end=np.array([s.end for s in every], np.int64),
        closed_at=np.array([s.closed_at for s in every], np.int64),
        outset=np.array([row_of.get(id(s.outset or s), row) for row, s in enumerate(every)], np.int64),
        calendar=torch.from_numpy(np.concatenate([s.calendar for s in data.customers])),
        context=torch.from_numpy(np.concatenate([s.context for s in data.customers])),
    )


def encoded(w: World, source: Ints, events: Ints) -> Tensor:
    """[n, S]: the vector of each session's first events; sessions of like length together, so that little is padded."""
    out = torch.empty(len(source), w.sizes.session)
    order = np.argsort(events, kind="stable")
    chunk: list[int] = []
    for i in [*order.tolist(), NOTHING]:
        if chunk and (i == NOTHING or (len(chunk) + 1) * events[i] > 32 * CHUNK or len(chunk) >= CHUNK):
            out[torch.tensor(chunk)] = encode_chunk(w, source[chunk], events[chunk])
            chunk = []
        chunk.append(i)
    return out


def encode_chunk(w: World, source: Ints, events: Ints) -> Tensor:
    longest, data = int(events.max()), w.data
    fields = np.zeros((len(source), longest, data.fields[0].shape[1]), np.int64)
    numbers = np.zeros((len(source), longest, data.numbers[0].shape[1]), np.float32)
    for i, (s, n) in enumerate(zip(source.tolist(), events.tolist(), strict=True)):
        fields[i, :n] = data.fields[s][:n]
        numbers[i, :n] = data.numbers[s][:n]
    length = torch.from_numpy(events.astype(np.int32))
    return w.forward.encode(torch.from_numpy(fields), torch.from_numpy(numbers), length)


def whole(w: World, rows: Ints) -> Ints:
    """How many events the sessions have."""
    return np.array([len(w.data.fields[row]) for row in rows.tolist()], np.int64)


def folded_before(w: World, asked: Asked) -> Ints:
    """How many of the customer's sessions the pipeline had folded when it spoke: for a settled session those before it
    in fold order; while it was open, those alone that had closed by then. A session that ran beside it and closed later
    is no part of what was known."""
    first = w.first[w.owner[asked.row]]
    made = asked.row - first
    for i in np.flatnonzero(asked.moment < w.closed_at[asked.row]).tolist():
        known = np.searchsorted(w.closed_at[first[i] : asked.row[i]], asked.moment[i], side="left")
        made[i] = min(int(made[i]), int(known))
    return made


@torch.no_grad()
def inputs(w: World, asked: Asked, names: tuple[str, ...], never: Mask | None = None) -> dict[str, Tensor]:
    """The named inputs [n, ..] of a head at these moments. The sessions of `never` [rows] are not folded into anything:
    what a gate would do that knows the truth."""
    row = torch.from_numpy(asked.row)
    own = {"calendar": w.calendar, "context": w.context}
    made = {name: own[name][row] for name in names if name in own}
    if "session" in names or "embedding" in names:
        made["session"] = encoded(w, asked.source, asked.events)
    walked = [name for name in names if name in ("state", "prior", "embedding")]
    widths = {"state": w.sizes.state, "prior": w.sizes.embedding, "embedding": w.sizes.embedding}
    made |= {name: torch.empty(len(asked), widths[name]) for name in walked}
    if walked:
        before = folded_before(w, asked)
        for customers, chosen in companies(w, asked, before):
            walk(w, asked, before, customers, chosen, made, never)
        continued = np.flatnonzero(w.outset[asked.row] != asked.row)
        if "prior" in made and len(continued):
            first = asked.at(continued)
            first.row = w.outset[first.row]
            made["prior"][torch.from_numpy(continued)] = inputs(w, first, ("prior",), never)["prior"]
    return {name: made[name] for name in names}


def companies(w: World, asked: Asked, before: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Customers whose states and vectors fit into CELLS, and the moments asked about them."""
    owner = w.owner[asked.row]
    order = np.argsort(owner, kind="stable")
    customers, first = np.unique(owner[order], return_index=True)
    deepest = np.maximum.reduceat(before[order], first) if len(order) else before
    cells = np.cumsum(2 * w.sizes.state + deepest * w.sizes.session)
    bounds = np.append(first, len(order))
    at = 0
    while at < len(customers):
        taken = cells[at - 1] if at else 0
        until = max(at + 1, int(np.searchsorted(cells, taken + CELLS, side="right")))
        yield customers[at:until], order[bounds[at] : bounds[min(until, len(customers))]]
        at = until


def walk(
    w: World,
    asked: Asked,
    before: Ints,
    customers: Ints,
    chosen: Ints,
    into: dict[str, Tensor],
    never: Mask | None,
) -> None:
    """Folds these customers' sessions in order, side by side, and answers each of `chosen` when it is its turn."""
    place = {customer: i for i, customer in enumerate(customers.tolist())}
    of = np.array([place[c] for c in w.owner[asked.row[chosen]].tolist()], np.int64)
    depth = np.zeros(len(customers), np.int64)
    np.maximum.at(depth, of, before[chosen])
    begins = np.concatenate([[0], np.cumsum(depth)])
    rows = np.concatenate([np.arange(w.first[c], w.first[c] + d) for c, d in zip(customers, depth, strict=True)])
    rows = rows.astype(np.int64)
    vectors = encoded(w, rows, whole(w, rows)) if len(rows) else torch.empty(0, w.sizes.session)
    now = Now(torch.zeros(len(customers), w.sizes.state), *(np.full(len(customers), NOTHING) for _ in range(2)))
    by_turn = np.argsort(before[chosen], kind="stable")
    turns = np.searchsorted(before[chosen][by_turn], np.arange(int(depth.max(initial=0)) + 2))
    for k in range(int(depth.max(initial=0)) + 1):
        for some in chunks(by_turn[turns[k] : turns[k + 1]]):
            answer(w, asked, chosen[some], now, of[some], into)
        for going in chunks(np.flatnonzero(depth > k)):
            row = w.first[customers[going]] + k
            if never is not None:
                going, row = going[~never[row]], row[~never[row]]
            if len(going):
                fold(w, row, vectors[torch.from_numpy(begins[going] + k)], now, going)


@dataclass
class Now:
    """Of each customer side by side, as far as they are folded."""

    state: Tensor
    last_end: Ints  # of the session folded last, or NOTHING
    latest_end: Ints


def chunks(rows: Ints) -> Iterator[Ints]:
    for at in range(0, len(rows), CHUNK):
        yield rows[at : at + CHUNK]


def fold(w: World, row: Ints, vectors: Tensor, now: Now, at: Ints) -> None:
    state, rows, there = now.state[torch.from_numpy(at)], torch.from_numpy(row), torch.from_numpy(at)
    gap = hours(w.start[row], now.last_end[at])
    now.state[there], _ = w.forward.step(state, vectors, gap, w.calendar[rows], w.context[rows])
    now.last_end[at] = w.end[row]
    now.latest_end[at] = np.maximum(now.latest_end[at], w.end[row])


def answer(w: World, asked: Asked, chosen: Ints, now: Now, at: Ints, into: dict[str, Tensor]) -> None:
    part, out = asked.at(chosen), torch.from_numpy(chosen)
    row, state = torch.from_numpy(part.row), now.state[torch.from_numpy(at)]
    calendar, context = w.calendar[row], w.context[row]
    start, latest = w.start[part.row], now.latest_end[at]
    if "state" in into:
        into["state"][out] = state
    if "prior" in into:
        into["prior"][out] = unit(w.forward.read(state, hours(start, latest), calendar, context))
    if "embedding" in into:
        gap = hours(start, now.last_end[at])
        folded, _ = w.forward.step(state, into["session"][out], gap, calendar, context)
        ahead = hours(part.moment, np.maximum(latest, last_event(w, part)))
        then = np.array([w.features.calendar(ms) for ms in part.moment.tolist()], np.float32).reshape(-1, 4)
        into["embedding"][out] = unit(w.forward.read(folded, ahead, torch.from_numpy(then), context))


def hours(moment: Ints, since: Ints) -> Tensor:
    """[n, 1] log1p of the hours between; 0 where nothing has been."""
    ms = np.where(since == NOTHING, 0, np.maximum(0, moment - since))
    return torch.from_numpy(np.log1p(ms / HOUR_MS).astype(np.float32)[:, None])


def last_event(w: World, asked: Asked) -> Ints:
    """When the last of the events happened, had they begun when the row's session did."""
    found = []
    for row, source, events in zip(asked.row.tolist(), asked.source.tolist(), asked.events.tolist(), strict=True):
        theirs = session_of(w, source)
        found.append(int(w.start[row]) + theirs.events[events - 1]["event_time"] - theirs.start)
    return np.array(found, np.int64)


def session_of(w: World, row: int) -> Session:
    customer = int(w.owner[row])
    return w.customers[customer].sessions[row - int(w.first[customer])]


def unit(x: Tensor) -> Tensor:
    return functional.normalize(x, dim=-1)
