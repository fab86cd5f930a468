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
from .candidates import CANDIDATES, Matrix, Moment, Reader
from .items import HOUR_MS, WINDOWS, Floats, Items, Vector
from .join import MISS, Asked, Joined
from .metrics import Figures
from .ranker import Questions, Ranker
from .records import NONE, Ints
from .result import Method, Result
from .situation import Situation

TRAIN_MAX = 40_000  # training labels that are asked about, the last ones
VALID_MAX = 20_000  # labels to choose by, the first ones
ASKED = 256  # test labels that are ranked together
SCALED_BY = 5000  # training labels, by which features are brought to one scale
TRAIN_CANDIDATES = 100  # of each, to fit with
REPEATS_MAX = (
    0.05  # share of the training labels that name what their session has seen: below it nothing is named twice
)
BEFORE_MAX = 8  # names of a customer's earlier sessions that are kept
POSITIONS = 5  # places in a session that are told apart: the last one stands for all that follow
LABELS_MIN = 50  # to fit a reader with

Question = tuple[Ints, Matrix, int]  # candidates, their features, the truth's place among them
Session = tuple[int, int]  # customer and session_id, or NONE and the pipeline's session


@dataclass
class Walk:
    """What a walk through the clicks gives."""

    truth: Ints  # of the test labels: the truth's place among the candidates, or -1
    readers: list[str]  # the best on `valid` first; none where there was too little to fit with
    places: dict[str, tuple[Ints, Ints]]  # of the test labels, by reader and by floor: place, ties
    usable: tuple[int, int]  # of `train` and `valid`: labels whose truth is a candidate


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
    made.extra["candidates_hold"] = round(float((walk.truth >= 0).mean()), 4)
    if not walk.readers:
        made.notes.append(f"fewer than {LABELS_MIN} usable labels in train or valid: no reader is fitted")
    for name in (*walk.readers, *(FLOORS if s.floors else ())):
        made.methods.append(method(name, name in FLOORS, *walk.places[name], customers, s.seed))
    return made


def fitted(train: Questions, valid: Questions, seed: int) -> dict[str, Ranker]:
    """The network, LambdaMART and both; first the one that does best on valid."""
    scale = ranker.Scale(train.features[:SCALED_BY], train.names[:SCALED_BY] >= 0)
    for q in (train, valid):
        q.features[...] = scale(q.features)  # in place: they are large
    network = ranker.networks(train, valid, seed)
    trees = ranker.lambdamart(train, valid, seed)
    found: dict[str, Ranker] = {
        "reader, network": network,
        "reader, LambdaMART": trees,
        "reader, both": lambda q: ranker.mean(ranker.standardised(network(q)), ranker.standardised(trees(q))),
    }
    order = sorted(found, key=lambda name: -ranker.quality(found[name](valid), valid))

    def scaled(rank: Ranker) -> Ranker:
        return lambda q: rank(Questions(q.names, scale(q.features), q.truth))

    return {name: scaled(found[name]) for name in order}


def method(name: str, floor: bool, place: Ints, ties: Ints, customers: Ints, seed: int) -> Method:
    def figures(rows: Ints) -> Figures:
        return {"recall_at_10": ranker.recall(place[rows]), "mrr_at_20": ranker.mrr(place[rows])}

    whole: Figures = figures(np.arange(len(place)))
    made = Method(name, floor, whole, metrics.resampled(figures, customers, seed))
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
    chosen = {"train": rows["train"][-TRAIN_MAX:], "valid": rows["valid"][:VALID_MAX], "test": rows["test"]}
    split_of = {int(label): split for split, labels in chosen.items() for label in labels}
    every = np.concatenate([rows[split] for split in SPLITS]).astype(np.int64)
    place_of = {int(label): i for labels in chosen.values() for i, label in enumerate(labels)}
    told = Told(s, {split: len(labels) for split, labels in chosen.items()})
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
        told.ask(split, place_of[label], *trimmed(*reader.ask(moment, leave_out), truth, split == "train"))
        if split == "test" and s.floors:
            for floor, (window, follow) in FLOORS.items():
                score = items.window_score(window, clicked[session][-1] if follow and clicked[session] else None)
                place, ties = floor_place(score, truth, clicked[session], leave_out, items)
                told.places[floor][0][place_of[label]], told.places[floor][1][place_of[label]] = place, ties
    return told.done()


class Told:
    """Takes the questions as the walk comes by them. Those to learn from come before all that are judged: so the
    readers are fitted once the first of these comes, and no more than ASKED of them lie in memory."""

    def __init__(self, s: Situation, counts: dict[str, int]) -> None:
        self.seed = s.seed
        self.learn = {"train": Taken(counts["train"], TRAIN_CANDIDATES), "valid": Taken(counts["valid"], CANDIDATES)}
        self.rankers: dict[str, Ranker] | None = None
        self.usable = (0, 0)
        self.truth = np.full(counts["test"], NONE, np.int64)
        self.places: dict[str, tuple[Ints, Ints]] = {}
        for name in FLOORS if s.floors else ():
            self.places[name] = self.unplaced()
        self.asked: list[tuple[int, Question]] = []

    def unplaced(self) -> tuple[Ints, Ints]:
        return np.zeros(len(self.truth), np.int64), np.zeros(len(self.truth), np.int64)

    def ask(self, split: str, at: int, pool: Ints, features: Matrix, truth: int) -> None:
        if split != "test":
            self.learn[split].add(at, pool, features, truth)
            return
        self.truth[at] = truth
        self.asked.append((at, (pool, features, truth)))
        if len(self.asked) >= ASKED:
            self.rank()

    def rank(self) -> None:
        if self.rankers is None:
            self.rankers = self.fit()
        if not (self.rankers and self.asked):
            self.asked = []
            return
        rows = np.array([at for at, _ in self.asked])
        taken = Taken(len(rows), CANDIDATES)
        for i, (_, question) in enumerate(self.asked):
            taken.add(i, *question)
        questions = taken.questions()
        for name, rank in self.rankers.items():
            place, ties = ranker.places(rank(questions), questions)
            self.places.setdefault(name, self.unplaced())
            self.places[name][0][rows], self.places[name][1][rows] = place, ties
        self.asked = []

    def fit(self) -> dict[str, Ranker]:
        train, valid = self.learn["train"].questions(), self.learn["valid"].questions()
        self.learn = {}
        self.usable = int((train.truth >= 0).sum()), int((valid.truth >= 0).sum())
        return fitted(train, valid, self.seed) if min(self.usable) >= LABELS_MIN else {}

    def done(self) -> Walk:
        self.rank()
        return Walk(self.truth, list(self.rankers or ()), self.places, self.usable)


class Taken:
    """Questions, side by side in the order of their places."""

    def __init__(self, count: int, width: int) -> None:
        self.count, self.width = count, width
        self.made: Questions | None = None

    def add(self, at: int, pool: Ints, features: Matrix, truth: int) -> None:
        if self.made is None:
            self.made = empty(self.count, self.width, features.shape[1])
        n = len(pool)
        self.made.names[at, :n], self.made.features[at, :n], self.made.truth[at] = pool, features, truth

    def questions(self) -> Questions:
        return self.made if self.made else empty(0, self.width, 1)


def empty(count: int, width: int, depth: int) -> Questions:
    return Questions(
        np.full((count, width), -1, np.int64),
        np.zeros((count, width, depth), np.float32),
        np.full(count, NONE, np.int64),
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
    for rows, given in handmade.categories(s.history, ("channel", "device_id")):
        values = np.full(len(s.history.time), NONE, np.int64)
        values[rows] = np.nan_to_num(given, nan=NONE)
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
