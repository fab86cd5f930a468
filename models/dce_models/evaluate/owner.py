"""The task `owner`: is a session its customer's own? The score of its last settled record, and how early it is seen."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..folder import SPLITS
from . import bayes, beside, handmade, join, metrics, probe, situation
from .handmade import Blocks
from .history import History
from .join import MISS, Asked, Joined
from .metrics import Figures
from .records import Ints
from .result import Method, Result
from .situation import Situation

Scores = NDArray[np.float64]
Vectors = NDArray[np.float32]

GATE = "1 - gate"
EARLY = (1, 2, 5, 10, 20, 50)  # events of a session
LABELS_MIN = 10  # of each class, to fit a floor with


def judge(s: Situation, asked: Asked) -> Result:
    joined = join.containing(asked, s.records)
    made = situation.begin("owner", asked, joined)
    test = situation.rows_of("test", asked, s.folder)
    if not len(test):
        made.notes.append("no test labels")
        return made
    y = np.array([int(text) for text in asked.text], np.int64)
    if len(np.unique(y[test])) < 2:
        made.notes.append("the test labels are all the same: nothing can be ranked")
    rows = joined.row[test]
    scorer = scorer_of(s, rows, made)
    name, probability = scorer.name, scorer.probability
    score = scorer.scores(s, rows)
    customers = asked.customer[test]
    made.methods.append(method(name, False, y[test], score, probability, customers, s.seed))
    if scorer.is_known_early:
        made.extra["early"] = early(s, rows, y[test], scorer)
    found = floors(s, asked, joined, y, test, made) if s.floors else {}
    for floor, (values, is_probability) in found.items():
        made.methods.append(method(floor, True, y[test], values, is_probability, customers, s.seed))
    return made


def method(name: str, floor: bool, y: Ints, score: Scores, probability: bool, customers: Ints, seed: int) -> Method:
    def figures(rows: Ints) -> Figures:
        return metrics.binary(y[rows], score[rows], probability)

    return Method(name, floor, figures(np.arange(len(y))), metrics.resampled(figures, customers, seed))


@dataclass(frozen=True)
class Scorer:
    """Which number of a record is its score, the higher the stranger."""

    name: str
    head: str | None  # else the gate or cosine_shift
    probability: bool

    @property
    def is_known_early(self) -> bool:
        """A record of an open session has no gate yet."""
        return self.name != GATE

    def scores(self, s: Situation, rows: Ints) -> Scores:
        """A label without a record gets the lowest: it raises no alarm."""
        hit = rows != MISS
        if self.head:
            _, found = s.records.gather(rows[hit])
            values = found[self.head][:, -1].astype(np.float64) if self.head in found else np.full(hit.sum(), np.nan)
            return filled(values, hit)
        values = 1 - s.records.gate[rows[hit]] if self.name == GATE else s.records.cosine_shift[rows[hit]]
        return filled(values, hit)


def scorer_of(s: Situation, rows: Ints, made: Result) -> Scorer:
    """The bundle's head; without one 1 - gate, if the gate moves; else cosine_shift."""
    hit = rows != MISS
    head = s.heads.get("owner")
    if head:
        _, found = s.records.gather(rows[hit])
        if head.name in found:
            return Scorer(f"head {head.name}", head.name, True)
        made.notes.append(f"no record has a score of the head {head.name}")
    moves = len(np.unique(s.records.gate[rows[hit]])) > 1
    return Scorer(GATE if moves else "cosine_shift", None, False)


def filled(values: Scores, hit: NDArray[np.bool_]) -> Scores:
    lowest = float(np.nanmin(values)) if np.isfinite(values).any() else 0.0
    made = np.full(len(hit), lowest)
    made[hit] = np.where(np.isnan(values), lowest, values)
    return made


def early(s: Situation, rows: Ints, y: Ints, scorer: Scorer) -> dict[str, dict[str, float | int | None]]:
    """AUC of the same score on what is known after k events: of a session's records, provisional ones included, the
    last one with at most k events (all of a session that has fewer)."""
    r = s.records
    hit = rows != MISS
    wanted = r.uid[rows[hit]]
    of_session = np.flatnonzero(np.isin(r.uid, wanted) & ~r.settled)
    order = of_session[np.lexsort((r.sequence[of_session], r.event_count[of_session], r.uid[of_session]))]
    length = np.zeros(int(r.uid.max(initial=0)) + 1, np.int64)
    np.maximum.at(length, r.uid, r.event_count)
    result: dict[str, dict[str, float | int | None]] = {}
    for k in EARLY:
        short = order[r.event_count[order] <= k]
        last = np.full(len(length), MISS, np.int64)
        last[r.uid[short]] = short  # the last of each session stays
        known = rows.copy()
        open_still = hit.copy()
        open_still[hit] = length[r.uid[rows[hit]]] > k
        known[open_still] = last[r.uid[rows[open_still]]]
        score = scorer.scores(s, known)
        result[str(k)] = {"auc": metrics.auc(y, score), "sessions_open": int(open_still.sum())}
    return result


