"""Events to words: which ids an event adds to its session's counts. A column for each field of the manifest, one for
pairs of neighbouring names, hashed, and one for each number, in bins."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..features import Features
from .layout import Column

LITTLE = 1e-6
FACTOR = 31_337  # of a pair's first name in its hash: (first * FACTOR + second) mod buckets

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Words:
    """Columns in order: the fields, pairs (if any), the numbers' bins."""

    columns: tuple[Column, ...]
    fields: int
    pair_buckets: int  # 0: no pairs
    edges: tuple[tuple[int, tuple[float, ...]], ...]  # number column, upper ends of all bins but the last

    def of(self, fields: Tensor, numbers: Tensor, before: Tensor) -> Tensor:
        """fields [.., F], numbers [.., N], the name before [..] (0: none) to ids [.., columns]."""
        parts = [fields[..., c] + self.columns[c].base for c in range(self.fields)]
        at = self.fields
        if self.pair_buckets:
            pair = torch.remainder(before * FACTOR + fields[..., 0], self.pair_buckets)
            parts.append(pair + self.columns[at].base)
            at += 1
        for number, edges in self.edges:
            inside = numbers[..., number, None] > torch.tensor(edges, dtype=torch.float32)
            parts.append(inside.sum(-1) + self.columns[at].base)
            at += 1
        return torch.stack(parts, dim=-1)

    def session(self, fields: Tensor, numbers: Tensor) -> Tensor:
        """A session's events [T, F] and [T, N], or a batch of them, to ids [T, columns]."""
        first = torch.zeros_like(fields[..., :1, 0])
        return self.of(fields, numbers, torch.cat([first, fields[..., :-1, 0]], dim=-1))


def words(features: Features, numbers: Floats, pair_buckets: int, bins: int, kinds_max: int) -> Words:
    """`numbers` [events, N] of the sessions to learn from: bins are even in the events that have the number; those that
    have none are a bin of their own. What never varies has none."""
    columns: list[Column] = []

    def add(name: str, size: int, most: int) -> None:
        columns.append(Column(name, columns[-1].end if columns else 0, size, min(size, most)))

    for c, f in enumerate(features.spec.fields):
        add(f.source, features.table_rows(c), kinds_max)
    if pair_buckets:
        add("pair of names", pair_buckets, kinds_max + kinds_max // 2)
    edges = []
    for number in range(numbers.shape[1]):
        ends = edges_of(numbers[:, number], bins, is_always_there=number == 0)
        if len(ends):
            edges.append((number, tuple(float(e) for e in ends)))
            add("time between" if number == 0 else features.spec.numbers[number - 1].source, len(ends) + 1, kinds_max)
    return Words(tuple(columns), len(features.spec.fields), pair_buckets, tuple(edges))


def edges_of(values: Floats, bins: int, is_always_there: bool) -> Floats:
    """Upper ends of all bins but the last. Where an event lacks a number, features have 0."""
    given = values if is_always_there else values[values != 0]
    if not len(given):
        return np.zeros(0, np.float32)
    ends = np.quantile(given, np.arange(1, bins) / bins)
    if len(given) < len(values):
        ends = np.concatenate([ends, [-LITTLE, 0.0]])
    found = np.unique(ends.astype(np.float32))
    below: Floats = found[found < values.max()]
    return below
