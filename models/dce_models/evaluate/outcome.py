"""The tasks `label` (a binary outcome) and `next_session` (a name): the bundle's head, a probe on the embedding, and
floors that need no model, all on the same labels."""

from collections import Counter
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from . import handmade, join, metrics, probe, situation
from .handmade import Blocks
from .join import Asked, Joined
from .metrics import Figures
from .records import Ints
from .result import Method, Result
from .situation import Head, Situation

Matrix = NDArray[np.float32]
Probabilities = NDArray[np.float64]

CHUNK = 32_768  # labels whose features are computed together
PROBES = ("logistic", "network", "trees")


def judge(task: str, s: Situation, asked: Asked) -> Result:
    joined = join.of_customer(asked, s.records)
    made = situation.begin(task, asked, joined)
    train, valid, test = (situation.rows_of(split, asked, s.folder) for split in ("train", "valid", "test"))
    if not len(test):
        made.notes.append("no test labels")
        return made
    classes = ["0", "1"] if task == "label" else class_names([asked.text[i] for i in train.tolist()])
    number = {name: i for i, name in enumerate(classes)}
    y = np.array([number.get(text, -1) for text in asked.text], np.int64)
    if task == "next_session":
        made.extra["classes"] = len(classes)
        made.extra["unknown"] = int((y[test] < 0).sum())
    if not classes:
        made.notes.append("no training labels: there is no name to foretell")
        return made
    prior = (np.bincount(y[train], minlength=len(classes)) + 1) / (len(train) + len(classes))
    parts = probe.parts_of(train, valid[y[valid] >= 0])
    vectors, scores = embeddings(s, joined)
    tested: dict[str, Probabilities] = {}
    if task in s.heads:
        use_head(s.heads[task], classes, scores, joined, test, prior, tested, made)
    tested |= probed(vectors, y, parts, joined, test, prior, s.seed, made)
    floors = floor_probabilities(s, asked, y, parts, test, len(classes), prior) if s.floors else {}
    if task == "label" and len(np.unique(y[test])) < 2:
        made.notes.append("the test labels are all the same: nothing can be ranked")
    for name, p in (*tested.items(), *floors.items()):
        made.methods.append(method(task, name, name in floors, y[test], p, asked.customer[test], s.seed))
    return made


def class_names(texts: list[str]) -> list[str]:
    return [name for name, _ in sorted(Counter(texts).items(), key=lambda item: (-item[1], item[0]))]


def embeddings(s: Situation, joined: Joined) -> tuple[Matrix, dict[str, Matrix]]:
    """A row for each label: NaN where it has no record."""
    found = np.flatnonzero(joined.hit)
    vectors, scores = s.records.gather(joined.row[found])
    return spread(vectors, found, len(joined.row)), {n: spread(v, found, len(joined.row)) for n, v in scores.items()}


def spread(values: Matrix, rows: Ints, n: int) -> Matrix:
    made = np.full((n, values.shape[1]), np.nan, np.float32)
    made[rows] = values
    return made


def use_head(
    head: Head,
    classes: list[str],
    scores: dict[str, Matrix],
    joined: Joined,
    test: Ints,
    prior: Probabilities,
    tested: dict[str, Probabilities],
    made: Result,
) -> None:
    """The head's probabilities, in the order of `classes`; where there is no score, the prior."""
    if head.name not in scores:
        made.notes.append(f"no record has a score of the head {head.name}")
        return
    found = scores[head.name][test].astype(np.float64)
    if made.task == "label":
        one = found[:, -1]
        p = np.stack([1 - one, one], axis=1)
    else:
        if len(head.classes) != found.shape[1]:
            made.notes.append(f"the head {head.name} does not say which names its scores are: it is left out")
            return
        p = in_order(found, head.classes, classes, prior)
    p[~np.isfinite(p).all(axis=1)] = prior
    tested[f"head {head.name}"] = p


