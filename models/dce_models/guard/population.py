"""The other customers as constants of the graph."""

import numpy as np
import torch
from torch import Tensor

from .features import Floats, Population
from .layout import Layout

RARE = 0.01  # counts added to each word of everyone's
BACK_OFF = 20.0  # events that everyone's probability weighs in a prototype's, and in the strangers'


def population(
    layout: Layout, counts: Tensor, vectors: Tensor, owner: Tensor, prototypes_max: int, seed: int
) -> Population:
    """counts [n, words] and vectors [n, width] of sessions, owner [n]. Beyond `prototypes_max` customers, prototypes
    are those of groups of customers, by k-means over the square roots of their shares."""
    found, group = torch.unique(owner, return_inverse=True)
    sums = torch.zeros(len(found), layout.words).index_add_(0, group, counts)
    means = torch.zeros(len(found), layout.width).index_add_(0, group, vectors)
    total = sums.sum(0).numpy().astype(np.float64)
    if len(found) > prototypes_max:
        cluster = grouped(sums, prototypes_max, seed)
        sums = torch.zeros(prototypes_max, layout.words).index_add_(0, cluster, sums)
        means = torch.zeros(prototypes_max, layout.width).index_add_(0, cluster, means)
    counted = sums.numpy().astype(np.float64).T
    everyone, shares = np.zeros(layout.words), np.zeros_like(counted)
    for c in layout.columns:
        part = total[c.base : c.end] + RARE
        everyone[c.base : c.end] = part / part.sum()
        own = counted[c.base : c.end] + BACK_OFF * everyone[c.base : c.end, None]
        shares[c.base : c.end] = own / own.sum(0)
    norm = means.norm(dim=1, keepdim=True).clamp_min(1e-6)

    def single(x: np.ndarray) -> Floats:
        return np.ascontiguousarray(x, np.float32)

    return Population(
        single(shares.T),
        single(np.log(shares)),
        single(np.sqrt(shares / len(layout.columns))),
        single((means / norm).T.numpy()),
        single(everyone[None]),
    )


def strangers(layout: Layout, theirs: Tensor, others: Tensor) -> Floats:
    """[words, columns] from counts [n, words] of strangers' sessions and of the others: how much likelier a word is to
    be a stranger's, in its column's place."""
    made = np.zeros((layout.words, len(layout.columns)))
    found, total = (x.sum(0).numpy().astype(np.float64) for x in (theirs, others))
    for i, c in enumerate(layout.columns):
        everyone = total[c.base : c.end] + RARE
        everyone /= everyone.sum()
        strange = found[c.base : c.end] + BACK_OFF * everyone
        made[c.base : c.end, i] = np.log(strange / strange.sum() / everyone)
    return np.ascontiguousarray(made, np.float32)


def grouped(sums: Tensor, many: int, seed: int) -> Tensor:
    """Spherical k-means, ten rounds; an emptied group takes over the customer that lies worst."""
    roots = torch.sqrt(sums / sums.sum(1, keepdim=True).clamp_min(1.0))
    generator = torch.Generator().manual_seed(seed)
    centres = roots[torch.randperm(len(roots), generator=generator)[:many]]
    cluster = torch.zeros(len(roots), dtype=torch.long)
    for _ in range(10):
        likeness = roots @ torch.nn.functional.normalize(centres, dim=1).T
        best, cluster = likeness.max(1)
        for empty in (torch.bincount(cluster, minlength=many) == 0).nonzero().flatten().tolist():
            worst = int(best.argmin())
            cluster[worst], best[worst] = empty, 1.0
        centres = torch.zeros(many, roots.shape[1]).index_add_(0, cluster, roots)
    return cluster
