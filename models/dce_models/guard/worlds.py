"""What a model knows of everybody when some are left out: its encoder and its picture of the other customers.

A closed world flatters: an encoder or a population that has seen the simulated intruders makes the simulation look
superb and reality bad. So each group of intruders has a world that was made without it, from sessions before those that
are judged, as it is when the model meets a thief in earnest."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..device import CPU
from .encoder import Contrast, Encoder, encode, train
from .features import Population
from .ops import Torch
from .population import population, strangers
from .sample import Sample

CHUNK = 4096
EARLY = 0.4  # of a customer's sessions, that encoder and population learn from


@dataclass
class World:
    encoder: Encoder
    population: Population
    vectors: Tensor  # [sessions, width], on the CPU


def world(
    sample: Sample,
    strange: Tensor,
    counts: Tensor,
    without: set[int],
    prototypes_max: int,
    contrast: Contrast,
    seed: int,
    judged: set[int] | None = None,
    device: torch.device = CPU,
) -> World:
    """`without` whom it is made. With `judged`, what strangers do is part of it, and what everyone does: by all
    customers but these, whose sessions are to be told by it."""
    early = [own for c, own in enumerate(early_sessions(sample, strange)) if c not in without]
    encoder = train(sample, early, contrast, seed, device)
    vectors = vectors_of(encoder, counts, device)
    rows = torch.tensor([r for own in early for r in own])
    owner = torch.tensor([c for c, own in enumerate(early) for _ in own])
    people = population(sample.layout, counts[rows], vectors[rows], owner, prototypes_max, seed)
    if judged is not None:
        host = torch.repeat_interleave(torch.arange(sample.customers), torch.tensor(sample.first).diff())
        others = ~torch.isin(host, torch.tensor(sorted(judged), dtype=torch.long))
        known, own = others & (strange > 0), others & (strange == 0)
        people.strangers = strangers(sample.layout, counts[known], counts[own])
    return World(encoder, people, vectors)


def early_sessions(sample: Sample, strange: Tensor) -> list[list[int]]:
    """Two at least, none that is known to be a stranger's."""
    made = []
    for customer in range(sample.customers):
        own = [row for row in sample.sessions(customer) if not strange[row]]
        made.append(own[: max(2, round(EARLY * len(own)))])
    return made


def all_counts(sample: Sample) -> Tensor:
    return torch.cat([sample.counts(rows) for rows in torch.arange(sample.first[-1]).split(CHUNK)])  # type: ignore[no-untyped-call]


@torch.no_grad()
def vectors_of(encoder: Encoder, counts: Tensor, device: torch.device = CPU) -> Tensor:
    o = Torch(device)
    return torch.cat([encode(o, encoder, part.to(device)).cpu() for part in counts.split(CHUNK)])  # type: ignore[no-untyped-call]
