"""Figures of quality. Every one is None where it has no meaning (one class alone, no rows)."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Figures = dict[str, float | None]

PROBABILITY_MIN = 1e-7  # for log loss
BINS = 15  # of the calibration error
RESAMPLES = 300


def auc(y: Ints, score: Floats) -> float | None:
    """Area under the ROC curve by ranks; a tie counts half."""
    ones = int(y.sum())
    if not 0 < ones < len(y):
        return None
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    rank = np.cumsum(count) - (count - 1) / 2  # mean rank of each distinct score, from 1
    return float((rank[place][y == 1].sum() - ones * (ones + 1) / 2) / (ones * (len(y) - ones)))


def hit_rate(y: Ints, score: Floats, false_alarms: float) -> float | None:
    """Share of the ones strictly above the (1 - false_alarms) quantile, linearly interpolated, of the zeros' scores."""
    if not 0 < y.sum() < len(y):
        return None
    threshold = np.quantile(score[y == 0], 1 - false_alarms)
    return float((score[y == 1] > threshold).mean())


def average_precision(y: Ints, score: Floats) -> float | None:
    """Sum of precision times the step in recall, over the distinct scores from above."""
    if not 0 < y.sum() < len(y):
        return None
    order = np.argsort(-score, kind="stable")
    last = np.append(np.flatnonzero(np.diff(score[order])), len(y) - 1)  # of each distinct score
    hits = np.cumsum(y[order])[last]
    return float((np.diff(hits, prepend=0) / hits[-1] * hits / (last + 1)).sum())


def log_loss(y: Ints, p: Floats) -> float | None:
    """Mean negative logarithm (nats) of the probability given to what happened; p is [n] (of 1) or [n, classes]."""
    if not len(y):
        return None
    q = np.where(y == 1, p, 1 - p) if p.ndim == 1 else p[np.arange(len(y)), y]
    return float(-np.log(np.clip(q, PROBABILITY_MIN, 1)).mean())


def calibration_error(y: Ints, p: Floats) -> float | None:
    """Expected calibration error: |mean p - share of ones| in BINS bins of equally many rows, weighted by rows."""
    if not len(y):
        return None
    bins = np.array_split(np.argsort(p, kind="stable"), min(BINS, len(y)))
    return float(sum(abs(p[b].mean() - y[b].mean()) * len(b) for b in bins) / len(y))


def ranks(score: Floats, truth: Ints) -> tuple[Ints, Ints]:
    """The truth's place among [n, classes] scores, from 1, each tie counted against it; and the number of ties."""
    own = score[np.arange(len(truth)), truth][:, None]
    ties = (score == own).sum(axis=1) - 1
    return (score > own).sum(axis=1) + ties + 1, ties


def binary(y: Ints, score: Floats, probability: bool) -> Figures:
    """The figures of a score for 1 against 0; log loss and calibration only where it is a probability."""
    made: Figures = {
        "auc": auc(y, score),
        "ap": average_precision(y, score),
        "hit_at_5": hit_rate(y, score, 0.05),
        "hit_at_1": hit_rate(y, score, 0.01),
    }
    if probability:
        made |= {"log_loss": log_loss(y, score), "calibration": calibration_error(y, score)}
    return made


def classes(truth: Ints, p: Floats) -> Figures:
    """The figures of [n, classes] probabilities; truth -1 is a class that they do not know: a miss."""
    if not len(truth):
        return {"accuracy": None, "top_3": None, "mrr": None, "log_loss": None}
    known = truth >= 0
    place, _ = ranks(p, np.maximum(truth, 0))
    loss = np.full(len(truth), -np.log(PROBABILITY_MIN))
    loss[known] = -np.log(np.clip(p[known, truth[known]], PROBABILITY_MIN, 1))
    return {
        "accuracy": float((known & (place == 1)).mean()),
        "top_3": float((known & (place <= 3)).mean()),
        "mrr": float(np.where(known, 1 / place, 0).mean()),
        "log_loss": float(loss.mean()),
    }


def resampled(
    figures: Callable[[Ints], Mapping[str, float | None]], customers: Ints, seed: int, resamples: int = RESAMPLES
) -> dict[str, Floats]:
    """Each figure on bootstrap samples of whole customers, drawn with replacement, NaN where it has no meaning;
    `figures` takes the rows drawn. With one seed and the same customers the samples are the same ones."""
    order = np.argsort(customers, kind="stable")
    rows = np.split(order, np.flatnonzero(np.diff(customers[order])) + 1)
    random = np.random.default_rng(seed)
    drawn: dict[str, Floats] = {}
    for at in range(resamples):
        picked = random.integers(0, len(rows), len(rows))
        for name, value in figures(np.concatenate([rows[i] for i in picked])).items():
            if value is not None:
                drawn.setdefault(name, np.full(resamples, np.nan))[at] = value
    return drawn


def middle(drawn: Mapping[str, Floats]) -> dict[str, tuple[float, float]]:
    """95 % of the samples."""
    known = {name: values[~np.isnan(values)] for name, values in drawn.items()}
    return {n: (float(np.quantile(v, 0.025)), float(np.quantile(v, 0.975))) for n, v in known.items() if len(v) > 1}
