"""Sessions as a head meets them: a model's graphs run over customers, and for each moment that is asked for, what the
pipeline would hand to a head then."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ..clicks import Customer, Session
from ..dataset import Dataset, build
from ..features import Features, log_hours
from ..parts import Forward
from ..spec import Spec

Ints = NDArray[np.int64]
CHUNK = 4096  # rows that are computed together


@dataclass
class World:
    """One row a session, customer by customer in fold order."""

    features: Features
    forward: Forward
    customers: list[Customer]  # those that have sessions
    data: Dataset
    first: Ints  # [customers + 1]: each customer's first row
    owner: Ints  # [rows]: the customer
    latest_end: Ints  # [rows]: of the customer's sessions before; the own start if none
    gap: Tensor
    calendar: Tensor
    context: Tensor
    vectors: Tensor  # [rows, S] of whole sessions
    state: Tensor  # [rows, H] before the session
    prior: Tensor  # [rows, E] the embedding at the session's start

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

    def at(self, chosen: Ints | NDArray[np.bool_]) -> "Asked":
        return Asked(self.row[chosen], self.source[chosen], self.events[chosen], self.moment[chosen])


@torch.no_grad()
def world_of(
    spec: Spec, vocabulary: Mapping[str, list[str]], forward: Forward, customers: list[Customer], seed: int
) -> World:
    features = Features(spec, vocabulary)
    there = [c for c in customers if c.sessions]
    data = build(features, there, seed)
    counts = np.array([len(c.sessions) for c in there], np.int64)
    first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    latest = [end for c in there for end in latest_ends(c)]
    columns = [torch.from_numpy(np.concatenate([getattr(s, n) for s in data.customers])) for n in
               ("gap", "calendar", "context")]  # fmt: skip
    rows = np.arange(first[-1])
    whole = np.array([len(f) for f in data.fields], np.int64)
    made = World(
        features=features,
        forward=forward,
        customers=there,
        data=data,
        first=first,
        owner=np.repeat(np.arange(len(there)), counts),
        latest_end=np.array(latest, np.int64),
        gap=columns[0],
        calendar=columns[1],
        context=columns[2],
        vectors=encoded(forward, data, rows, whole),
        state=torch.zeros(0),
        prior=torch.zeros(0),
    )
    made.state = states(made, spec.dimensions.state)
    made.prior = priors(made)
    return made


def latest_ends(customer: Customer) -> Iterator[int]:
    latest = customer.sessions[0].start
    for k, session in enumerate(customer.sessions):
        yield latest
        latest = max(latest, session.end) if k else session.end


def encoded(forward: Forward, data: Dataset, source: Ints, events: Ints) -> Tensor:
    """[n, S]: the vector of each session's first events; sessions of like length together, so that little is padded."""
    made: list[Tensor] = []
    order = np.argsort(events, kind="stable")
    cells = 0
    chunk: list[int] = []
    for i in order.tolist():
        cells = (len(chunk) + 1) * int(events[i])
        if chunk and (cells > 32 * CHUNK or len(chunk) >= CHUNK):
            made.append(encode_chunk(forward, data, source[chunk], events[chunk]))
            chunk = []
        chunk.append(i)
    made.append(encode_chunk(forward, data, source[chunk], events[chunk]))
    vectors = torch.cat(made)
    out = torch.empty_like(vectors)
    out[torch.from_numpy(order)] = vectors
    return out


def encode_chunk(forward: Forward, data: Dataset, source: Ints, events: Ints) -> Tensor:
    longest = int(events.max())
    fields = np.zeros((len(source), longest, data.fields[0].shape[1]), np.int64)
    numbers = np.zeros((len(source), longest, data.numbers[0].shape[1]), np.float32)
    for i, (s, n) in enumerate(zip(source.tolist(), events.tolist(), strict=True)):
        fields[i, :n] = data.fields[s][:n]
        numbers[i, :n] = data.numbers[s][:n]
    return forward.encode(
        torch.from_numpy(fields), torch.from_numpy(numbers), torch.from_numpy(events.astype(np.int32))
    )


