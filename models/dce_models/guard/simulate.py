"""Intrusions without labels: some customers are taken out of the world and their sessions are put in the place of others'.

A closed world flatters: the encoder and the population of a world are made without its intruders, and from sessions before
those that are judged, as they are when the model meets a thief in earnest."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from .cell import Gate, Head, fold, gate_of, logit
from .encoder import Contrast, Encoder, encode, train
from .features import Population, features
from .layout import Layout
from .ops import Torch
from .population import population
from .sample import Sample


@dataclass
class Simulation:
    groups: int = 5  # of customers; each is a world's intruders in turn
    worlds: int = 3  # of each group
    profile_share: tuple[float, float] = (0.4, 0.4)  # of a customer's sessions before the first intrusion can begin
    begins: float = 0.04  # chance that an intrusion begins at a session
    goes_on: float = 0.8  # chance that it goes on
    encoder_share: float = 0.4  # of a customer's sessions that the encoder and the population learn from


@dataclass
class World:
    """What one group's absence leaves."""

    encoder: Encoder
    population: Population
    vectors: Tensor  # [sessions, width]


@dataclass
class Play:
    """Sessions as each host's customer sees them: rows [hosts, steps] of the sample (-1: over), who is an intruder."""

    world: int
    host: Tensor
    rows: Tensor
    intruder: Tensor
    judged: Tensor


@dataclass
class Judged:
    x: list[Tensor] = field(default_factory=list)
    y: list[Tensor] = field(default_factory=list)
    host: list[Tensor] = field(default_factory=list)
    known: list[Tensor] = field(default_factory=list)  # sessions let in so far

    def all(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return tuple(torch.cat(part) for part in (self.x, self.y, self.host, self.known))  # type: ignore[return-value]


def early(sample: Sample, share: float) -> list[list[int]]:
    return [list(own)[: max(2, round(share * len(own)))] for own in map(sample.sessions, range(sample.customers))]


def all_counts(sample: Sample) -> Tensor:
    return torch.cat([sample.counts(rows) for rows in torch.arange(sample.first[-1]).split(4096)])


@torch.no_grad()
def vectors_of(encoder: Encoder, counts: Tensor) -> Tensor:
    o = Torch()
    return torch.cat([encode(o, encoder, part) for part in counts.split(4096)])


def world(
    sample: Sample, counts: Tensor, without: set[int], share: float, prototypes: int, contrast: Contrast, seed: int
) -> World:
    first = early(sample, share)
    encoder = train(sample, [rows for c, rows in enumerate(first) if c not in without], contrast, seed)
    vectors = vectors_of(encoder, counts)
    rows = torch.tensor([r for c, own in enumerate(first) if c not in without for r in own])
    owner = torch.tensor([c for c, own in enumerate(first) if c not in without for _ in own])
    people = population(sample.layout, counts[rows], vectors[rows], owner, prototypes, seed)
    return World(encoder, people, vectors)


def plays(sample: Sample, settings: Simulation, members: list[list[int]], seed: int) -> list[Play]:
    """One for each group and world."""
    random = np.random.default_rng([seed, 77])
    made = []
    for g, intruders in enumerate(members):
        hosts = [c for c in range(sample.customers) if c not in set(intruders) and len(sample.sessions(c)) >= 3]
        for _ in range(settings.worlds):
            scripts = [script(sample, settings, host, intruders, random) for host in hosts]
            longest = max(len(s[0]) for s in scripts)
            rows = torch.full((len(hosts), longest), -1)
            intruder, judged = torch.zeros(len(hosts), longest), torch.zeros(len(hosts), longest, dtype=torch.bool)
            for i, (row, strange, burn_in) in enumerate(scripts):
                rows[i, : len(row)] = torch.tensor(row)
                intruder[i, : len(row)] = torch.tensor(strange)
                judged[i, burn_in : len(row)] = True
            made.append(Play(g, torch.tensor(hosts), rows, intruder, judged))
    return made


def script(
    sample: Sample, settings: Simulation, host: int, intruders: list[int], random: np.random.Generator
) -> tuple[list[int], list[float], int]:
    """A host's sessions with intruders' in the place of some: rows, which are strange, how many come before."""
    rows = list(sample.sessions(host))
    strange = [0.0] * len(rows)
    burn_in = max(1, round(random.uniform(*settings.profile_share) * len(rows)))
    at = burn_in
    while at < len(rows):
        if random.random() >= settings.begins:
            at += 1
            continue
        theirs = list(sample.sessions(intruders[int(random.integers(len(intruders)))]))
        place = int(random.integers(len(theirs)))
        while at < len(rows) and place < len(theirs):
            rows[at], strange[at] = theirs[place], 1.0
            at, place = at + 1, place + 1
            if random.random() >= settings.goes_on:
                break
    return rows, strange, burn_in


@torch.no_grad()
def replay(
    layout: Layout,
    play: Play,
    world: World,
    counts: Tensor,
    heads: list[Head] | None,
    fold_of: Tensor,
    gate: Gate,
    guarded: bool = False,
) -> Judged:
    """Folds every host's sessions through the gate and keeps what the head saw. `heads[f]` is the one that was trained
    without the customers c with fold_of[c] = f; without heads the gate knows the truth. `guarded`: what a head lets in by
    mistake is kept out all the same, what it keeps out by mistake is not."""
    o = Torch()
    found = Judged()
    state = torch.zeros(len(play.host), layout.state)
    for k in range(play.rows.shape[1]):
        there = (play.rows[:, k] >= 0).nonzero().flatten()
        row = play.rows[there, k]
        session = torch.cat([counts[row], world.vectors[row]], dim=1)
        now = state[there]
        x = features(o, layout, world.population, now, session)
        known = now[:, layout.sessions_at]
        if heads is None:
            weight = 1.0 - play.intruder[there, k][:, None]
        else:
            z = torch.cat([logit(o, head, x) for head in heads], dim=1)
            weight = gate_of(o, layout, gate, now, z.gather(1, fold_of[play.host[there]][:, None]))
            if guarded:
                weight = weight * (1.0 - play.intruder[there, k][:, None])
        state[there] = fold(o, layout, now, session, weight)
        judged = play.judged[there, k]
        found.x.append(x[judged])
        found.y.append(play.intruder[there, k][judged])
        found.host.append(play.host[there][judged])
        found.known.append(known[judged])
    return found
