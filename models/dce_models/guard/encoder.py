"""A session's vector: a bag of its words, learned so that sessions of one customer lie close together. Supervised by
who the customer is (contrastive; the loss of prototypical networks, Snell et al., NeurIPS 2017, with cosines)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ..device import CPU
from .layout import Layout
from .ops import Ops, V
from .sample import Sample

Floats = NDArray[np.float32]
Say = Callable[[str], None]


@dataclass
class Encoder:
    table: Floats  # [words, width]
    mix: Floats  # [width, width]


def encode(o: Ops, encoder: Encoder, counts: V) -> V:
    """h = Σ √c_v e_v, vector = unit(h + W tanh h): [B, words] to [B, width]."""
    h = o.linear(o.sqrt(counts), encoder.table)
    raw = h + o.linear(o.tanh(h), encoder.mix)
    return raw / o.sqrt(o.sum(raw * raw, encoder.table.shape[1]) + 1e-12)


class Bag(nn.Module):
    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(layout.words, layout.width) * layout.width**-0.5)
        self.mix = nn.Parameter(torch.randn(layout.width, layout.width) * 0.1)
        self.scale = nn.Parameter(torch.tensor(10.0))

    def forward(self, counts: Tensor) -> Tensor:
        h = torch.sqrt(counts) @ self.table
        return functional.normalize(h + torch.tanh(h) @ self.mix, dim=-1)


@dataclass
class Contrast:
    """How an encoder is trained."""

    steps: int = 400
    customers: int = 64  # of a step
    others: int = 4  # sessions that make a customer's prototype
    shortest: float = 0.4
    blanked: float = 0.1
    rate: float = 3e-3
    decay: float = 0.02


def train(
    sample: Sample, sessions: list[list[int]], settings: Contrast, seed: int, device: torch.device = CPU
) -> Encoder:
    """`sessions`: each customer's rows to learn from; those with fewer than two take no part."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    bag = Bag(sample.layout).to(device)
    optimiser = torch.optim.AdamW(bag.parameters(), lr=settings.rate, weight_decay=settings.decay)
    usable = [torch.tensor(own) for own in sessions if len(own) >= 2]
    many = 1 + settings.others
    for _ in range(settings.steps if len(usable) >= 2 else 0):
        drawn = torch.randperm(len(usable), generator=generator)[: settings.customers].tolist()
        rows = []
        for customer in drawn:
            own = usable[customer]
            order = torch.randperm(len(own), generator=generator)
            # one session, and others for its prototype, again and again where they are few
            rows.append(own[torch.cat([order[:1], order[1:].repeat(many)[: settings.others]])])
        counts = sample.stretches(torch.cat(rows), settings.shortest, settings.blanked, generator).to(device)
        vectors = bag(counts).reshape(len(drawn), many, -1)
        prototypes = functional.normalize(vectors[:, 1:].mean(1), dim=-1)
        loss = functional.cross_entropy(
            vectors[:, 0] @ prototypes.T * bag.scale, torch.arange(len(drawn), device=device)
        )
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return Encoder(*(w.detach().cpu().numpy().copy() for w in (bag.table, bag.mix)))
