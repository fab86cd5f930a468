"""Intrusions without labels: some customers' sessions are put in the place of others', and everybody's sessions are
folded as the pipeline does, gate included."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..device import CPU
from .cell import Gate, Head, fold, gate_of, logit
from .features import features
from .layout import Layout
from .ops import Torch
from .sample import Sample
from .settings import Settings
from .worlds import World

QUIET = (0.1, 0.4)  # of a customer's sessions before the first intrusion can begin: a random share between
PLAYS_MAX = 12  # of a group


@dataclass
class Play:
    """Sessions as each host's customer sees them: rows [hosts, steps] of the sample (-1: over)."""

    world: int
    host: Tensor
    rows: Tensor
    intruder: Tensor  # [hosts, steps] 1 for a stranger's session
    judged: Tensor  # [hosts, steps]


@dataclass
class Judged:
    """What the head saw, and what was true."""

    x: Tensor  # [n, features]
    y: Tensor  # [n]
    host: Tensor  # [n]
    known: Tensor  # [n] sessions that had been let in

    def __add__(self, other: "Judged") -> "Judged":
        pairs = ((self.x, other.x), (self.y, other.y), (self.host, other.host), (self.known, other.known))
        return Judged(*(torch.cat(pair) for pair in pairs))


Script = tuple[list[int], list[float], list[bool]]


def simulated(sample: Sample, strange: Tensor, members: list[list[int]], s: Settings, seed: int) -> list[Play]:
    """Every group's members intrude upon all others, over and over until there are rows enough."""
    random = np.random.default_rng([seed, 77])
    own = [[r for r in sample.sessions(c) if not strange[r]] for c in range(sample.customers)]
    made: list[Play] = []
    rows = 0
    for _ in range(PLAYS_MAX):
        for group, intruders in enumerate(members):
            hosts = [c for c in range(sample.customers) if c not in set(intruders) and len(own[c]) >= 3]
            if not hosts or not any(own[i] for i in intruders):
                continue
            play = together(group, hosts, [script(own, host, intruders, s, random) for host in hosts])
            made.append(play)
            rows += int(play.judged.sum())
        if rows >= s.rows_wanted or not made:
            break
    return made


def script(own: list[list[int]], host: int, intruders: list[int], s: Settings, random: np.random.Generator) -> Script:
    """A host's sessions with runs of an intruder's successive ones in the place of some."""
    rows = list(own[host])
    strange = [0.0] * len(rows)
    quiet = max(1, round(random.uniform(*QUIET) * len(rows)))
    intruders = [i for i in intruders if own[i]]
    at = quiet
    while at < len(rows):
        if random.random() >= s.begins:
            at += 1
            continue
        theirs = own[intruders[int(random.integers(len(intruders)))]]
        place = int(random.integers(len(theirs)))
        while at < len(rows) and place < len(theirs):
            rows[at], strange[at] = theirs[place], 1.0
            at, place = at + 1, place + 1
            if random.random() >= s.goes_on:
                break
    return rows, strange, [i >= quiet for i in range(len(rows))]


def judged_in(group: int, members: list[list[int]]) -> list[int]:
    """The customers whose labels are judged in a group's world, which knows them."""
    return [c for c in members[(group + 1) % len(members)] if c not in set(members[group])]


def labelled(
    sample: Sample, strange: Tensor, told: Tensor, members: list[list[int]], everybody: bool = False
) -> list[Play]:
    """The customers of whom labels tell an intrusion, as it was, or all of whom labels tell anything."""
    known = told if everybody else strange
    some = {c for c in range(sample.customers) if known[list(sample.sessions(c))].any()}
    made = []
    for group in range(len(members)):
        hosts = [c for c in judged_in(group, members) if c in some]
        if hosts:
            rows = [list(sample.sessions(c)) for c in hosts]
            scripts = [(r, strange[r].tolist(), [k > 0 and bool(told[x]) for k, x in enumerate(r)]) for r in rows]
            made.append(together(group, hosts, scripts))
    return made


def together(group: int, hosts: list[int], scripts: list[Script]) -> Play:
    longest = max(len(rows) for rows, _, _ in scripts)
    rows = torch.full((len(hosts), longest), -1)
    intruder, judged = torch.zeros(len(hosts), longest), torch.zeros(len(hosts), longest, dtype=torch.bool)
    for i, (row, strange, judge) in enumerate(scripts):
        rows[i, : len(row)] = torch.tensor(row)
        intruder[i, : len(row)] = torch.tensor(strange)
        judged[i, : len(row)] = torch.tensor(judge)
    return Play(group, torch.tensor(hosts), rows, intruder, judged)


@dataclass
class Gatekeeper:
    """`heads[f]` was trained without the customers c with fold_of[c] = f: a gate has not seen its own answers."""

    heads: list[Head]
    fold_of: Tensor
    gate: Gate
    watched: bool  # what it lets in by mistake is kept out all the same; what it keeps out by mistake stays out


@torch.no_grad()
def replay(
    layout: Layout, play: Play, world: World, counts: Tensor, keeper: Gatekeeper | None, device: torch.device = CPU
) -> Judged:
    """Folds every host's sessions and keeps what the head saw. Without a gatekeeper the gate knows the truth. States
    are on the device; what is judged comes to the CPU."""
    o = Torch(device)
    found: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    state = torch.zeros(len(play.host), layout.state, device=device)
    for k in range(play.rows.shape[1]):
        there = (play.rows[:, k] >= 0).nonzero().flatten()
        row, host, intruder = play.rows[there, k], play.host[there], play.intruder[there, k]
        session = torch.cat([counts[row], world.vectors[row]], dim=1).to(device)
        at = there.to(device)
        now = state[at]
        x = features(o, layout, world.population, now, session)
        weight = 1.0 - intruder[:, None].to(device)
        if keeper:
            z = cross_fitted(o, keeper.heads, keeper.fold_of, x, host)
            own = gate_of(o, layout, keeper.gate, now, z)
            weight = own * weight if keeper.watched else own
        state[at] = fold(o, layout, now, session, weight)
        judged = play.judged[there, k]
        known = now[:, layout.sessions_at].cpu()
        found.append((x.cpu()[judged], intruder[judged], host[judged], known[judged]))
    return Judged(*(torch.cat(part) for part in zip(*found, strict=True)))


@torch.no_grad()
def cross_fitted(o: Torch, heads: list[Head], fold_of: Tensor, x: Tensor, host: Tensor) -> Tensor:
    """[n, 1] logits, each by the head that does not know the customer."""
    z = torch.cat([logit(o, head, x) for head in heads], dim=1)
    return z.gather(1, fold_of[host][:, None].to(z.device))
