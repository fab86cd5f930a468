"""Customers' sessions as counts, ready to learn from."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .layout import Layout


@dataclass
class Sample:
    """Sessions one after the other, each customer's in fold order."""

    layout: Layout
    tokens: Tensor  # [events, columns] ids of the concatenated vocabulary
    starts: Tensor  # [sessions + 1] a session's first event
    first: list[int]  # [customers + 1] a customer's first session

    @property
    def customers(self) -> int:
        return len(self.first) - 1

    def sessions(self, customer: int) -> range:
        return range(self.first[customer], self.first[customer + 1])

    def counts(self, rows: Tensor) -> Tensor:
        """[rows, words]."""
        return self.some(rows, lambda length: torch.ones(int(length.sum()), dtype=torch.bool))

    def stretches(self, rows: Tensor, shortest: float, blanked: float, generator: torch.Generator) -> Tensor:
        """The counts of a random stretch of each session, `shortest` of its length at least, some events left out."""
        length = (self.starts[rows + 1] - self.starts[rows]).double()
        draw = torch.rand(2, len(rows), generator=generator, dtype=torch.double)
        kept = torch.ceil(length * (shortest + (1 - shortest) * draw[0]))
        begin = torch.floor((length - kept + 1) * draw[1])

        def pick(lengths: Tensor) -> Tensor:
            place = torch.arange(int(lengths.sum())) - torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths)
            low, many = torch.repeat_interleave(begin, lengths), torch.repeat_interleave(kept, lengths)
            shown = torch.rand(len(place), generator=generator) >= blanked
            return (place >= low) & (place < low + many) & (shown | (place == low))

        return self.some(rows, pick)

    def some(self, rows: Tensor, pick: Callable[[Tensor], Tensor]) -> Tensor:
        start = self.starts[rows]
        length = self.starts[rows + 1] - start
        owner = torch.repeat_interleave(torch.arange(len(rows)), length)
        place = torch.arange(len(owner)) - torch.repeat_interleave(length.cumsum(0) - length, length)
        at = start[owner] + place
        keep = pick(length)
        owner, at = owner[keep], at[keep]
        flat = (owner[:, None] * self.layout.words + self.tokens[at]).reshape(-1)
        found = torch.bincount(flat, minlength=len(rows) * self.layout.words)
        return found.reshape(len(rows), self.layout.words).float()
