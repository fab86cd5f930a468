"""What a reader of embeddings knows about the names (articles, pages): how often and by whom they are clicked now, what
follows what, and which session vectors came before them. Everything here changes with each click, and is asked before
the click that is to be foretold.
"""

from collections import deque

import numpy as np
from numpy.typing import NDArray

from .records import Ints

Vector = NDArray[np.float32]
Floats = NDArray[np.float64]

HOUR_MS = 3_600_000.0
HALF_LIVES = (0.1, 0.5, 2.0, 8.0, 48.0)  # hours, of a name's popularity
CONTEXT_HALF_LIVES = (1.5, 12.0)
FOLLOWED_HALF_LIFE = 6.0
NEXT_HALF_LIFE = 4.0  # of the clicks that are not a session's first
VECTOR_HALF_LIVES = (6.0, 72.0)
WINDOWS = (500, 2000)  # clicks
ACTIVE = 5000  # clicks, whose names are candidates
CELLS_MAX = 8_000_000  # of the popularity by a context value
EARLIER_MAX = 4  # clicks of a session before its last that are looked at
DOUBLINGS_MAX = 60.0  # after which what grows instead of decaying is written down anew


class Decayed:
    """Sums that halve every `hours`. Kept growing instead: what is added later weighs more."""

    def __init__(self, shape: tuple[int, ...], hours: float) -> None:
        self.sums = np.zeros(shape, np.float32)
        self.hours = hours
        self.origin = 0.0  # hours

    def weight(self, hour: float) -> float:
        """What one click weighs now, in the units of `sums`."""
        doublings = (hour - self.origin) / self.hours
        if doublings > DOUBLINGS_MAX:
            self.sums *= np.float32(2.0 ** -min(doublings, 140.0))
            self.origin, doublings = hour, 0.0
        return float(2.0**doublings)


class Followed:
    """How often one name came after another: name -> name -> weight, with and without decay."""

    def __init__(self, hours: float) -> None:
        self.of: dict[int, dict[int, list[float]]] = {}
        self.total: dict[int, float] = {}
        self.hours = hours
        self.origin = 0.0

    def add(self, first: int, then: int, hour: float) -> None:
        doublings = (hour - self.origin) / self.hours
        if doublings > 500:
            factor = 2.0 ** -min(doublings, 1000.0)
            for row in self.of.values():
                for pair in row.values():
                    pair[1] *= factor
            self.origin, doublings = hour, 0.0
        pair = self.of.setdefault(first, {}).setdefault(then, [0.0, 0.0])
        pair[0] += 1
        pair[1] += 2.0**doublings
        self.total[first] = self.total.get(first, 0.0) + 1

    def into(self, first: int, hour: float, whole: Floats, decayed: Floats) -> Ints:
        """Adds the weights of what followed to two arrays over all names; gives the names."""
        row = self.of.get(first)
        if not row:
            return np.zeros(0, np.int64)
        names = np.fromiter(row, np.int64, len(row))
        values = np.array(list(row.values()))
        whole[names] += values[:, 0]
        decayed[names] += values[:, 1] * 2.0 ** -((hour - self.origin) / self.hours)
        return names


class Window:
    """Counts of the last clicks."""

    def __init__(self, names: int, clicks: int) -> None:
        self.counts = np.zeros(names, np.int32)
        self.clicks = clicks
        self.queue: deque[int] = deque()

    def add(self, name: int) -> None:
        self.counts[name] += 1
        self.queue.append(name)
        if len(self.queue) > self.clicks:
            self.counts[self.queue.popleft()] -= 1


class Items:
    """`contexts`: how many values each context attribute has."""

    def __init__(self, names: int, contexts: list[int], width: int) -> None:
        self.popularity = [Decayed((names,), h) for h in HALF_LIVES]
        self.next_popularity = Decayed((names,), NEXT_HALF_LIFE)
        self.by_context = [
            [Decayed((values + 1, names), h) for h in CONTEXT_HALF_LIVES]
            for values in contexts
            if (values + 1) * names <= CELLS_MAX
        ]
        self.vectors = [Decayed((names, width), h) for h in VECTOR_HALF_LIVES]
        self.windows = [Window(names, clicks) for clicks in WINDOWS]
        self.active = Window(names, ACTIVE)
        self.first_hour = np.full(names, np.nan)
        self.last_hour = np.full(names, -np.inf)
        self.after = Followed(FOLLOWED_HALF_LIFE)
        self.together = Followed(4 * FOLLOWED_HALF_LIFE)

    def click(self, name: int, hour: float, context: list[int], earlier: list[int], vector: Vector | None) -> None:
        """A click, with the names clicked before it in its session and the session's vector before it."""
        for sums in self.popularity:
            weight = sums.weight(hour)
            sums.sums[name] += weight
        for pair, value in zip(self.by_context, context, strict=True):
            for sums in pair:
                weight = sums.weight(hour)
                sums.sums[value, name] += weight
        for window in (*self.windows, self.active):
            window.add(name)
        if np.isnan(self.first_hour[name]):
            self.first_hour[name] = hour
        self.last_hour[name] = hour
        if earlier:
            weight = self.next_popularity.weight(hour)
            self.next_popularity.sums[name] += weight
            self.after.add(earlier[-1], name, hour)
            for other in earlier[-EARLIER_MAX:]:
                if other != name:
                    self.together.add(other, name, hour)
                    self.together.add(name, other, hour)
        if vector is not None:
            for sums in self.vectors:
                weight = sums.weight(hour)
                sums.sums[name] += np.float32(weight) * vector

    def window_score(self, window: int, last: int | None) -> Floats:
        """The floor: counts of the last clicks, and (if `last` is given) that many times the share of the clicks after
        the last name that went to each, with 10 more clicks after it that went nowhere."""
        counted = self.windows[window]
        made = counted.counts.astype(np.float64)
        row = self.after.of.get(last) if last is not None else None
        if row and last is not None:
            names = np.fromiter(row, np.int64, len(row))
            made[names] += counted.clicks * np.array([p[0] for p in row.values()]) / (self.after.total[last] + 10)
        return made
