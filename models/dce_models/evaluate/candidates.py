"""A session's next name: which names may come, and what the reader knows of each (a row of features)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .items import EARLIER_MAX, Decayed, Items, Vector
from .records import Ints

Matrix = NDArray[np.float32]

CANDIDATES = 200
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

    def __init__(self, items: Items, names: int) -> None:
        self.items = items
        self.names = names
        self.scratch = [np.zeros(names) for _ in range(8)]  # over all names; zero between two questions

    def ask(self, m: Moment, leave_out: bool) -> tuple[Ints, Matrix]:
        """The candidates [c] and their features [c, F]; `leave_out` says whether the session's own names are none."""
        touched = self.follow(m)
        last, last_now, earlier, earlier_now, near, near_now, past, _ = self.scratch
        near_names = np.unique(np.concatenate([*touched, np.zeros(0, np.int64)]))
        active = np.flatnonzero(self.items.active.counts)
        pool = np.union1d(active, near_names)
        if leave_out:
            pool = np.setdiff1d(pool, np.array(m.session, np.int64), assume_unique=False)
        rough = self.rough(m, pool)
        order = np.argsort(-rough, kind="stable")[:CANDIDATES]  # the likely ones first
        pool = pool[order]
        features = self.features(m, pool)
        for values in (last, last_now, earlier, earlier_now, near, near_now, past):
            values[near_names] = 0
        return pool, features

    def follow(self, m: Moment) -> list[Ints]:
        """What came after the session's names, and together with them and with the customer's earlier ones."""
        last, last_now, earlier, earlier_now, near, near_now, past, unused = self.scratch
        after, together = self.items.after, self.items.together
        touched = []
        for name in m.session[-1:]:
            touched.append(after.into(name, m.hour, last, last_now))
        for name in m.session[-1 - EARLIER_MAX : -1]:
            touched.append(after.into(name, m.hour, earlier, earlier_now))
        for name in m.session[-EARLIER_MAX:]:
            touched.append(together.into(name, m.hour, near, near_now))
        for name in m.before[-EARLIER_MAX:]:
            names = together.into(name, m.hour, past, unused)
            unused[names] = 0
            touched.append(names)
        return touched

    def rough(self, m: Moment, pool: Ints) -> NDArray[np.float64]:
        """A score to choose candidates by: clicks now, in this context, and after the session's names."""
        last, last_now, earlier, _, near, near_now, _, _ = (values[pool] for values in self.scratch)
        short, middle = (self.share(self.items.popularity[i], m.hour, pool) for i in (1, 2))
        made = short + middle + self.items.windows[0].counts[pool] / 500
        for pair, value in zip(self.items.by_context, m.context, strict=True):
            sums = pair[0].sums[value]
            made = made + sums[pool] / (sums.sum() + 1e-9) / len(self.items.by_context)
        for values in (last, last_now, earlier, near, near_now):
            made = made + 2 * values / (values.sum() + 5)
        return np.asarray(made, np.float64)

    @staticmethod
    def share(sums: Decayed, hour: float, pool: Ints) -> NDArray[np.float64]:
        return sums.sums[pool] / (sums.sums.sum() + 1e-9 * sums.weight(hour))

    def features(self, m: Moment, pool: Ints) -> Matrix:
        i = self.items
        columns: list[NDArray[np.floating]] = []
        clicks = []
        for sums in i.popularity:
            weight = sums.weight(m.hour)
            clicks.append(sums.sums[pool] / weight)
            columns.append(np.log(clicks[-1] + TINY))
        columns.append(np.log(i.next_popularity.sums[pool] / i.next_popularity.weight(m.hour) + TINY))
        columns += [np.log1p(window.counts[pool]) for window in i.windows]
        columns.append(np.log1p(np.maximum(0, m.hour - np.nan_to_num(i.first_hour[pool], nan=m.hour))))
        columns.append(np.log1p(np.minimum(1e4, m.hour - np.maximum(i.last_hour[pool], m.hour - 1e4))))
        for pair, value in zip(i.by_context, m.context, strict=True):
            for sums, of_all in zip(pair, (clicks[2], clicks[3]), strict=True):
                own = sums.sums[value, pool] / sums.weight(m.hour)
                columns.append(np.log(own + TINY))
                columns.append(np.log((own + 0.1) / (of_all + 1.0)))
        last, last_now, earlier, earlier_now, near, near_now, past, _ = (values[pool] for values in self.scratch)
        total = i.after.total.get(m.session[-1], 0.0) if m.session else 0.0
        columns += [np.log1p(x) for x in (last, last_now, earlier, earlier_now, near, near_now, past)]
        columns.append(np.log(last / (total + 10) + TINY))
        columns.append(np.log(last_now / (last_now.sum() + 3) + TINY))
        columns.append(np.log(near_now / (near_now.sum() + 3) + TINY))
        columns.append(np.log((last_now + 0.1) / (clicks[3] + 1)))
        seen = np.isin(pool, np.array(m.before, np.int64))
        again = np.isin(pool, np.array(m.session, np.int64))
        columns += [seen.astype(np.float32), again.astype(np.float32)]
        columns += [self.likeness(sums.sums[pool], m.vector) for sums in i.vectors]
        moment = (np.log1p(len(m.session)), np.log1p(m.since * 60), np.log1p(len(m.before)), np.log1p(total))
        day = 2 * np.pi * (m.hour % 24) / 24
        columns += [np.full(len(pool), x) for x in (*moment, np.sin(day), np.cos(day))]
        return np.stack(columns, axis=1).astype(np.float32)

    @staticmethod
    def likeness(vectors: Matrix, vector: Vector | None) -> NDArray[np.float32]:
        """Cosine of the session's vector with the sum of those that came before each name's clicks."""
        if vector is None:
            return np.zeros(len(vectors), np.float32)
        norms = np.sqrt((vectors * vectors).sum(axis=1)) * np.sqrt((vector * vector).sum())
        return np.asarray(vectors @ vector / np.maximum(norms, 1e-12), np.float32)