def states(w: World, size: int) -> Tensor:
    """[rows, H] before each session: the k-th sessions of all customers at once."""
    before = torch.zeros(len(w), size)
    counts = np.diff(w.first)
    now = torch.zeros(len(w.customers), size)
    for k in range(int(counts.max(initial=0))):
        for part in np.array_split(np.flatnonzero(counts > k), 1 + len(counts) // CHUNK):
            rows = torch.from_numpy(w.first[part] + k)
            before[rows] = now[part]
            now[part], _ = w.forward.step(now[part], w.vectors[rows], w.gap[rows], w.calendar[rows], w.context[rows])
    return before


def priors(w: World) -> Tensor:
    starts = np.array([s.start for c in w.customers for s in c.sessions], np.int64)
    ahead = torch.tensor([[log_hours(ms)] for ms in (starts - w.latest_end).tolist()], dtype=torch.float32)
    parts = [
        w.forward.read(w.state[rows], ahead[rows], w.calendar[rows], w.context[rows])
        for rows in map(torch.from_numpy, np.array_split(np.arange(len(w)), 1 + len(w) // CHUNK))
    ]
    return unit(torch.cat(parts))


@torch.no_grad()
def inputs(w: World, asked: Asked, names: tuple[str, ...]) -> dict[str, Tensor]:
    """The named inputs [n, ..] of a head at these moments."""
    row = torch.from_numpy(asked.row)
    made = {"state": w.state, "prior": w.prior, "calendar": w.calendar, "context": w.context}
    given = {name: made[name][row] for name in names if name in made}
    if "session" in names or "embedding" in names:
        given["session"] = sessions(w, asked)
    if "embedding" in names:
        given["embedding"] = embeddings(w, asked, given["session"])
    return {name: given[name] for name in names}


def sessions(w: World, asked: Asked) -> Tensor:
    vectors = w.vectors[torch.from_numpy(asked.source)].clone()
    whole = np.array([len(w.data.fields[s]) for s in asked.source.tolist()], np.int64)
    part = np.flatnonzero(asked.events < whole)
    if len(part):
        vectors[torch.from_numpy(part)] = encoded(w.forward, w.data, asked.source[part], asked.events[part])
    return vectors


def embeddings(w: World, asked: Asked, session: Tensor) -> Tensor:
    """Of the state into which the session was folded, read at the moment."""
    made = []
    for chosen in np.array_split(np.arange(len(asked)), 1 + len(asked) // CHUNK):
        part = asked.at(chosen)
        row = torch.from_numpy(part.row)
        state, _ = w.forward.step(w.state[row], session[chosen], w.gap[row], w.calendar[row], w.context[row])
        ahead = [[log_hours(ms)] for ms in (part.moment - np.maximum(w.latest_end[part.row], ends(w, part))).tolist()]
        calendar = np.array([w.features.calendar(ms) for ms in part.moment.tolist()], np.float32).reshape(-1, 4)
        ahead_column = torch.tensor(ahead, dtype=torch.float32).reshape(-1, 1)
        made.append(w.forward.read(state, ahead_column, torch.from_numpy(calendar), w.context[row]))
    return unit(torch.cat(made))


def ends(w: World, asked: Asked) -> Ints:
    """When the last of the events happened, had they begun when the row's session did."""
    found = []
    for row, source, events in zip(asked.row.tolist(), asked.source.tolist(), asked.events.tolist(), strict=True):
        own, theirs = session_of(w, row), session_of(w, source)
        found.append(own.start + theirs.events[events - 1]["event_time"] - theirs.start)
    return np.array(found, np.int64)


def session_of(w: World, row: int) -> Session:
    customer = int(w.owner[row])
    return w.customers[customer].sessions[row - int(w.first[customer])]


def unit(x: Tensor) -> Tensor:
    return functional.normalize(x, dim=-1)
