"""Next-session retrieval: does the embedding pick the customer's real next session out of 100? Beside it, what trivial
predictions reach on the same candidates."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from . import pretext
from .dataset import READS, Dataset

CANDIDATES = 100
DECAYS = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 1.0)
Scores = dict[str, float]


@dataclass
class Task:
    """Transitions of all customers: the real next session's row among `candidates`, always in column 0."""

    owners: Tensor
    candidates: Tensor  # [n, CANDIDATES] rows of the session vectors


@torch.no_grad()
def figures(
    model: pretext.Trainable, judge: Dataset, vectors: Tensor, learn: Dataset, learn_vectors: Tensor, seed: int
) -> Scores:
    if sum(len(s) > 1 for s in judge.customers) < 2:
        return {}
    task = draw(judge, seed)
    found: Scores = {"transitions": float(len(task.owners))}
    model.eval()
    ahead = torch.cat([pretext.foretold(model, b)[0] for b in pretext.one_by_one(judge, vectors)])
    for r, moment in enumerate(READS):
        found |= named(f"model at {moment}", scores(task, vectors, ahead[:, r]))
    some = Dataset(learn.fields, learn.numbers, learn.customers[:300])
    fitting = draw(some, seed)
    decay = max(DECAYS, key=lambda d: scores(fitting, learn_vectors, decayed(some, learn_vectors, d))["mrr"])
    found |= named("last session", scores(task, vectors, decayed(judge, vectors, 0.0)))
    found |= named("mean of past sessions", scores(task, vectors, decayed(judge, vectors, 1.0)))
    found |= named(f"decayed mean ({decay:g}, fitted)", scores(task, vectors, decayed(judge, vectors, decay)))
    return found


def named(what: str, values: Scores) -> Scores:
    return {f"{what}: {k}": v for k, v in values.items()}


def draw(dataset: Dataset, seed: int) -> Task:
    """The other candidates are sessions of other customers that have one before them."""
    generator = torch.Generator().manual_seed(seed)
    owners: list[int] = []
    rows: list[int] = []
    for i, s in enumerate(dataset.customers):
        owners += [i] * (len(s) - 1)
        rows += range(s.first + 1, s.first + len(s))
    owner, row = torch.tensor(owners), torch.tensor(rows)
    picks = torch.randint(len(row), (len(row), CANDIDATES), generator=generator)
    for _ in range(100):
        own = owner[picks] == owner[:, None]
        if not own.any():
            break
        picks[own] = torch.randint(len(row), (int(own.sum()),), generator=generator)
    candidates = row[picks]
    candidates[:, 0] = row
    return Task(owner, candidates)


def scores(task: Task, vectors: Tensor, foretold: Tensor) -> Scores:
    """A tie counts half a rank."""
    unit = functional.normalize(vectors, dim=-1)
    foretold = functional.normalize(foretold, dim=-1)
    rank, cosine = [], []
    for at in range(0, len(foretold), 2048):
        part = torch.einsum("nd,ncd->nc", foretold[at : at + 2048], unit[task.candidates[at : at + 2048]])
        better = (part[:, 1:] > part[:, :1]).sum(1) + 0.5 * (part[:, 1:] == part[:, :1]).sum(1)
        rank.append(1 + better)
        cosine.append(part[:, 0])
    ranks = torch.cat(rank).double()
    return {
        "recall_at_1": float((ranks <= 1).double().mean()),
        "recall_at_10": float((ranks <= 10).double().mean()),
        "mrr": float((1 / ranks).mean()),
        "cosine": float(torch.cat(cosine).double().mean()),
    }


def decayed(dataset: Dataset, vectors: Tensor, decay: float) -> Tensor:
    """The decayed sum of the past sessions' vectors before each session but the first: 0 the last alone, 1 the mean."""
    sums = []
    for s in dataset.customers:
        total = torch.zeros(vectors.shape[1])
        for row in range(s.first, s.first + len(s) - 1):
            total = decay * total + vectors[row]
            sums.append(total)
    return torch.stack(sums)


def table(found: Scores) -> str:
    if not found:
        return "nobody to judge by"
    columns = ("recall_at_1", "recall_at_10", "mrr", "cosine")
    head = f"next session among {CANDIDATES}, {found['transitions']:.0f} transitions"
    lines = [f"{head:<48}{'R@1':>8}{'R@10':>8}{'MRR':>8}{'cosine':>8}"]
    for what in dict.fromkeys(k.rsplit(": ", 1)[0] for k in found if ": " in k):
        lines.append(f"{what:<48}" + "".join(f"{found[f'{what}: {c}']:>8.3f}" for c in columns))
    return "\n".join(lines)
