"""The task `next`: the next name in a session, ranked by a reader of the embeddings. The reader walks through the
clicks in order of time; a label is asked about when every click before its event_time, and none at or after it, is
known. Customers' vectors come from the records; what is about the names (popularity, what follows what) is the
reader's own, as it would be a recommender's.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..folder import SPLITS
from . import handmade, join, metrics, ranker, situation
from .candidates import Matrix, Moment, Reader
from .items import HOUR_MS, WINDOWS, Floats, Items, Vector
from .join import MISS, Asked, Joined
from .metrics import Figures
from .ranker import Questions
from .records import NONE, Ints
from .result import Method, Result
from .situation import Situation

TRAIN_MAX = 40_000  # training labels that are asked about, the last ones
TRAIN_CANDIDATES = 100  # of each, to fit with
REPEATS_MAX = (
    0.05  # share of the training labels that name what their session has seen: below it nothing is named twice
)
BEFORE_MAX = 8  # names of a customer's earlier sessions that are kept
POSITIONS = 5  # places in a session that are told apart: the last one stands for all that follow
LABELS_MIN = 50  # to fit a reader with

Session = tuple[int, int]  # customer and session_id, or NONE and the pipeline's session


@dataclass
class Walk:
    """What a walk through the clicks gives."""

    questions: dict[str, Questions]
    floors: dict[str, tuple[Ints, Ints]]  # of the test labels: place, ties
    test: Ints  # labels in the order of the questions


def judge(s: Situation, asked: Asked) -> Result:
    joined = join.of_session(asked, s.records, s.session_ids)
    made = situation.begin("next", asked, joined)
    rows = {split: situation.rows_of(split, asked, s.folder) for split in SPLITS}
    if not len(rows["test"]):
        made.notes.append("no test labels")
        return made
    sessions = sessions_of(s, asked)
    repeats = repeated(s, asked, sessions, rows["train"])
    leave_out = repeats < REPEATS_MAX
    made.extra["repeats_in_train"] = round(repeats, 4)
    made.notes.append(
        f"{repeats:.1%} of the training labels name what their session has seen: such names are "
        + ("left out" if leave_out else "candidates like all others")
    )
    walk = walk_through(s, asked, joined, sessions, rows, leave_out)
    customers = asked.customer[rows["test"]]
    train, valid, test = (walk.questions[split] for split in SPLITS)
    made.extra["candidates_hold"] = round(float((test.truth >= 0).mean()), 4)
    if min((train.truth >= 0).sum(), (valid.truth >= 0).sum()) < LABELS_MIN:
        made.notes.append(f"fewer than {LABELS_MIN} usable labels in train or valid: no reader is fitted")
    else:
        made.methods += fitted(train, valid, test, customers, s.seed)
    if s.floors:
        for name, (place, ties) in walk.floors.items():
            made.methods.append(method(name, True, place, ties, customers, s.seed))
    return made


def fitted(train: Questions, valid: Questions, test: Questions, customers: Ints, seed: int) -> list[Method]:
    """The network, LambdaMART and both; first the one that does best on valid."""
    of_network = ranker.networks(train, valid, [valid, test], seed)
    of_trees = ranker.lambdamart(train, valid, [valid, test], seed)
    pairs = zip(of_network, of_trees, strict=True)
    both = [ranker.mean(ranker.standardised(a), ranker.standardised(b)) for a, b in pairs]
    scored: dict[str, list[Matrix]] = {
        "reader, network": of_network,
        "reader, LambdaMART": of_trees,
        "reader, both": both,
    }
    order = sorted(scored, key=lambda name: -ranker.quality(scored[name][0], valid))
    return [method(n, False, *ranker.places(scored[n][1], test), customers, seed) for n in order]


def method(name: str, floor: bool, place: Ints, ties: Ints, customers: Ints, seed: int) -> Method:
    def figures(rows: Ints) -> Figures:
        return {"recall_at_10": ranker.recall(place[rows]), "mrr_at_20": ranker.mrr(place[rows])}

    whole: Figures = figures(np.arange(len(place)))
    made = Method(name, floor, whole, metrics.intervals(figures, customers, seed))
    made.figures["ties"] = float((ties > 0).sum())
    return made


# -- which session, and what it has seen -------------------------------------------------------------------------------


def sessions_of(s: Situation, asked: Asked) -> list[Session]:
    """By its session_id; without one, the pipeline's session that event_time lies in."""
    h = s.history
    number = {key: i for i, key in enumerate(zip(h.session_customer.tolist(), h.session_uids, strict=True))}
    inside = join.containing(asked, s.records).row
    made = []
    for customer, named, row in zip(asked.customer.tolist(), asked.session_id.tolist(), inside.tolist(), strict=True):
        if named != NONE:
            made.append((customer, named))
        else:
            made.append((NONE, NONE if row == MISS else number.get(s.records.uids[s.records.uid[row]], NONE)))
    return made


