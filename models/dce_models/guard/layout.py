"""Where things lie in a session's vector and in a customer's state."""

from dataclasses import dataclass

from ..spec import Dimensions


@dataclass(frozen=True)
class Column:
    """A categorical column of the counts. Ids lie at base … base + size - 1 of the concatenated vocabulary."""

    name: str
    base: int
    size: int
    kinds_max: int  # of one session that the features look at: the most frequent ones

    @property
    def end(self) -> int:
        return self.base + self.size


@dataclass(frozen=True)
class Layout:
    """session = counts [words], vector [width]
    hidden  = counts [words], id of the last name [1]
    state   = profiles [decays x words], vectors [vector decays x width], sessions [1],
              quarantine, if any: counts [words], vector [width]"""

    columns: tuple[Column, ...]
    width: int
    decays: tuple[float, ...]
    vector_decays: tuple[float, ...] = (0.98, 0.8)
    quarantine: bool = False

    @property
    def words(self) -> int:
        return self.columns[-1].end

    @property
    def kinds(self) -> int:
        return sum(c.kinds_max for c in self.columns)

    @property
    def session(self) -> int:
        return self.words + self.width

    @property
    def vectors_at(self) -> int:
        return len(self.decays) * self.words

    @property
    def sessions_at(self) -> int:
        return self.vectors_at + len(self.vector_decays) * self.width

    @property
    def quarantine_at(self) -> int:
        return self.sessions_at + 1

    @property
    def state(self) -> int:
        return self.quarantine_at + (self.session if self.quarantine else 0)

    @property
    def dimensions(self) -> Dimensions:
        return Dimensions(self.session, self.words + 1, self.state, self.width)
