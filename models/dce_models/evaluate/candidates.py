"""A session's next name: which names may come, and what the reader knows of each (a row of features)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .items import EARLIER_MAX, Floats, Items, Vector
from .records import Ints

Matrix = NDArray[np.float32]

CANDIDATES = 200
SMOOTHING = 30.0  # clicks, that a context is taken for what is usual
BESIDE_CONTEXT = [2, 3]  # the columns of HALF_LIVES nearest to those of CONTEXT_HALF_LIVES
TINY = 1e-3  # clicks: what a popularity of 0 is taken for in logarithms


@dataclass
class Moment:
    """A session before one of its clicks."""

    hour: float
    since: float  # hours since the session's last click
    context: list[int]  # values of the context attributes
    session: list[int]  # the names clicked so far, in order
    before: list[int]  # the names of the customer's earlier sessions, the last ones
    vector: Vector | None  # the session's provisional embedding, centred


class Reader:
    """Gives candidates and their features out of what is known of the names."""

    def __init__(self, items: Items) -> None:
        self.items = items
        # Over all names, zero between two questions: what followed the last name, what followed earlier ones, what was
        # in sessions with them, what was in sessions with the customer's earlier names; each without and with decay.
        self.near = np.zeros((8, items.names))
        self.flags = np.zeros(items.names, bool)

    def ask(self, m: Moment, leave_out: bool) -> tuple[Ints, Matrix]:
        """The candidates [c], the likely ones first, and their features [c, F]; `leave_out` says whether the session's
        own names are none."""
        touched = self.follow(m)
        possible = self.items.active.counts > 0
        for names in touched:
            possible[names] = True
        if leave_out:
            possible[m.session] = False
        pool = np.flatnonzero(possible)
        near = self.near[:, pool]
        contexts = self.items.cells(m.context)
        rough = self.rough(contexts, pool, near)
        order = np.argsort(-rough, kind="stable")[:CANDIDATES]
        features = self.features(m, contexts, pool[order], near[:, order], rough[order])
        for names in touched:
            self.near[:, names] = 0
        return pool[order], features

    def follow(self, m: Moment) -> list[Ints]:
        """Fills `near`; gives the names that it touched."""
        after, together, near = self.items.after, self.items.together, self.near
        touched = [after.into(name, m.hour, near[0], near[1]) for name in m.session[-1:]]
        touched += [after.into(name, m.hour, near[2], near[3]) for name in m.session[-1 - EARLIER_MAX : -1]]
        touched += [together.into(name, m.hour, near[4], near[5]) for name in m.session[-EARLIER_MAX:]]
        touched += [together.into(name, m.hour, near[6], near[7]) for name in m.before[-EARLIER_MAX:]]
        return touched

    def rough(self, contexts: Ints, pool: Ints, near: Floats) -> Floats:
        """A score to choose candidates by: clicks now, in this context, and after the session's names."""
        made = shares(self.items.popularity.sums[pool][:, [1, 2]].T).sum(axis=0)
        made = made + self.items.windows[0].counts[pool] / self.items.windows[0].clicks
        if len(contexts):
            made = made + shares(self.items.by_context.sums[contexts[:, None] + pool, 0]).mean(axis=0)
        return np.asarray(made + 2 * (near[:6] / (near[:6].sum(axis=1, keepdims=True) + 5)).sum(axis=0))

    def features(self, m: Moment, contexts: Ints, pool: Ints, near: Floats, rough: Floats) -> Matrix:
        i = self.items
        totals = i.popularity.sums.sum(axis=0)
        clicks = i.popularity.sums[pool] / i.popularity.weights(m.hour)
        columns = [np.log(clicks + TINY).T]
        columns += [np.log1p(window.counts[pool])[None] for window in i.windows]
        columns.append(np.log1p(np.maximum(0, m.hour - np.nan_to_num(i.first_hour[pool], nan=m.hour)))[None])
        columns.append(np.log1p(m.hour - np.maximum(i.last_hour[pool], m.hour - 1e4))[None])
        if len(contexts):
            weights = i.by_context.weights(m.hour)
            own = i.by_context.sums[contexts[:, None] + pool] / weights  # [A, c, 2]
            whole = i.of_context.sums[contexts // i.names] / i.of_context.weights(m.hour)  # [A, 2]
            columns.append(np.log(own + TINY).transpose(0, 2, 1).reshape(2 * len(contexts), len(pool)))
            usual = clicks[:, BESIDE_CONTEXT] / (totals / i.popularity.weights(m.hour))[BESIDE_CONTEXT].clip(TINY)
            share = (own + SMOOTHING * usual) / (whole[:, None] + SMOOTHING)
            columns.append(np.log(share + TINY**2).transpose(0, 2, 1).reshape(2 * len(contexts), len(pool)))
        total = i.after.total.get(m.session[-1], 0.0) if m.session else 0.0
        columns.append(np.log1p(near))
        usual = (i.popularity.sums[pool, 3] / max(float(totals[3]), 1e-30))[None]
        counted = np.array([[total], [near[1].sum()], [near[5].sum()]])
        columns.append(np.log((near[[0, 1, 5]] + 10 * usual) / (counted + 10) + TINY**2))
        columns.append(np.log(rough + TINY)[None])
        columns.append(np.log(near[[1, 3, 5]] / (near[[1, 3, 5]].sum(axis=1, keepdims=True) + 3) + TINY))
        columns.append(np.log((near[[1, 5]] + 0.1) / (clicks[:, 3] + 1)))
        columns += [self.among(pool, m.before), self.among(pool, m.session)]
        columns.append(likeness(i.vectors.sums[pool], m.vector))
        day = 2 * np.pi * (m.hour % 24) / 24
        moment = [np.log1p(len(m.session)), np.log1p(m.since * 60), np.log1p(len(m.before)), np.log1p(total)]
        columns.append(np.tile(np.array([*moment, np.sin(day), np.cos(day)])[:, None], (1, len(pool))))
        return np.concatenate(columns).T.astype(np.float32)

    def among(self, pool: Ints, names: list[int]) -> Floats:
        self.flags[names] = True
        made = self.flags[pool].astype(np.float64)[None]
        self.flags[names] = False
        return made


def shares(sums: Matrix) -> Matrix:
    """Of each row's total."""
    return np.asarray(sums / (sums.sum(axis=1, keepdims=True) + np.float32(1e-30)))


def likeness(vectors: Matrix, vector: Vector | None) -> Floats:
    """Cosine of the session's vector with the sums of those that came before each name's clicks: [half-lives, c]."""
    if vector is None:
        return np.zeros((vectors.shape[1], len(vectors)))
    norms = np.sqrt((vectors * vectors).sum(axis=2)) * np.sqrt((vector * vector).sum())
    return np.asarray((vectors @ vector / np.maximum(norms, 1e-12)).T, np.float64)