def session_of(s: Situation, event: int) -> Session:
    h = s.history
    named = int(h.named[event])
    return (int(h.customer[event]), named) if named != NONE else (NONE, int(h.session[event]))


def in_order(s: Situation, asked: Asked, labels: Ints) -> Iterator[tuple[int, int]]:
    """Events and labels by time: (event, NONE) or (NONE, label); a label before the events of its own
    moment. What comes after the last label is left out."""
    h = s.history
    events = np.argsort(h.time, kind="stable")
    labels = labels[np.argsort(asked.time[labels], kind="stable")]
    first = np.searchsorted(h.time[events], asked.time[labels], side="left")
    at = 0
    for label, until in zip(labels.tolist(), first.tolist(), strict=True):
        for event in events[at:until].tolist():
            yield event, NONE
        at = until
        yield NONE, label


def repeated(s: Situation, asked: Asked, sessions: list[Session], labels: Ints) -> float:
    """Share of the labels whose name was in their session before."""
    seen: defaultdict[Session, set[int]] = defaultdict(set)
    again = 0
    for event, label in in_order(s, asked, labels):
        if event != NONE:
            seen[session_of(s, event)].add(int(s.history.name[event]))
        else:
            again += s.history.names.of.get(asked.text[label], NONE - 1) in seen[sessions[label]]
    return again / max(1, len(labels))


# -- the walk ----------------------------------------------------------------------------------------------------------


def walk_through(
    s: Situation, asked: Asked, joined: Joined, sessions: list[Session], rows: dict[str, Ints], leave_out: bool
) -> Walk:
    h = s.history
    names = len(h.names)
    vectors = centred(s, asked, joined)
    contexts = [(values, count) for values, count in context_columns(s)]
    items = Items(names, [POSITIONS, *(count for _, count in contexts)], 1 if vectors is None else vectors.shape[1])
    contexts = contexts[: max(0, len(items.offsets) - 1)]
    positioned = bool(items.offsets)
    reader = Reader(items)
    split_of = {int(label): split for split in SPLITS for label in rows[split][-TRAIN_MAX if split == "train" else 0 :]}
    every = np.concatenate([rows[split] for split in SPLITS]).astype(np.int64)
    place_of = {int(label): i for split in SPLITS for i, label in enumerate(rows[split])}
    found: dict[str, list[tuple[int, Ints, Matrix, int]]] = {split: [] for split in SPLITS}
    floors = {name: ([0] * len(rows["test"]), [0] * len(rows["test"])) for name in FLOORS}
    clicked: defaultdict[Session, list[int]] = defaultdict(list)
    last_event: dict[Session, int] = {}
    of_customer: defaultdict[int, list[tuple[Session, int]]] = defaultdict(list)
    pending: dict[tuple[Session, int], Vector] = {}  # the vector of a label whose click comes next
    for event, label in in_order(s, asked, every):
        if event != NONE:
            name, session, hour = int(h.name[event]), session_of(s, event), h.time[event] / HOUR_MS
            if name == NONE:
                continue
            earlier = clicked[session]
            vector = pending.pop((session, int(h.time[event])), None)
            items.click(name, hour, context_of(event, len(earlier), contexts, positioned), earlier, vector)
            earlier.append(name)
            last_event[session] = event
            mine = of_customer[int(h.customer[event])]
            mine.append((session, name))
            del mine[: -4 * BEFORE_MAX]
            continue
        session, time = sessions[label], int(asked.time[label])
        vector = vectors[label] if vectors is not None and joined.row[label] != MISS else None
        if vector is not None:
            pending[session, time] = vector
        if label not in split_of:
            continue
        split, truth = split_of[label], h.names.of.get(asked.text[label], NONE)
        last = last_event.get(session, NONE)
        moment = Moment(
            hour=time / HOUR_MS,
            since=(time - h.time[last]) / HOUR_MS if last != NONE else 0.0,
            context=context_of(last, len(clicked[session]), contexts, positioned),
            session=clicked[session],
            before=[n for other, n in of_customer[int(asked.customer[label])] if other != session][-BEFORE_MAX:],
            vector=vector,
        )
        pool, features = reader.ask(moment, leave_out)
        found[split].append((place_of[label], *trimmed(pool, features, truth, split == "train")))
        if split == "test" and s.floors:
            for floor, (window, follow) in FLOORS.items():
                score = items.window_score(window, clicked[session][-1] if follow and clicked[session] else None)
                at = place_of[label]
                floors[floor][0][at], floors[floor][1][at] = floor_place(
                    score, truth, clicked[session], leave_out, items
                )
    return Walk(
        {split: questions(found[split]) for split in SPLITS},
        {name: (np.array(place), np.array(ties)) for name, (place, ties) in floors.items()},
        rows["test"],
    )