def in_order(found: Probabilities, names: list[str], classes: list[str], prior: Probabilities) -> Probabilities:
    """A head's probabilities of its names, as those of `classes`. What it gives to names that are no class (one for all
    the others, say) is shared by the classes that it does not name, by their prior."""
    made = np.zeros((len(found), len(classes)))
    unnamed = np.array([name not in names for name in classes])
    for i, name in enumerate(classes):
        if name in names:
            made[:, i] = found[:, names.index(name)]
    rest = found[:, [name not in classes for name in names]].sum(axis=1, keepdims=True)
    if unnamed.any():
        made[:, unnamed] = rest * prior[unnamed] / prior[unnamed].sum()
    return made


def probed(
    vectors: Matrix,
    y: Ints,
    parts: tuple[Ints, Ints],
    joined: Joined,
    test: Ints,
    prior: Probabilities,
    seed: int,
    made: Result,
) -> dict[str, Probabilities]:
    """The probe that does best on the rows to choose on."""
    known = (parts[0][joined.hit[parts[0]]], parts[1][joined.hit[parts[1]]])
    fits = {kind: probe.fit(kind, vectors, y, known, len(prior), seed) for kind in PROBES}
    found = {kind: fit for kind, fit in fits.items() if fit}
    if not found:
        made.notes.append("too few training labels for a probe on the embedding")
        return {}
    best = min(found, key=lambda kind: found[kind][1])
    p = found[best][0](np.nan_to_num(vectors[test]))
    p[~joined.hit[test]] = prior
    return {f"embedding, {best}": p}


def floor_probabilities(
    s: Situation, asked: Asked, y: Ints, parts: tuple[Ints, Ints], test: Ints, classes: int, prior: Probabilities
) -> dict[str, Probabilities]:
    """What needs no model: the base rate, and simple models of what is known without one."""
    made = {"base rate": np.tile(prior, (len(test), 1))}
    if len(np.unique(y[parts[0]])) < 2:
        return made
    columns = handmade.columns_of(s.history, s.folder.cut_ms)
    parts = probe.drawn(parts)
    labels = np.concatenate(parts)
    halves = np.arange(len(parts[0])), np.arange(len(parts[0]), len(labels))
    blocks = handmade.as_of(s.history, asked.customer[labels], asked.time[labels], columns)
    models: dict[str, tuple[probe.Predict, Callable[[Blocks], Matrix]]] = {}
    for name, (kind, choices) in INPUTS.items():
        fits = [(f, c) for c in choices if (f := probe.fit(kind, c(blocks), y[labels], halves, classes, s.seed))]
        if fits:
            (predict, _), choice = min(fits, key=lambda pair: pair[0][1])
            models[name] = predict, choice
            made[name] = np.zeros((len(test), classes))
    del blocks
    order = np.argsort(asked.customer[test], kind="stable")
    for rows in np.array_split(order, 1 + len(order) // CHUNK):
        blocks = handmade.as_of(s.history, asked.customer[test[rows]], asked.time[test[rows]], columns)
        for name, (predict, choice) in models.items():
            if len(rows):
                made[name][rows] = predict(choice(blocks))
    return made


def decayed(g: float) -> Callable[[Blocks], Matrix]:
    return lambda b: np.log1p(b.decayed[g])


INPUTS: dict[str, tuple[str, list[Callable[[Blocks], Matrix]]]] = {
    "last session": ("logistic", [lambda b: np.log1p(b.last)]),
    "counts": ("logistic", [lambda b: np.log1p(b.counts)]),
    "decayed counts": ("logistic", [decayed(g) for g in handmade.DECAYS]),
    "trees on hand-made features": (
        "trees",
        [lambda b: np.concatenate([b.more, b.last, b.counts, b.decayed[0.8]], axis=1)],
    ),
}


def method(task: str, name: str, floor: bool, y: Ints, p: Probabilities, customers: Ints, seed: int) -> Method:
    def figures(rows: Ints) -> Figures:
        if task == "label":
            return metrics.binary(y[rows], p[rows, 1], probability=True)
        return metrics.classes(y[rows], p[rows])

    return Method(name, floor, figures(np.arange(len(y))), metrics.resampled(figures, customers, seed))
