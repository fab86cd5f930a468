"""Ranks candidates: a small network with a softmax over a question's candidates, and LambdaMART, both fitted on `train`
and stopped on `valid`; their scores, standardised within a question, are averaged."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .records import Ints

Matrix = NDArray[np.float32]

HIDDEN = (128, 64)
EPOCHS_MAX = 12
PATIENCE = 3
BATCH = 32  # questions
RATE = 2e-3
DROPOUT = 0.1
NETWORKS = 2  # seeds, averaged
ROUNDS_MAX = 400
CLIP = 6.0


@dataclass
class Questions:
    """Q questions with up to C candidates each."""

    names: Ints  # [Q, C], -1 beyond the candidates
    features: Matrix  # [Q, C, F]
    truth: Ints  # [Q]: the place of what came, or -1: not among the candidates

    def __len__(self) -> int:
        return len(self.names)


Ranker = Callable[[Questions], Matrix]  # scores [Q, C]; -inf where there is no candidate


class Scale:
    def __init__(self, features: Matrix, present: NDArray[np.bool_]) -> None:
        rows = features[present]
        self.mean = rows.mean(axis=0)
        self.deviation = np.maximum(rows.std(axis=0), 1e-6)

    def __call__(self, features: Matrix) -> Matrix:
        return np.asarray(np.clip((features - self.mean) / self.deviation, -CLIP, CLIP), np.float32)


def networks(train: Questions, valid: Questions, seed: int) -> Ranker:
    """The mean over NETWORKS seeds."""
    found = [network(train, valid, seed * 1000 + i) for i in range(NETWORKS)]

    def rank(q: Questions) -> Matrix:
        return np.asarray(sum(score(model, q) for model in found) / len(found), np.float32)

    return rank


def network(train: Questions, valid: Questions, seed: int) -> Any:  # noqa: ANN401 # torch is not imported at the top
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    width = train.features.shape[2]
    model = torch.nn.Sequential(
        torch.nn.Linear(width, HIDDEN[0]),
        torch.nn.ReLU(),
        torch.nn.Dropout(DROPOUT),
        torch.nn.Linear(HIDDEN[0], HIDDEN[1]),
        torch.nn.ReLU(),
        torch.nn.Dropout(DROPOUT),
        torch.nn.Linear(HIDDEN[1], 1),
    )
    optimiser = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.01)
    usable = np.flatnonzero(train.truth >= 0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, EPOCHS_MAX * (len(usable) // BATCH + 1))
    best, kept, waited = -1.0, copy.deepcopy(model), 0
    for _ in range(EPOCHS_MAX):
        model.train()
        for rows in np.array_split(random.permutation(usable), max(1, len(usable) // BATCH)):
            logits = model(torch.from_numpy(train.features[rows])).squeeze(2)
            logits = logits.masked_fill(torch.from_numpy(train.names[rows] < 0), -1e9)
            loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(train.truth[rows]))
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
        found = quality(score(model, valid), valid)
        if found > best:
            best, kept, waited = found, copy.deepcopy(model), 0
        else:
            waited += 1
            if waited >= PATIENCE:
                break
    return kept


def score(model: "torch.nn.Module", q: Questions) -> Matrix:  # type: ignore[name-defined] # noqa: F821
    import torch

    model.eval()
    made = []
    with torch.no_grad():
        for rows in np.array_split(np.arange(len(q)), max(1, len(q) // 256)):
            made.append(model(torch.from_numpy(q.features[rows])).squeeze(2).numpy())
    scores = np.concatenate(made)
    scores[q.names < 0] = -np.inf
    return scores


def lambdamart(train: Questions, valid: Questions, seed: int) -> Ranker:
    import lightgbm

    def data(q: Questions, reference: "lightgbm.Dataset | None" = None) -> "lightgbm.Dataset":
        rows = np.flatnonzero(q.truth >= 0)
        present = q.names[rows] >= 0
        y = np.zeros(present.shape, np.int32)
        y[np.arange(len(rows)), q.truth[rows]] = 1
        return lightgbm.Dataset(q.features[rows][present], y[present], group=present.sum(axis=1), reference=reference)

    learnt = data(train)
    settings = {
        "objective": "lambdarank",
        "metric": "ndcg",
        "eval_at": [20],
        "learning_rate": 0.05,
        "num_leaves": 15,
        "min_data_in_leaf": 200,
        "feature_fraction": 0.4,
        "bagging_fraction": 0.7,
        "bagging_freq": 1,
        "lambdarank_truncation_level": 20,
        "max_bin": 127,
        "seed": seed,
        "num_threads": 1,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
    stop: list[Callable[..., Any]] = [lightgbm.early_stopping(30, verbose=False)]
    model = lightgbm.train(settings, learnt, ROUNDS_MAX, valid_sets=[data(valid, learnt)], callbacks=stop)

    def rank(q: Questions) -> Matrix:
        scores = np.full(q.names.shape, -np.inf, np.float32)
        present = q.names >= 0
        scores[present] = model.predict(q.features[present], num_threads=1)
        return scores

    return rank


def standardised(scores: Matrix) -> Matrix:
    """To mean 0 and deviation 1 within each question."""
    present = np.isfinite(scores)
    values = np.where(present, scores, 0)
    count = np.maximum(present.sum(axis=1, keepdims=True), 1)
    mean = values.sum(axis=1, keepdims=True) / count
    away = np.where(present, scores - mean, 0)
    deviation = np.sqrt((away * away).sum(axis=1, keepdims=True) / count)
    return np.where(present, away / np.maximum(deviation, 1e-6), -np.inf).astype(np.float32)


def mean(a: Matrix, b: Matrix) -> Matrix:
    return np.asarray((a + b) / 2, np.float32)


def places(scores: Matrix, q: Questions) -> tuple[Ints, Ints]:
    """What came: its place, from 1, with ties counted against it (0: it is no candidate), and how many ties."""
    known = q.truth >= 0
    own = np.where(known, scores[np.arange(len(q)), np.maximum(q.truth, 0)], np.inf)[:, None]
    ties = (scores == own).sum(axis=1) - 1
    place = (scores > own).sum(axis=1) + 1 + ties
    return np.where(known, place, 0), np.where(known, ties, 0)


def recall(place: Ints, k: int = 10) -> float:
    return float(((place > 0) & (place <= k)).mean()) if len(place) else 0.0


def mrr(place: Ints, k: int = 20) -> float:
    return float(np.where((place > 0) & (place <= k), 1 / np.maximum(place, 1), 0).mean()) if len(place) else 0.0


def quality(scores: Matrix, q: Questions) -> float:
    """What is chosen by: R@10 and MRR@20 together."""
    place, _ = places(scores, q)
    return recall(place) + mrr(place)