FLOORS = {
    f"last {clicks} clicks" + (", and what followed the last name" if follow else ""): (i, follow)
    for follow in (False, True)
    for i, clicks in enumerate(WINDOWS)
}


def floor_place(score: Floats, truth: int, session: list[int], leave_out: bool, items: Items) -> tuple[int, int]:
    """The truth's place from 1 (0: it cannot be named) and its ties, which the later clicked of two names wins."""
    if truth == NONE or score[truth] <= 0 or (leave_out and truth in session):
        return 0, 0
    if leave_out:
        score[session] = -1
    tied = score == score[truth]
    later = tied & (items.last_hour > items.last_hour[truth])
    return int((score > score[truth]).sum() + later.sum() + 1), int(tied.sum() - 1)


def context_of(event: int, earlier: int, contexts: list[tuple[Ints, int]], positioned: bool) -> list[int]:
    """The click's place in its session, and the event's values."""
    if not positioned:
        return []
    return [min(earlier, POSITIONS - 1), *(int(c[event]) if event != NONE else NONE for c, _ in contexts)]


def context_columns(s: Situation) -> list[tuple[Ints, int]]:
    """Each event's value of the attributes that are categories, and how many values there are; -1: none."""
    made = []
    for column in handmade.categories(s.history, ("channel", "device_id")):
        values = np.nan_to_num(column, nan=-1).astype(np.int64)
        made.append((values, int(values.max()) + 1))
    return made


def centred(s: Situation, asked: Asked, joined: Joined) -> Matrix | None:
    """Each label's embedding less the mean over the training labels."""
    hit = np.flatnonzero(joined.hit)
    if not len(hit):
        return None
    vectors, _ = s.records.gather(joined.row[hit])
    train = asked.split[hit] == SPLITS.index("train")
    made = np.zeros((len(asked), vectors.shape[1]), np.float32)
    made[hit] = vectors - (vectors[train].mean(axis=0) if train.any() else 0)
    return made


def trimmed(pool: Ints, features: Matrix, truth: int, fitting: bool) -> tuple[Ints, Matrix, int]:
    """The candidates with the truth's place; for fitting, the likeliest TRAIN_CANDIDATES. (A truth that is not among
    them is given up: put in their place, it would teach that what is unlikely comes.)"""
    if fitting:
        pool, features = pool[:TRAIN_CANDIDATES], features[:TRAIN_CANDIDATES]
    at = np.flatnonzero(pool == truth)
    return pool, features, int(at[0]) if len(at) else NONE


def questions(found: list[tuple[int, Ints, Matrix, int]]) -> Questions:
    """In the labels' order of time."""
    found = sorted(found, key=lambda row: row[0])
    width = max((len(pool) for _, pool, _, _ in found), default=1)
    depth = found[0][2].shape[1] if found else 1
    made = Questions(
        np.full((len(found), width), -1, np.int64),
        np.zeros((len(found), width, depth), np.float32),
        np.array([truth for *_, truth in found], np.int64),
    )
    for i, (_, pool, features, _) in enumerate(found):
        made.names[i, : len(pool)] = pool
        made.features[i, : len(pool)] = features
    return made
