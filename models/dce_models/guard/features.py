"""What tells a session apart from its customer's own: likelihood ratios between the customer's profile and the others',
novelty, and the distance of its vector. Written once, over a backend (ops): `takeover` and the gate share it.

Notation: a session has c_v events of word v in a column, n in all; the profile (decayed sum of the sessions let in) n_v of
N; p_v is the customer's and q_v the others' probability. All figures are a session's mean over its events, so that
sessions of 3 and of 1,000 events can be compared; how much they rest on is a feature of its own.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .layout import Layout
from .ops import Ops, V, log, log_rising

Floats = NDArray[np.float32]

SMOOTH = 0.01  # counts added to each word of a column: a profile's likelihood without the others' help
BACK_OFF = 50.0  # κ: events that the others' probability weighs in p = (n + κ q) / (N + κ)
BURST = 20.0  # A: a Dirichlet-multinomial's concentration; the lower, the less a repetition tells
OWN_SHARPNESS = 50.0  # how surely the prototype nearest to the state is taken for the customer's own
TEMPERATURE = 10.0  # of the others' log likelihoods
VECTOR_SHARPNESS = 12.0  # of the cosines to the others' prototypes


@dataclass
class Population:
    """The other customers, U prototypes."""

    shares: Floats  # [words, U] probabilities, each column's words add up to 1
    logs: Floats  # [words, U] their logarithms
    roots: Floats  # [words, U] their square roots over √columns
    vectors: Floats  # [width, U] unit vectors
    everyone: Floats  # [words, 1] probabilities over all customers


def floor(o: Ops, x: V, low: float) -> V:
    return o.relu(x - low) + low


def unit(o: Ops, x: V) -> V:
    return x / o.sqrt(o.sum(x * x, 1) + 1e-12)


def names(layout: Layout) -> list[str]:
    """One for each feature, in order."""
    made = []
    for c in layout.columns:
        made += [f"{c.name}: ratio, decay {d:g}" for d in layout.decays]
        made += [f"{c.name}: ratio, smoothed, clipped"]
        made += [f"{c.name}: burst ratio, decay {d:g}" for d in layout.decays]
        made += [f"{c.name}: root overlap, decay {d:g}" for d in layout.decays]
        made += [f"{c.name}: {what}" for what in ("new", "new kinds", "surprise of the new")]
        made += [f"{c.name}: best others", f"{c.name}: own log likelihood"]
    made += [f"vector: cosine, decay {d:g}" for d in layout.vector_decays]
    return [*made, "vector: others", "vector: best other", "known events", "known sessions", "events"]


def features(o: Ops, layout: Layout, population: Population, state: V, session: V) -> V:
    """state [B, H] before the session, session [B, S] to [B, features]."""
    state_counts = o.relu(o.cut(state, 0, layout.vectors_at, 1))
    profiles = [o.cut(state_counts, i * layout.words, (i + 1) * layout.words, 1) for i in range(len(layout.decays))]
    counts = o.relu(o.cut(session, 0, layout.words, 1))
    not_own = others(o, layout, population, profiles[0])  # [B, 1, U]

    values, index = [], []
    for c in layout.columns:
        value, at = o.largest(o.cut(counts, c.base, c.end, 1), c.kinds_max)
        values.append(value)
        index.append(at if c.base == 0 else at + o.constant(np.array(c.base, np.int64)))
    count, at = o.concat(values, 1), o.concat(index, 1)  # [B, kinds]
    own = [o.pick(p, at) for p in profiles]
    shares, logs = o.rows(population.shares, at), o.rows(population.logs, at)  # [B, kinds, U]
    weight = o.sum(not_own, 2)  # [B, 1, 1]
    everyone = o.drop(o.rows(population.everyone, at), 2)
    mixed = o.drop(o.sum(shares * not_own, 2), 2) + everyone * 0.01
    q = mixed / (o.drop(weight, 2) + 0.01)

    made = []
    start = 0
    for c in layout.columns:
        end = start + c.kinds_max
        cut = lambda x, start=start, end=end: o.cut(x, start, end, 1)  # noqa: E731
        mass = [o.sum(o.cut(p, c.base, c.end, 1), 1) for p in profiles]
        made += column(o, layout, cut(count), [cut(x) for x in own], mass, cut(q), c.size, cut(logs), not_own)
        start = end
    first = layout.columns[0]
    events = o.sum(o.cut(counts, 0, first.end, 1), 1)
    known = o.sum(o.cut(profiles[0], 0, first.end, 1), 1)
    sessions = o.relu(o.cut(state, layout.sessions_at, layout.state, 1))
    made += vector(o, layout, population, state, session, o.drop(not_own, 1))
    made += [log(o, x + 1.0) for x in (known, sessions, events)]
    return o.concat(made, 1)


def others(o: Ops, layout: Layout, population: Population, profile: V) -> V:
    """1 for each prototype, and 0 for the one that is the customer's own: a head is not told who the customer is, so it is
    the one nearest to the state, by the overlap Σ √(p_v q_v). Continuous, or a last bit would make another state."""
    near = o.linear(o.sqrt(profile / floor(o, o.sum(profile, 1), 1e-3)), population.roots)
    near = o.exp((near - o.max(near, 1)) * OWN_SHARPNESS)
    return o.insert(1.0 - near / o.sum(near, 1), 1)


def column(
    o: Ops, layout: Layout, count: V, own: list[V], mass: list[V], q: V, size: int, logs: V, not_own: V
) -> list[V]:
    """count, own[d], q [B, kinds], mass[d] [B, 1], logs [B, kinds, U]: the features of one column, each [B, 1]."""
    events = floor(o, o.sum(count, 1), 1.0)

    def mean(x: V) -> V:
        """Over the events: Σ c_v x_v / n."""
        return o.sum(count * x, 1) / events

    backed = [(n + q * BACK_OFF) / (m + BACK_OFF) for n, m in zip(own, mass, strict=True)]
    smoothed = (own[0] + SMOOTH) / (mass[0] + SMOOTH * size)
    new = o.relu(1.0 - own[0])
    stacked = o.concat([o.insert(x, 1) for x in [q, smoothed, *backed]], 1)
    everything = log(o, stacked)
    log_q, log_smoothed, *log_backed = (
        o.drop(o.cut(everything, i, i + 1, 1), 1) for i in range(2 + len(backed))
    )
    made = [mean(log_q - x) for x in log_backed]
    made.append(mean(o.clip(log_q - log_smoothed, -3.0, 4.0)))

    rising = log_rising(o, o.concat([o.insert(x, 1) for x in [q, *backed]], 1) * BURST, o.insert(count, 1))
    bursts = o.drop(o.sum(rising, 2), 2) / events  # [B, 1 + decays]; rising is 0 where the count is
    made += [o.cut(bursts, 0, 1, 1) - o.cut(bursts, 1 + i, 2 + i, 1) for i in range(len(own))]

    root = o.sqrt(count / events)
    made += [o.sum(root * o.sqrt(n / floor(o, m, 1.0)), 1) for n, m in zip(own, mass, strict=True)]
    present = o.clip(count, 0.0, 1.0)
    kinds = floor(o, o.sum(present, 1), 1.0)
    made += [mean(new), o.sum(present * new, 1) / kinds, -mean(new * log_q)]

    own_log = mean(log_backed[0])
    likelihood = o.sum(logs * o.insert(count, 2), 1)  # [B, 1, U]
    best = o.max(likelihood, 2)
    spread = o.sum(not_own * o.exp((likelihood - best) / TEMPERATURE), 2)
    best_other = o.drop(best + log(o, spread + 1e-9) * TEMPERATURE, 2) / events
    return [*made, best_other - own_log, own_log]


def vector(o: Ops, layout: Layout, population: Population, state: V, session: V, not_own: V) -> list[V]:
    """Cosines of the session's vector to the customer's means and to the others' prototypes."""
    given = unit(o, o.cut(session, layout.words, layout.session, 1))
    cosines = []
    for i in range(len(layout.vector_decays)):
        at = layout.vectors_at + i * layout.width
        cosines.append(o.sum(given * unit(o, o.cut(state, at, at + layout.width, 1)), 1))
    likeness = o.linear(given, population.vectors)  # [B, U]
    pull = o.sum(not_own * o.exp((likeness - 1.0) * VECTOR_SHARPNESS), 1)
    others = log(o, pull + 1e-9) + (1.0 - cosines[0]) * VECTOR_SHARPNESS
    return [*cosines, others, o.max(likeness - (1.0 - not_own) * 2.0, 1)]
