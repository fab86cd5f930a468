"""What tells a session apart from its customer's own: likelihood ratios between the customer's profile and the others',
novelty, and the distance of its vector. Written once, over a backend (ops): `takeover` and the gate share it.

Notation: a session has c_v events of word v in a column, n in all; the profile (decayed sum of the sessions let in) n_v
of N; p_v is the customer's and q_v the others' probability. All figures are a session's mean over its events, so that
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
KNOWN_MAX = 20.0  # sessions
VECTOR_SHARPNESS = 12.0  # of the cosines to the others' prototypes


@dataclass
class Population:
    """The other customers, U prototypes."""

    shares: Floats  # [U, words] probabilities, each column's words add up to 1
    logs: Floats  # [words, U] their logarithms
    roots: Floats  # [words, U] their square roots over √columns
    vectors: Floats  # [width, U] unit vectors
    everyone: Floats  # [1, words] probabilities over all customers
    strangers: Floats | None = None  # [words, columns] ln(probability in known strangers' sessions / everyone's)

    @property
    def prototypes(self) -> int:
        return len(self.shares)


def floor(o: Ops, x: V, low: float) -> V:
    raised: V = o.relu(x - low) + low
    return raised


def unit(o: Ops, x: V, width: int) -> V:
    return x / o.sqrt(o.sum(x * x, width) + 1e-12)


def names(layout: Layout, strangers: bool = False) -> list[str]:
    """One for each feature, in order."""
    decays = [f"decay {d:g}" for d in layout.decays]
    made = [f"ratio, {d}" for d in decays] + ["ratio, smoothed, clipped"]
    made += [f"burst ratio, {d}" for d in decays] + [f"root overlap, {d}" for d in decays]
    made += ["new", "new kinds", "surprise of the new", "own log likelihood", "best others"]
    made += ["like strangers"] if strangers else []
    named = [f"{c.name}: {what}" for what in made for c in layout.columns]
    named += [f"vector: cosine, decay {d:g}" for d in layout.vector_decays]
    return [*named, "vector: others", "vector: best other", "known", "events"]


def features(o: Ops, layout: Layout, population: Population, state: V, session: V) -> V:
    """state [B, H] before the session, session [B, S] to [B, features]."""
    past = o.relu(o.cut(state, 0, layout.vectors_at, 1))
    profiles = [o.cut(past, i * layout.words, (i + 1) * layout.words, 1) for i in range(len(layout.decays))]
    counts = o.relu(o.cut(session, 0, layout.words, 1))
    not_own = others(o, layout, population, profiles[0])  # [B, U]
    words = column_features(o, layout, population, profiles, counts, not_own)
    vectors = vector_features(o, layout, population, state, session, not_own)
    sessions = o.cut(state, layout.sessions_at, layout.sessions_at + 1, 1)
    known = o.clip(sessions * (1.0 / KNOWN_MAX), 0.0, 1.0)  # beyond, a profile with decays knows no more
    events = o.sum(o.cut(counts, 0, layout.columns[0].end, 1), layout.columns[0].size)
    return o.concat([words, *vectors, known, log(o, events + 1.0)], 1)


def others(o: Ops, layout: Layout, population: Population, profile: V) -> V:
    """1 for each prototype, and 0 for the one that is the customer's own: a head is not told who the customer is, so it
    is the one nearest to the state, by the overlap Σ √(p_v q_v). Continuous, or a last bit would make another state."""
    near = o.linear(o.sqrt(profile / floor(o, o.sum(profile, layout.words), 1e-3)), population.roots)
    near = o.exp((near - o.max(near, 1)) * OWN_SHARPNESS)
    return 1.0 - near / o.sum(near, population.prototypes)


def column_features(o: Ops, layout: Layout, population: Population, profiles: list[V], counts: V, not_own: V) -> V:
    """[B, kinds of feature x columns]. All columns' words stand side by side, `kinds` of them, and are computed with
    together; sums over a column's words are products with a constant of ones and zeros."""
    values, index = [], []
    for c in layout.columns:
        value, at = o.largest(o.cut(counts, c.base, c.end, 1), c.kinds_max)
        values.append(value)
        index.append(at if c.base == 0 else at + o.constant(np.array(c.base, np.int64)))
    count, at = o.concat(values, 1), o.concat(index, 1)  # [B, kinds]
    membership = np.repeat(np.eye(len(layout.columns), dtype=np.float32), [c.kinds_max for c in layout.columns], axis=0)
    own = [o.pick(p, at) for p in profiles]
    masses = [mass(o, layout, p, membership) for p in profiles]
    # everyone's share is added so that few prototypes, all of them masked, leave something
    mixed = o.linear(not_own, population.shares) + o.constant(population.everyone) * 0.01
    q = o.pick(mixed, at) / (o.sum(not_own, population.prototypes) + 0.01)

    backed = [(n + q * BACK_OFF) / (m + BACK_OFF) for n, m in zip(own, masses, strict=True)]
    sizes = membership @ np.array([[SMOOTH * c.size] for c in layout.columns], np.float32)
    smoothed = (own[0] + SMOOTH) / (masses[0] + o.constant(sizes.T.copy()))
    logs = log(o, stack(o, [q, smoothed, *backed]))
    log_q, log_smoothed, *log_backed = unstacked(o, logs, 2 + len(backed))
    rising = log_rising(o, stack(o, [q, *backed]) * BURST, o.insert(count, 1))
    burst_q, *bursts = unstacked(o, rising, 1 + len(backed))  # 0 where the count is
    new = o.relu(1.0 - own[0])
    present = o.clip(count, 0.0, 1.0)
    root = o.sqrt(count)

    each = [count * (log_q - x) for x in log_backed]
    each.append(count * o.clip(log_q - log_smoothed, -3.0, 4.0))
    each += [burst_q - x for x in bursts]
    each += [count * new, -(count * new) * log_q, count * log_backed[0]]  # all of these are means over events
    overlaps = [root * o.sqrt(n / floor(o, m, 1.0)) for n, m in zip(own, masses, strict=True)]
    rest = [*overlaps, present * new, present, count]
    sums = unstacked(o, o.linear(stack(o, [*each, *rest]), membership), len(each) + len(rest))  # each [B, columns]
    *sums, news, kinds, events = sums
    events, kinds = floor(o, events, 1.0), floor(o, kinds, 1.0)
    means = [x / events for x in sums[: len(each)]]
    *means, novelty, surprise, own_log = means
    overlaps = [x / o.sqrt(events) for x in sums[len(each) :]]
    best = best_others(o, layout, population, counts, not_own) / events - own_log
    made = [*means, *overlaps, novelty, news / kinds, surprise, own_log, best]
    if population.strangers is not None:
        made.append(o.linear(counts, population.strangers) / events)
    return o.concat(made, 1)


