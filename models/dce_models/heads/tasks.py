"""Each task's rows: what a head is fitted to, and what it is chosen and calibrated by."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..dataset import held_out
from ..folder import Label
from .asked import of_labels, prefixes
from .fit import Rows
from .intrusions import simulated
from .world import Asked, Ints, World, inputs, joined, whole

Weights = NDArray[np.float64]

CLASSES_MAX = 64
OTHER = "other"
ROWS_MAX = 150_000  # that a head is fitted to
ZEROS_MAX = 100_000  # of a binary task, to be learnt from; each weighs for those left out
CELLS_MAX = 2**27  # numbers of the inputs of one head's rows: wide vectors get fewer rows
ROWS_MIN = 50
INTRUDED_MIN = 30  # labelled takeovers with which simulated ones are not needed to learn
CHOOSE_SHARE = 0.2  # of the customers, where no labels may choose
CUSTOMERS_MIN = 10  # to simulate intrusions among
ASSUMED = 0.01  # share of takeovers where no label tells


@dataclass
class TaskRows:
    learn: Rows
    choose: Rows
    classes: tuple[str, ...] = ()  # of a choice among names
    prior_shift: float = 0.0  # to be added to the logits, where the rows' share of ones is not the world's


@dataclass
class Worlds:
    """Of the events that weights may see, and of those that may choose (the same, if no label may)."""

    learn: World
    choose: World
    labels: list[Label]
    valid: list[Label]

    def of(self, task: str) -> tuple[list[Label], list[Label]]:
        """Labels to learn from and to choose by: where none may choose, those of a fifth of the customers."""
        labels = [x for x in self.labels if x.task == task]
        valid = [x for x in self.valid if x.task == task]
        if valid:
            return labels, valid
        chosen = [x for x in labels if held_out(x.customer_id, CHOOSE_SHARE)]
        return [x for x in labels if not held_out(x.customer_id, CHOOSE_SHARE)], chosen


def outcome(worlds: Worlds, task: str, names: tuple[str, ...], seed: int) -> TaskRows | str:
    """`label` or `next_session`; or why not."""
    labels, valid = worlds.of(task)
    random = np.random.default_rng([seed, 11])
    most = fewer(ROWS_MAX, worlds.learn, names)
    learn_at, learn_text = of_labels(worlds.learn, some(labels, most, random), task)
    choose_at, choose_text = of_labels(worlds.choose, some(valid, most, random), task)
    if len(learn_at) < ROWS_MIN or len(choose_at) < ROWS_MIN // 5:
        return f"{len(learn_at)} labels to learn from and {len(choose_at)} to choose by are too few"
    if len(set(learn_text)) < 2:
        return "its training labels are all the same"
    classes: tuple[str, ...] = ()
    number = {"0": 0, "1": 1}
    if task == "next_session":
        classes = classes_of(learn_text)
        number = {name: i for i, name in enumerate(classes)}
    rest = number.get(OTHER, 0)
    made: list[Rows] = []
    for w, at, text in ((worlds.learn, learn_at, learn_text), (worlds.choose, choose_at, choose_text)):
        known = np.array([t in number or OTHER in number for t in text], bool)
        y = np.array([number.get(t, rest) for t, keep in zip(text, known, strict=True) if keep], np.int64)
        at = at.at(known)
        if w is worlds.choose and made and len(at) < ROWS_MIN // 5:
            return f"{len(at)} labels to choose by are of a class that was learnt, which is too few"
        if task == "label" and w is worlds.learn and not made:
            ones, zeros = np.flatnonzero(y == 1), np.flatnonzero(y == 0)
            few = thinned(len(zeros), fewer(ZEROS_MAX, w, names), random)
            kept = np.concatenate([ones, zeros[few]])
            weight = np.where(y[kept] == 1, 1.0, len(zeros) / max(1, len(few)))
            made.append(rows_of(w, at.at(kept), y[kept], names, weight))
        else:
            made.append(rows_of(w, at, y, names, np.ones(len(at))))
    return TaskRows(made[0], made[1], classes)


def fewer(most: int, w: World, names: tuple[str, ...]) -> int:
    """So many rows, or as many of a wide model's as fit."""
    widths = {"session": w.sizes.session, "state": w.sizes.state, "context": w.context.shape[1], "calendar": 4}
    return min(most, CELLS_MAX // sum(widths.get(name, w.sizes.embedding) for name in names))


def thinned(count: int, most: int, random: np.random.Generator) -> Ints:
    """Which of so many zeros are learnt from."""
    return np.sort(random.permutation(count)[:most])


def classes_of(texts: list[str]) -> tuple[str, ...]:
    """The most frequent names; what is beyond the limit is `other`."""
    names = [name for name, _ in sorted(Counter(texts).items(), key=lambda pair: (-pair[1], pair[0]))]
    if len(names) <= CLASSES_MAX:
        return tuple(names)
    return (*[name for name in names[: CLASSES_MAX - 1] if name != OTHER], OTHER)


def takeover(worlds: Worlds, names: tuple[str, ...], seed: int) -> TaskRows | str:
    """Sessions whole and while they are open. Labelled takeovers where there are enough, else simulated ones; who has
    no label is taken for the customer's own."""
    labels, valid = worlds.of("owner")
    random = np.random.default_rng([seed, 12])
    own, ones = split_owner(worlds.learn, labels)
    own_choose, ones_choose = split_owner(worlds.choose, valid)
    own = own if len(own) >= ROWS_MIN else unlabelled(worlds.learn, ones)
    own_choose = own_choose if len(own_choose) >= ROWS_MIN // 5 else unlabelled(worlds.choose, ones_choose)
    if len(ones) >= INTRUDED_MIN and len(own) and len(ones_choose) and len(own_choose):
        learn = mixed(worlds.learn, own, ones, names, random)
        choose = mixed(worlds.choose, own_choose, ones_choose, names, random, closed=True)
        return TaskRows(learn, choose)
    if len(worlds.learn.customers) < CUSTOMERS_MIN:
        return f"{len(worlds.learn.customers)} customers are too few to simulate intrusions among"
    everyone = unlabelled(worlds.learn, ones)
    everyone = everyone.at(np.sort(random.permutation(len(everyone))[: ROWS_MAX // 3]))
    chosen = np.array([held_out(worlds.learn.customers[c].customer_id, CHOOSE_SHARE)
                       for c in worlds.learn.owner[everyone.row].tolist()], bool)  # fmt: skip
    parts = []
    for at in (everyone.at(~chosen), everyone.at(chosen)):
        if len(at) < ROWS_MIN // 5:
            return f"{len(at)} sessions are too few to simulate intrusions among"
        intruded = simulated(worlds.learn, at, at, len(at), random)
        parts.append(mixed(worlds.learn, at, intruded, names, random))
    return TaskRows(parts[0], parts[1], prior_shift=float(np.log(ASSUMED / (1 - ASSUMED))))


def unlabelled(w: World, strange: Asked) -> Asked:
    """All sessions but the strangers'."""
    rows, everyone = set(strange.row.tolist()), whole_sessions(w)
    return everyone.at(np.array([row not in rows for row in everyone.row.tolist()], bool))


def split_owner(w: World, labels: list[Label]) -> tuple[Asked, Asked]:
    """The customers' own sessions, and the others'."""
    at, text = of_labels(w, labels, "owner")
    strange = np.array([t == "1" for t in text], bool)
    return at.at(~strange), at.at(strange)


def mixed(
    w: World, own: Asked, strange: Asked, names: tuple[str, ...], random: np.random.Generator, closed: bool = False
) -> Rows:
    """Own sessions 0, strange ones 1; unless only closed ones are wanted, open ones too, at half their weight."""
    few = thinned(len(own), fewer(ZEROS_MAX, w, names) // (1 if closed else 2), random)
    times = len(own) / max(1, len(few))
    at: list[Asked] = []
    y: list[Ints] = []
    weights: list[Weights] = []
    for sessions, answer, weight, drawn in ((own.at(few), 0, times, 1), (strange, 1, 1.0, 4)):
        parts = [(sessions, weight)]
        parts += [(prefixes(w, sessions, random), weight / 2 / drawn) for _ in range(0 if closed else drawn)]
        for part, each in parts:
            at.append(part)
            y.append(np.full(len(part), answer))
            weights.append(np.full(len(part), each))
    return rows_of(w, joined(at), np.concatenate(y), names, np.concatenate(weights))


def whole_sessions(w: World) -> Asked:
    rows = np.arange(len(w))
    return Asked(rows, rows.copy(), whole(w, rows), w.closed_at)


def some(labels: list[Label], most: int, random: np.random.Generator) -> list[Label]:
    if len(labels) <= most:
        return labels
    return [labels[i] for i in np.sort(random.permutation(len(labels))[:most])]


def rows_of(w: World, at: Asked, y: Ints, names: tuple[str, ...], weight: Weights) -> Rows:
    return Rows(inputs(w, at, names), torch.from_numpy(y.astype(np.int64)), torch.from_numpy(weight).float())
