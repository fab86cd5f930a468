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
HALF_LIVES = (
    0.1,
    0.5,
    2.0,
    8.0,
    48.0,
    4.0,
)  # hours, of a name's popularity; the last: of clicks that are no first ones
CONTEXT_HALF_LIVES = (1.5, 12.0)
FOLLOWED_HALF_LIFE = 6.0
TOGETHER_HALF_LIFE = 24.0
VECTOR_HALF_LIVES = (6.0, 72.0)
WINDOWS = (500, 2000)  # clicks
ACTIVE = 5000  # clicks, whose names are candidates
CELLS_MAX = 16_000_000  # of the popularity by context values
EARLIER_MAX = 4  # clicks of a session before its last that are looked at
DOUBLINGS_MAX = 60.0  # after which what grows instead of decaying is written down anew
NOTHING = 1e-25  # of the weight of a click: forgotten


class Decayed:
    """Rows of sums that halve every so many hours, a column a half-life. They are kept growing instead: what is added
    later weighs more."""

    def __init__(self, rows: int, half_lives: tuple[float, ...], width: int = 1) -> None:
        self.sums = np.zeros((rows, len(half_lives), width) if width > 1 else (rows, len(half_lives)), np.float32)
        self.hours = np.array(half_lives)
        self.origin = 0.0
        self.until = -np.inf

    def weights(self, hour: float) -> Vector:
        """What one click weighs now in each column, in the units of `sums`."""
        if hour > self.until:
            factors = np.exp2(-np.minimum((hour - self.origin) / self.hours, 140.0)).astype(np.float32)
            self.sums *= factors if self.sums.ndim == 2 else factors[:, None]
            self.sums[np.abs(self.sums) < NOTHING] = 0  # numbers next to nothing are slow
            self.origin, self.until = hour, hour + DOUBLINGS_MAX * self.hours.min()
        return np.exp2((hour - self.origin) / self.hours).astype(np.float32)


class Row:
    """What came after one name: names, and their weights without and with decay."""

    def __init__(self) -> None:
        self.place: dict[int, int] = {}
        self.names = np.zeros(4, np.int64)
        self.weights = np.zeros((2, 4))

    def add(self, name: int, weight: float) -> None:
        at = self.place.setdefault(name, len(self.place))
        if at == len(self.names):
            self.names = np.concatenate([self.names, np.zeros_like(self.names)])
            self.weights = np.concatenate([self.weights, np.zeros_like(self.weights)], axis=1)
        self.names[at] = name
        self.weights[0, at] += 1
        self.weights[1, at] += weight


class Followed:
    """How often one name came after another."""

    def __init__(self, hours: float) -> None:
        self.of: dict[int, Row] = {}
        self.total: dict[int, float] = {}
        self.hours = hours
        self.origin = 0.0

    def add(self, first: int, then: int, hour: float) -> None:
        doublings = (hour - self.origin) / self.hours
        if doublings > 10 * DOUBLINGS_MAX:
            for known in self.of.values():
                known.weights[1] *= 2.0 ** -min(doublings, 1000.0)
            self.origin, doublings = hour, 0.0
        row = self.of.get(first)
        if row is None:
            row = self.of[first] = Row()
        row.add(then, 2.0**doublings)
        self.total[first] = self.total.get(first, 0.0) + 1

    def into(self, first: int, hour: float, whole: Floats, decayed: Floats) -> Ints:
        """Adds the weights of what followed to two arrays over all names; gives the names."""
        found = self.of.get(first)
        if found is None:
            return np.zeros(0, np.int64)
        n = len(found.place)
        names = found.names[:n]
        whole[names] += found.weights[0, :n]
        decayed[names] += found.weights[1, :n] * 2.0 ** -((hour - self.origin) / self.hours)
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
    """`contexts`: how many values each context attribute has. A value of -1 (none) has a place of its own."""

    def __init__(self, names: int, contexts: list[int], width: int) -> None:
        self.names = names
        self.offsets: list[int] = []
        cells = 0
        for values in contexts:
            if cells + (values + 1) * names > CELLS_MAX:
                break
            self.offsets.append(cells)
            cells += (values + 1) * names
        self.popularity = Decayed(names, HALF_LIVES)
        self.by_context = Decayed(cells, CONTEXT_HALF_LIVES)
        self.of_context = Decayed(cells // max(1, names), CONTEXT_HALF_LIVES)  # over all names
        self.vectors = Decayed(names, VECTOR_HALF_LIVES, max(2, width))
        self.windows = [Window(names, clicks) for clicks in WINDOWS]
        self.active = Window(names, ACTIVE)
        self.first_hour = np.full(names, np.nan)
        self.last_hour = np.full(names, -np.inf)
        self.after = Followed(FOLLOWED_HALF_LIFE)
        self.together = Followed(TOGETHER_HALF_LIFE)

    def cells(self, context: list[int]) -> Ints:
        """Where the names' popularity begins in each context value's part of `by_context`."""
        pairs = zip(self.offsets, context, strict=True)
        return np.array([offset + (value + 1) * self.names for offset, value in pairs], np.int64)

    def click(self, name: int, hour: float, context: list[int], earlier: list[int], vector: Vector | None) -> None:
        """A click, with the names clicked before it in its session and the session's vector before it."""
        weights = self.popularity.weights(hour)
        if not earlier:
            weights[-1] = 0
        self.popularity.sums[name] += weights
        if self.offsets:
            cells = self.cells(context)
            self.by_context.sums[cells + name] += self.by_context.weights(hour)
            self.of_context.sums[cells // self.names] += self.of_context.weights(hour)
        for window in (*self.windows, self.active):
            window.add(name)
        if np.isnan(self.first_hour[name]):
            self.first_hour[name] = hour
        self.last_hour[name] = hour
        if earlier:
            self.after.add(earlier[-1], name, hour)
            for other in earlier[-EARLIER_MAX:]:
                if other != name:
                    self.together.add(other, name, hour)
                    self.together.add(name, other, hour)
        if vector is not None:
            weights = self.vectors.weights(hour)
            self.vectors.sums[name] += weights[:, None] * vector

    def window_score(self, window: int, last: int | None) -> Floats:
        """The floor: counts of the last clicks, and (if `last` is given) that many times the share of the clicks after
        the last name that went to each, with 10 more clicks after it that went nowhere."""
        counted = self.windows[window]
        made = counted.counts.astype(np.float64)
        row = self.after.of.get(last) if last is not None else None
        if row and last is not None:
            n = len(row.place)
            made[row.names[:n]] += counted.clicks * row.weights[0, :n] / (self.after.total[last] + 10)
        return made