def mass(o: Ops, layout: Layout, profile: V, membership: Floats) -> V:
    """How much a profile holds of each column, [B, kinds]: for every word its column's."""
    of_words = np.repeat(np.eye(len(layout.columns), dtype=np.float32), [c.size for c in layout.columns], axis=0)
    return o.linear(o.linear(profile, of_words), np.ascontiguousarray(membership.T))


def best_others(o: Ops, layout: Layout, population: Population, counts: V, not_own: V) -> V:
    """[B, columns]: 10 ln Σ_u exp(log likelihood under u / 10) over the prototypes that are not the customer's own."""
    found = []
    for c in layout.columns:
        found.append(o.linear(o.cut(counts, c.base, c.end, 1), population.logs[c.base : c.end]))
    likelihood = stack(o, found)  # [B, columns, U]
    best = o.max(likelihood, 2)
    spread = o.sum(o.exp((likelihood - best) * (1.0 / TEMPERATURE)) * o.insert(not_own, 1), population.prototypes)
    return o.drop(best + log(o, spread + 1e-9) * TEMPERATURE, 2)


def vector_features(o: Ops, layout: Layout, population: Population, state: V, session: V, not_own: V) -> list[V]:
    """Cosines of the session's vector to the customer's means and to the others' prototypes."""
    given = unit(o, o.cut(session, layout.words, layout.session, 1), layout.width)
    cosines = []
    for i in range(len(layout.vector_decays)):
        at = layout.vectors_at + i * layout.width
        own = unit(o, o.cut(state, at, at + layout.width, 1), layout.width)
        cosines.append(o.sum(given * own, layout.width))
    likeness = o.linear(given, population.vectors)  # [B, U]
    pull = o.sum(not_own * o.exp((likeness - 1.0) * VECTOR_SHARPNESS), population.prototypes)
    pulled = log(o, pull + 1e-9) + (1.0 - cosines[0]) * VECTOR_SHARPNESS
    return [*cosines, pulled, o.max(likeness - (1.0 - not_own) * 2.0, 1)]


def stack(o: Ops, parts: list[V]) -> V:
    """[B, n] each to [B, parts, n]."""
    return o.concat([o.insert(x, 1) for x in parts], 1)


def unstacked(o: Ops, x: V, many: int) -> list[V]:
    return [o.drop(o.cut(x, i, i + 1, 1), 1) for i in range(many)]
