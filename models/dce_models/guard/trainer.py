"""Trains a guard: worlds, simulated intrusions, heads that are their own gates, calibration."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..device import CPU
from ..spec import SpecError
from .cell import Calibration, Gate, Head
from .encoder import Contrast, Encoder
from .features import Population
from .gather import ROBBED_MIN, Gathered
from .head import HeadSettings, fit
from .layout import Layout
from .ops import Torch
from .settings import Settings
from .simulate import Gatekeeper, Judged, Play, cross_fitted, judged_in, labelled, replay, simulated
from .worlds import World, all_counts, world

Say = Callable[[str], None]

FOLDS = 5
LEARNING = (1.0, 2.0, 3.0, 5.0, 8.0, 13.0)  # sessions known, of which one is the least to judge by
CLOSE_TO_BEST = 0.05  # in AUC
POSITIVES_MIN = 20
RATE = 0.01  # of intrusions, if nothing tells
NAMED_MIN = 30  # sessions that labels call strangers', and as many owners', with which simulated ones teach no head


@dataclass
class Guard:
    """All that the graphs are made of."""

    encoder: Encoder
    population: Population
    head: Head
    gate: Gate
    calibration: Calibration


@dataclass
class Lessons:
    """What heads learn from: what labels tell, where they tell enough; else simulations, and what they tell."""

    plays: list[Play]
    beside: list[Play]  # simulations that teach no head that is kept: they tell how many sessions one must know
    share: float  # of intrusions that the gate's bounds are meant for
    what: str


def train(g: Gathered, s: Settings, seed: int, say: Say, device: torch.device = CPU) -> Guard:
    layout, sample = g.sample.layout, g.sample
    counts = all_counts(sample)
    contrast = Contrast(steps=s.encoder_steps)
    groups = min(s.groups, sample.customers)
    order = np.random.default_rng([seed, 5]).permutation(sample.customers)
    members = [sorted(order[i::groups].tolist()) for i in range(groups)]
    named = is_named(g)

    def world_without(left: list[int], judged: list[int], at: int) -> World:
        told = set(judged) if named else None
        return world(sample, g.strange, counts, set(left), s.prototypes_max, contrast, seed * 100 + at, told, device)

    worlds = [world_without(m, judged_in(i, members), i) for i, m in enumerate(members)]
    full = world_without([], [], 99)
    drawn = simulated(sample, g.strange, members, s, seed)
    if not drawn:
        raise SpecError(f"no intrusion could be simulated among {sample.customers} customers")
    say(f"{sample.customers} customers, {sample.first[-1]} sessions, {len(drawn)} simulations in {groups} worlds")
    told = labelled(sample, g.strange, g.labelled, members, everybody=named)
    if named:
        lessons = Lessons(told, drawn, base_rate(g, s), "labelled")
        say(f"{int(g.strange.sum())} strangers' sessions have labels: these teach, not the simulations")
    else:
        lessons = Lessons(drawn + told, [], s.simulated_share, "simulated")
    head, judged, z, gate = head_of(layout, lessons, worlds, counts, s, seed, say, device)
    calibration = calibrated(z, judged.y, base_rate(g, s))
    return Guard(full.encoder, full.population, head, gate, calibration)


def is_named(g: Gathered) -> bool:
    """Whether labels name strangers enough, at customers enough, and owners. No customer's first session is judged."""
    first = torch.tensor(g.sample.first)
    judged = g.labelled.clone()
    judged[first[:-1]] = False
    strange, own = judged & (g.strange > 0), judged & (g.strange == 0)
    robbed = set(torch.repeat_interleave(torch.arange(g.sample.customers), first.diff())[strange].tolist())
    return min(int(strange.sum()), int(own.sum())) >= NAMED_MIN and len(robbed) >= ROBBED_MIN


