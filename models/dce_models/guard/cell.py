"""The customer's state: the gate, how a session goes in, and what is published. Over a backend, like features."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .features import Population, features, unit
from .layout import Layout
from .ops import Ops, V

Floats = NDArray[np.float32]

HELD = 0.9  # of the quarantine, from session to session
AGREES = (0.5, 0.8)  # cosines to what lies in quarantine at which none and all of it goes in
SCALED_MAX = 5.0  # of a feature, in interquartile ranges


@dataclass
class Head:
    """(x - middle) / range, then a small multilayer perceptron to a logit at the training's share of intrusions."""

    middle: Floats
    inverse_range: Floats
    layers: list[tuple[Floats, Floats]]  # weight [in, out], bias [out]


@dataclass
class Gate:
    """w = clip((closed - p) / (closed - open), 0, 1) of p = sigmoid(logit + shift); 1 as long as the state knows fewer
    than `sessions_min` sessions, falling to that over the next half of them."""

    open_below: float
    closed_above: float
    sessions_min: float
    shift: float = 0.0  # from the head's share of intrusions to the one that both bounds are meant for


@dataclass
class Calibration:
    """The score p = sigmoid(factor · logit + shift), the shift for the share of intrusions that is to be expected."""

    factor: float
    shift: float


def score(o: Ops, calibration: Calibration, z: V) -> V:
    return o.sigmoid(z * calibration.factor + calibration.shift)


def logit(o: Ops, head: Head, x: V) -> V:
    """Features [B, n] to [B, 1]."""
    x = o.clip((x - o.constant(head.middle)) * o.constant(head.inverse_range), -SCALED_MAX, SCALED_MAX)
    for i, (weight, bias) in enumerate(head.layers):
        x = o.linear(x, weight) + o.constant(bias)
        if i + 1 < len(head.layers):
            x = o.tanh(x)
    return x


def gate_of(o: Ops, layout: Layout, gate: Gate, state: V, z: V) -> V:
    """[B, 1] in 0 … 1."""
    p = o.sigmoid(z + gate.shift)
    trusted = o.clip((gate.closed_above - p) * (1.0 / (gate.closed_above - gate.open_below)), 0.0, 1.0)
    sessions = o.cut(state, layout.sessions_at, layout.sessions_at + 1, 1)
    learning = o.clip((1.5 * gate.sessions_min - sessions) * (1.0 / (0.5 * gate.sessions_min)), 0.0, 1.0)
    return trusted + (1.0 - trusted) * learning


def fold(o: Ops, layout: Layout, state: V, session: V, weight: V) -> V:
    """Each sum s with decay λ becomes s (1 - w (1 - λ)) + w x: what is kept out does not make the customer forget.

    With a quarantine, what is kept out goes there, a sum of its own: Q = 0.9 Q + (1 - w) x. A session that goes in
    speaks for what is there as far as it is like it: r = w clip((cos(x, Q) - 0.5) / 0.3, 0, 1) of Q then goes in."""
    counts = o.relu(o.cut(session, 0, layout.words, 1))
    vector = o.cut(session, layout.words, layout.session, 1)
    made = []
    release = None
    added_counts, added_vector, added_sessions = counts * weight, vector * weight, weight
    if layout.quarantine:
        at = layout.quarantine_at
        held_counts = o.cut(state, at, at + layout.words, 1)
        held_vector = o.cut(state, at + layout.words, layout.state, 1)
        likeness = o.sum(unit(o, vector, layout.width) * unit(o, held_vector, layout.width), layout.width)
        release = weight * o.clip((likeness - AGREES[0]) * (1.0 / (AGREES[1] - AGREES[0])), 0.0, 1.0)
        added_counts = added_counts + held_counts * release
        added_vector = added_vector + held_vector * release
    for i, decay in enumerate(layout.decays):
        made.append(faded(o.cut(state, i * layout.words, (i + 1) * layout.words, 1), weight, decay) + added_counts)
    for i, decay in enumerate(layout.vector_decays):
        at = layout.vectors_at + i * layout.width
        made.append(faded(o.cut(state, at, at + layout.width, 1), weight, decay) + added_vector)
    made.append(o.cut(state, layout.sessions_at, layout.sessions_at + 1, 1) + added_sessions)
    if release is not None:
        kept = (1.0 - release) * HELD
        made.append(held_counts * kept + counts * (1.0 - weight))
        made.append(held_vector * kept + vector * (1.0 - weight))
    return o.concat(made, 1)


def faded(x: V, weight: V, decay: float) -> V:
    return x if decay == 1.0 else x * (1.0 - weight * (1.0 - decay))


def step(o: Ops, layout: Layout, population: Population, head: Head, gate: Gate, state: V, session: V) -> tuple[V, V]:
    """state_out [B, H] and gate [B, 1]."""
    weight = gate_of(o, layout, gate, state, logit(o, head, features(o, layout, population, state, session)))
    return fold(o, layout, state, session, weight), weight


def read(o: Ops, layout: Layout, bias: Floats, state: V) -> V:
    """The published embedding [B, width]: the unit vector of the means at both decays, each by its own length, plus a
    small constant that an empty state shows alone."""
    total = o.constant(bias)
    for i in range(len(layout.vector_decays)):
        at = layout.vectors_at + i * layout.width
        total = unit(o, o.cut(state, at, at + layout.width, 1), layout.width) + total
    return unit(o, total, layout.width)