# -- floors ------------------------------------------------------------------------------------------------------------


def floors(
    s: Situation, asked: Asked, joined: Joined, y: Ints, test: Ints, made: Result
) -> dict[str, tuple[Scores, bool]]:
    """Naive Bayes always; where the training labels know both classes, simple models fitted on them too."""
    h, cut = s.history, s.folder.cut_ms
    number = {key: i for i, key in enumerate(zip(h.session_customer.tolist(), h.session_uids, strict=True))}
    session = np.full(len(asked), MISS, np.int64)
    for i in np.flatnonzero(joined.hit).tolist():
        session[i] = number.get(s.records.uids[s.records.uid[joined.row[i]]], MISS)
    used = np.lexsort((h.session_customer, h.session_start)).astype(np.int64)
    place = np.empty_like(used)
    place[used] = np.arange(len(used))
    # Known strangers' sessions teach nobody's profile.
    strange = np.zeros(len(used), bool)
    strange[place[session[(y == 1) & (asked.split == SPLITS.index("train")) & (session != MISS)]]] = True
    past = h.session_end[used] < cut if cut is not None else np.ones(len(used), bool)
    names = beside.names_of(h, used)
    vocabulary = max((int(x.max()) for x in names), default=0) + 1
    row = np.where(session[test] == MISS, MISS, place[session[test]])
    found: dict[str, tuple[Scores, bool]] = {}
    learnt = past & ~strange
    for kind, online in (("naive Bayes, static", False), ("naive Bayes, online", True)):
        score = bayes.scores(h.session_customer[used], names, learnt, vocabulary, online)
        found[kind] = at(score, row), False
    train, valid = (situation.rows_of(split, asked, s.folder) for split in ("train", "valid"))
    parts = probe.parts_of(train[session[train] != MISS], valid[session[valid] != MISS])
    if min(np.bincount(y[parts[0]], minlength=2)) < LABELS_MIN:
        made.notes.append(f"fewer than {LABELS_MIN} training labels of a class: only naive Bayes is a floor")
        return found
    of_label = np.where(session == MISS, MISS, place[np.maximum(session, 0)])
    found |= fitted(h, handmade.columns_of(h, cut), used, of_label, y, parts, test, s.seed)
    return found


def fitted(
    h: History, columns: Ints, used: Ints, row: Ints, y: Ints, parts: tuple[Ints, Ints], test: Ints, seed: int
) -> dict[str, tuple[Scores, bool]]:
    """Simple models on a session and what was before it: fitted on some rows, then asked as the rows come by.
    `row`: of each label its session's place in `used`, or MISS."""
    parts = probe.drawn(parts)
    labels = np.concatenate(parts)
    rows = row[labels]
    learnt = [b for _, b in beside.sessions(h, columns, used, mask(len(used), rows))]
    known = np.unique(rows)
    at_row = np.searchsorted(known, rows)
    halves = np.arange(len(parts[0])), np.arange(len(parts[0]), len(labels))
    models: dict[str, tuple[probe.Predict, Callable[[Blocks], Vectors]]] = {}
    for name, (kind, choices) in INPUTS.items():
        fits = []
        for choice in choices:
            x = np.concatenate([choice(b) for b in learnt])[at_row]
            if fit := probe.fit(kind, x, y[labels], halves, 2, seed):
                fits.append((fit, choice))
        if fits:
            (predict, _), choice = min(fits, key=lambda pair: pair[0][1])
            models[name] = predict, choice
    del learnt
    scores = {name: np.zeros(len(used)) for name in models}
    if models:
        for described, blocks in beside.sessions(h, columns, used, mask(len(used), row[test])):
            for name, (predict, choice) in models.items():
                scores[name][described] = predict(choice(blocks))[:, 1]
    asked = row[test]
    return {name: (np.where(asked == MISS, 0.0, score[asked]), True) for name, score in scores.items()}


def decayed(g: float) -> Callable[[Blocks], Vectors]:
    return lambda b: np.log1p(b.decayed[g])


INPUTS: dict[str, tuple[str, list[Callable[[Blocks], Vectors]]]] = {
    "last session": ("logistic", [lambda b: np.log1p(b.last)]),
    "counts": ("logistic", [lambda b: np.log1p(b.counts)]),
    "decayed counts": ("logistic", [decayed(g) for g in handmade.DECAYS]),
    "trees on hand-made features": ("trees", [lambda b: np.concatenate([b.more, b.last], axis=1)]),
}


def mask(n: int, rows: Ints) -> NDArray[np.bool_]:
    made = np.zeros(n, bool)
    made[rows[rows != MISS]] = True
    return made


def at(score: Scores, row: Ints) -> Scores:
    lowest = float(score.min()) if len(score) else 0.0
    return np.where(row == MISS, lowest, score[np.maximum(row, 0)] if len(score) else lowest)