def head_of(
    layout: Layout,
    lessons: Lessons,
    worlds: list[World],
    counts: Tensor,
    s: Settings,
    seed: int,
    say: Say,
    device: torch.device = CPU,
) -> tuple[Head, Judged, Tensor, Gate]:
    """The head, what it was last judged by, its cross-fitted logits there, and the gate."""
    customers = 1 + max(int(play.host.max()) for play in lessons.plays + lessons.beside)
    fold_of = torch.from_numpy(np.random.default_rng([seed, 9]).permutation(customers) % FOLDS)
    how = HeadSettings(nets=s.nets, epochs=s.epochs)
    gate = Gate(s.open_below, s.closed_above, LEARNING[0])

    def rows(plays: list[Play], keeper: Gatekeeper | None) -> Judged:
        made = [replay(layout, play, worlds[play.world], counts, keeper, device) for play in plays]
        return sum(made[1:], made[0])

    def heads(judged: Judged, nets: int = s.nets) -> list[Head]:
        fold, many = fold_of[judged.host], replace(how, nets=nets)
        return [fit(judged.x[fold != f], judged.y[fold != f], many, seed * 10 + f, device) for f in range(FOLDS)]

    judged = rows(lessons.plays, None)
    if not 0 < judged.y.sum() < len(judged.y):
        raise SpecError(
            f"the {lessons.what} histories hold {int(judged.y.sum())} intrusions among {len(judged.y)} sessions, too "
            "little to learn from: more customers or longer histories are needed"
        )
    learnt = judged
    keepers = heads(learnt)
    z = cross_fitted(Torch(), keepers, fold_of, judged.x, judged.host).flatten()
    gate = replace(gate, shift=odds(lessons.share) - odds(share(judged.y)))
    told = figures(z, judged.y, lessons.what)
    if lessons.beside:
        judged = rows(lessons.beside, None)
        z = cross_fitted(Torch(), heads(judged, nets=1), fold_of, judged.x, judged.host).flatten()
    gate = replace(gate, sessions_min=sessions_min(z, judged))
    say(f"the gate knows the truth: {told}; it learns from {gate.sessions_min:g} sessions first")
    for _ in range(s.rounds):
        learnt = learnt + rows(lessons.plays, Gatekeeper(keepers, fold_of, gate, watched=True))
        keepers = heads(learnt)
    judged = rows(lessons.plays, Gatekeeper(keepers, fold_of, gate, watched=False))
    z = cross_fitted(Torch(), keepers, fold_of, judged.x, judged.host).flatten()
    say(f"the head is its own gate:  {figures(z, judged.y, lessons.what)}")
    return fit(learnt.x, learnt.y, how, seed * 10 + FOLDS, device), judged, z, gate


def sessions_min(z: Tensor, judged: Judged) -> float:
    """The fewest sessions known with which a stranger is told almost as well as with many."""
    ends = [*LEARNING[1:], math.inf]
    found = []
    for low, high in zip(LEARNING, ends, strict=True):
        inside = (judged.known >= low) & (judged.known < high)
        enough = judged.y[inside].sum() >= POSITIVES_MIN and (1 - judged.y[inside]).sum() >= POSITIVES_MIN
        found.append(auc(z[inside], judged.y[inside]) if enough else None)
    best = max((f for f in found if f is not None), default=None)
    if best is None:
        return LEARNING[2]
    return next(low for low, f in zip(LEARNING, found, strict=True) if f is not None and f >= best - CLOSE_TO_BEST)


def base_rate(g: Gathered, s: Settings) -> float:
    if s.base_rate:
        return s.base_rate
    # A list of known strangers alone says nothing of how many they are.
    return g.rate if 0.0 < g.rate < 1.0 else RATE


def calibrated(z: Tensor, y: Tensor, rate: float) -> Calibration:
    """Platt's scaling (1999): factor and shift of the logits by maximum likelihood, Newton's method; then the shift is
    moved from the share of intrusions in `y` to `rate`."""
    z, y = z.double(), y.double()
    columns = torch.stack([z, torch.ones_like(z)], dim=1)
    weights = torch.tensor([1.0, 0.0], dtype=torch.double)
    ridge = torch.eye(2, dtype=torch.double) * 1e-3
    for _ in range(25):
        p = torch.sigmoid(columns @ weights)
        slope = columns.T @ (p - y) + ridge @ (weights - torch.tensor([1.0, 0.0], dtype=torch.double))
        curve = columns.T @ (columns * (p * (1 - p))[:, None]) + ridge
        weights = weights - torch.linalg.solve(curve, slope)
    factor, shift = weights.tolist()
    if not (0.05 < factor < 20 and math.isfinite(shift)):
        factor, shift = 1.0, 0.0
    return Calibration(factor, shift + odds(rate) - odds(share(y)))


def share(y: Tensor) -> float:
    return min(max(float(y.mean()), 1e-4), 1 - 1e-4)


def odds(p: float) -> float:
    return math.log(p / (1 - p))


def auc(z: Tensor, y: Tensor) -> float:
    """Area under the curve, a tie counts half."""
    own, strange = torch.sort(z[y == 0]).values, z[y == 1]
    below = torch.searchsorted(own, strange) + torch.searchsorted(own, strange, right=True)
    return float(below.double().mean()) / (2 * max(1, len(own)))


def figures(z: Tensor, y: Tensor, what: str) -> str:
    own = z[y == 0].double()
    if not len(own) or not (y == 1).any():
        return "no intrusions to judge by"
    hits = [float((z[y == 1] > torch.quantile(own, 1 - n)).double().mean()) for n in (0.05, 0.01)]
    return f"AUC {auc(z, y):.3f}, hits at 5 % {hits[0]:.3f}, at 1 % {hits[1]:.3f} ({what}, customers cross-fitted)"
